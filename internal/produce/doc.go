// Package produce takes a model file to a rewritten model file, the same way for
// every command that rewrites: open and repair, rewrite, write beside the
// target, run original and result on the same inputs, roll back what does not
// agree, record the step in the model, and only then replace the target.
//
// What fuse, quantize and prune add is a [Transform] and the tolerance that the
// result must meet.
package produce
