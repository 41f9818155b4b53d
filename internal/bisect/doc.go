// Package bisect finds what makes a model wrong.
//
// [Rewrites] finds the first wrong rewrite of a transform, by running the model
// after so many of them. [Against] finds the first node at which two models that
// should be equal differ, with the reference value put back after each node.
// [Model] finds the node for which a model does not load or run. What they find
// can be made small by a [Case]: fewer nodes, with the recorded values as inputs.
//
// The idea of reducing by halves until no part can be left out is A. Zeller and
// R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002.
package bisect
