// Package dataset reads samples for a model: what is calibrated on, validated
// on and measured with.
//
// [Open] understands NumPy arrays (.npz, .npy), folders of images with a table
// of labels, tables (.csv, .tsv, .jsonl), the test data folders of ONNX, and
// generated data. A [Set] is a window on the files: samples are read one at a
// time, in order or at random, so that memory does not grow with their number.
//
// # NumPy files
//
// The reader of .npy and .npz is this package's own. Those published for Go
// decode a whole array into a slice, or a whole archive entry into memory, and
// leave out float16 and Fortran order; a data set needs one row at a time, from
// files that nobody vouches for. Versions 1 to 3 of the format are read, with
// bool, integers, float16/32/64, complex, and byte and Unicode strings, in
// either byte order and either memory order. Structured arrays and Python
// objects are refused. Raw 1- and 2-byte elements ("V1", "V2"), as which NumPy
// stores the float8 and bfloat16 types of other packages, are taken as the
// type that the model's input declares.
//
// # Rows, samples and batches
//
// An array whose rank is that of the model's input is cut along its first axis
// into rows that may be batched again; an array with one rank more holds one
// whole input per sample. An array of rank 0 is the same for every sample.
package dataset
