// Package linalg is the linear algebra that choosing weights by their outputs
// takes: what the second moments of a layer's input say about an error of its
// weights. Matrices are float64, dense, by rows. It knows nothing of models.
package linalg
