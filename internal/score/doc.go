// Package score compares two models on the same samples: paired accuracy with intervals that stay right when few outcomes
// differ, the list of outcomes that flipped, the distance between output distributions, and calibration.
//
// Scorers are streaming: Add takes one sample's outputs of both models, Result gives the numbers. What they keep does not
// grow with samples times classes, only with classes, slices and the (bounded) lists of flips. Values that are NaN or +Inf are
// counted and reported; they enter no average, and a prediction made of them is wrong. Scores of equal height are ranked by
// index, so that results do not depend on the order of evaluation.
package score
