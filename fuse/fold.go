package fuse

import (
	"context"
	"errors"

	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Large computes one node whose inputs are all constant by the runtime, for
// operators or sizes beyond the interpreter.
type Large func(ctx context.Context, n *onnx.Node, version int64, inputs []*onnx.Tensor) ([]*onnx.Tensor, error)

// fold computes what depends on constants only, and shapes that are known.
type fold struct {
	limit int64 // bytes by which one folded node may grow the model
	large Large // nil: leave alone what the interpreter cannot do
}

func (fold) Name() string { return "fold" }

// Doc says what the pass does.
func (fold) Doc() string { return "computes what depends on constants and known shapes only" }

// Run folds in execution order, so that one pass folds whole chains.
func (f fold) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f.node(ctx, n, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f fold) node(ctx context.Context, n *onnx.Node, e *rewrite.Env) error {
	if n.Is("Constant") || n.Graph() == nil || !worthFolding(n) {
		return nil
	}
	out := fromFacts(n, e.Facts)
	if out == nil {
		out = f.unit(ctx, n)
	}
	if out == nil {
		inputs, ok := constantInputs(n)
		if !ok {
			return nil
		}
		if why := f.refuse(n, e.Facts, inputs); why != "" {
			e.Decline("fold", n, "%s", why)
			return nil
		}
		var err error
		if out, err = f.compute(ctx, n, inputs); err != nil {
			e.Decline("fold", n, "%v", err)
			return nil
		}
	}
	if !e.Allow("fold", n) {
		return nil
	}
	return replaceByConst(e, "fold", n, out)
}

// worthFolding reports whether n has outputs that are read and no subgraphs.
func worthFolding(n *onnx.Node) bool {
	if len(n.Subgraphs()) > 0 {
		return false
	}
	for _, v := range n.Outputs() {
		if v != nil && !v.Dead() {
			return true
		}
	}
	return false
}

// fromFacts returns the output of n where propagation knows every element of
// it, as it does for Shape of a static shape and what is computed from it.
func fromFacts(n *onnx.Node, facts *opset.Facts) []*onnx.Tensor {
	if len(n.Outputs()) != 1 {
		return nil
	}
	v := n.Output(0)
	dims, static := facts.Shape(v).Static()
	ints, ok := facts.Ints(v)
	if !static || !ok || facts.DType(v) == onnx.Undefined {
		return nil
	}
	values := make([]float64, len(ints))
	for i, x := range ints {
		if !x.Known || x.Value > 1<<53 || x.Value < -(1<<53) {
			return nil
		}
		values[i] = float64(x.Value)
	}
	t, err := onnx.FromFloat64s(v.Name(), facts.DType(v), dims, values)
	if err != nil {
		return nil
	}
	return []*onnx.Tensor{t}
}

func constantInputs(n *onnx.Node) ([]*onnx.Tensor, bool) {
	in := make([]*onnx.Tensor, len(n.Inputs()))
	for i, v := range n.Inputs() {
		if v == nil {
			continue
		}
		if in[i] = v.Constant(); in[i] == nil {
			return nil, false
		}
	}
	return in, true
}

// neverFolded are operators that engines treat specially when they are left in
// place: a constant behind DequantizeLinear is a quantized weight.
var neverFolded = map[string]bool{"QuantizeLinear": true, "DequantizeLinear": true, "DynamicQuantizeLinear": true}

// spreading are operators that repeat little content many times, which costs
// less at run time than storing the result; what broadcasts needs no such
// result at all (expand-broadcast).
var spreading = map[string]bool{"ConstantOfShape": true, "Expand": true, "Tile": true}

// spreadLimit is the growth, in bytes, up to which they are folded all the same.
const spreadLimit = 64 << 10

// refuse returns why n must not be folded, "" if it may.
func (f fold) refuse(n *onnx.Node, facts *opset.Facts, inputs []*onnx.Tensor) string {
	row := opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain))
	switch {
	case row == nil:
		return "the operator is not known"
	case opset.Varies(n) || row.SideEffect():
		return "the operator is not a function of its inputs"
	case neverFolded[n.Op] && !storesQuantized(n):
		return "the quantized form of the constant is kept"
	}
	var grown, freed int64
	for i, v := range n.Inputs() {
		if v != nil && v.Const != nil && len(v.Uses()) == 1 {
			freed += inputs[i].Size()
		}
	}
	for _, v := range n.Outputs() {
		if v == nil || v.Dead() {
			continue
		}
		dims, ok := facts.Shape(v).Static()
		if !ok {
			return "the size of the result is not known"
		}
		count, _ := onnx.ElementCount(dims)
		size, _ := facts.DType(v).ByteSize(count)
		grown += size
	}
	limit := f.limit
	if spreading[n.Op] {
		limit = min(limit, spreadLimit)
	}
	if grown-freed > limit {
		return "the result would grow the model beyond the limit for folding"
	}
	return ""
}

// interpreterWork is the number of multiplications up to which a node is left
// to the interpreter: a fraction of a second.
const interpreterWork = 1 << 26

// compute runs n by the interpreter, else by the runtime.
func (f fold) compute(ctx context.Context, n *onnx.Node, inputs []*onnx.Tensor) ([]*onnx.Tensor, error) {
	version := n.OpsetVersion(n.Domain)
	out, err := eval.Node(n, version, inputs, eval.Options{MaxBytes: 64 << 20, MaxWork: interpreterWork})
	var unsupported *eval.UnsupportedError
	if err != nil && f.large != nil && errors.As(err, &unsupported) {
		return f.large(ctx, n, version, inputs)
	}
	return out, err
}
