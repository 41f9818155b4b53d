// Package calibrate measures a model's activations on data, and finds from that
// the ranges in which to quantize them.
//
// [Measure] runs a probed copy of the model. What it keeps of each tensor is a
// [Stats] of a few KiB, however much data there is: the activations of one run
// are looked at and forgotten, and where even those of one run are too much the
// tensors are measured in groups, each in a pass of its own over the data. A
// [Method] turns statistics into a [Range]; all methods read the same statistics.
package calibrate
