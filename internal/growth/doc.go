// Package growth says how time and memory grow with the size of what they are spent on: it measures commands on models of
// growing size, fits the exponent of growth, and writes it down as tables and a picture. For tests it makes models of
// any number of nodes out of one, and compares what a function allocates for one and for twice as many.
//
// No command imports it.
package growth
