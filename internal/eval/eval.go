// Package eval computes ONNX operators in plain Go: it folds constants without
// a runtime, and is the oracle of tests.
//
// It aims at being right, not fast. What it does not do — an operator, a
// version of one, an element type, an attribute — it refuses with an
// [UnsupportedError]; it never guesses.
//
// Floats of 32 bits and less are computed in float32 and rounded to their own
// type once per operator, as ONNX Runtime does on a CPU; sums run in float64
// and are rounded once. Integers wrap around in their own width. With
// [Options.Wide] every float is a float64 from the inputs to the outputs.
package eval

import (
	"context"
	"errors"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Options bounds and tunes an evaluation. The zero value is the default.
type Options struct {
	// MaxBytes bounds the memory of the outputs of one node, and in [Graph] of
	// all values alive at one time; 0 means 1 GiB.
	MaxBytes int64
	// MaxWork bounds the multiplications of one node; what takes more is an
	// [UnsupportedError]. 0 means 2^34, which takes about half a minute.
	MaxWork int64
	// MaxSteps bounds how many nodes [Graph] runs, bodies of loops counted each
	// time; 0 means ten million.
	MaxSteps int64
	// Wide computes floats of every width in float64 and rounds to the declared
	// type only where a Cast or a quantization asks for it and in the results.
	Wide bool
}

const (
	defaultMaxBytes = 1 << 30
	defaultMaxWork  = 1 << 34
	defaultMaxSteps = 10_000_000
	maxDepth        = 64 // nesting of bodies and function calls
)

// UnsupportedError says that this package does not compute a node.
type UnsupportedError struct {
	Op  string // the operator, with its domain where that is not the standard one
	Why string
}

func (e *UnsupportedError) Error() string { return e.Op + " cannot be evaluated: " + e.Why }

// Node computes the outputs of n. version is the opset version of n's domain;
// inputs are in n's order, nil where omitted. The result has one tensor per
// output of n, nil where n omits it; tensors are named like the outputs. The
// error is an [*UnsupportedError] where n is beyond this package.
func Node(n *onnx.Node, version int64, inputs []*onnx.Tensor, o Options) ([]*onnx.Tensor, error) {
	r := newRun(o)
	r.ctx = context.Background()
	in := make([]*array, len(inputs))
	for i, t := range inputs {
		if t == nil {
			continue
		}
		a, err := fromTensor(t, r.wide)
		if err != nil {
			return nil, fmt.Errorf("%v: input %d: %w", n, i, err)
		}
		in[i] = a
	}
	c := &call{n: n, version: version, in: in, r: r}
	values, err := c.run()
	if err != nil {
		return nil, err
	}
	out := make([]*onnx.Tensor, len(n.Outputs()))
	for i, v := range n.Outputs() {
		if v == nil || i >= len(values) || values[i] == nil {
			continue
		}
		if out[i], err = values[i].tensor(v.Name()); err != nil {
			return nil, fmt.Errorf("%v: output %d: %w", n, i, err)
		}
	}
	return out, nil
}

// run is the state of one evaluation.
type run struct {
	ctx      context.Context
	maxBytes int64
	maxWork  int64
	steps    int64 // nodes that may still run
	live     int64 // bytes of the values of all scopes
	wide     bool
}

func newRun(o Options) *run {
	r := &run{maxBytes: o.MaxBytes, steps: o.MaxSteps, wide: o.Wide}
	if r.maxBytes <= 0 {
		r.maxBytes = defaultMaxBytes
	}
	if r.maxWork = o.MaxWork; r.maxWork <= 0 {
		r.maxWork = defaultMaxWork
	}
	if r.steps <= 0 {
		r.steps = defaultMaxSteps
	}
	return r
}

// call is one node being computed.
type call struct {
	n       *onnx.Node
	version int64
	in      []*array // nil where omitted
	r       *run
	made    int64  // bytes of the outputs so far
	scope   *scope // nil outside a graph
}

// failure carries an error from an operator to [call.run].
type failure struct{ err error }

// run computes the node. Operators report errors by [call.fail] and its like.
func (c *call) run() (out []*array, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, c.recovered(p)
		}
	}()
	if c.scope != nil {
		if f := c.scope.m.FindFunction(c.n); f != nil {
			return c.function(f), nil
		}
	}
	op := c.lookup()
	c.checkAttrs(op)
	return op.do(c), nil
}

// recovered turns what an operator panicked with into an error. A panic of the
// runtime is a bug of this package; the caller gets an error, since models are
// not trusted.
func (c *call) recovered(p any) error {
	f, ok := p.(failure)
	if !ok {
		return fmt.Errorf("%v: internal error: %v", c.n, p)
	}
	var u *UnsupportedError
	if errors.As(f.err, &u) {
		return f.err
	}
	return fmt.Errorf("%v: %w", c.n, f.err)
}

// fail ends the computation of the node with an error.
func (c *call) fail(format string, args ...any) {
	panic(failure{fmt.Errorf(format, args...)})
}

// unsupported ends the computation of the node with an [UnsupportedError].
func (c *call) unsupported(format string, args ...any) {
	panic(failure{&UnsupportedError{opName(c.n), fmt.Sprintf(format, args...)}})
}

func opName(n *onnx.Node) string {
	if d := onnx.NormalDomain(n.Domain); d != "" {
		return d + "." + n.Op
	}
	return n.Op
}
