package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// Formula is the work of nodes as expressions over the symbols of the model, in
// the canonical form of [Facts]. The zero value is no work.
type Formula struct {
	sum     formula
	missing bool
}

// Formula returns the work of n, without that of its subgraph bodies, over the
// symbols that are not fixed.
func (f *Facts) Formula(n *onnx.Node) Formula {
	c := f.costing(n, true)
	return Formula{sum: c.cost, missing: c.unknown}
}

// Add adds the work of runs times g.
func (a *Formula) Add(g Formula, runs int64) {
	a.missing = a.missing || g.missing
	a.sum.MACs, a.sum.FLOPs = grown(a.sum.MACs, g.sum.MACs, runs), grown(a.sum.FLOPs, g.sum.FLOPs, runs)
	a.sum.BytesRead, a.sum.BytesWrite = grown(a.sum.BytesRead, g.sum.BytesRead, runs), grown(a.sum.BytesWrite, g.sum.BytesWrite, runs)
	a.missing = a.missing || a.sum.MACs == nil || a.sum.FLOPs == nil || a.sum.BytesRead == nil || a.sum.BytesWrite == nil
	if a.missing {
		a.sum = formula{}
	}
}

func grown(sum, e *expr, runs int64) *expr { return add(orZero(sum), mul(orZero(e), constant(runs))) }

// Texts returns the four formulas; false where a part is not known, depends on
// data, or grew too long.
func (a Formula) Texts() (macs, flops, read, written string, ok bool) {
	for _, e := range []*expr{a.sum.MACs, a.sum.FLOPs, a.sum.BytesRead, a.sum.BytesWrite} {
		if orZero(e).fresh() > 0 {
			return "", "", "", "", false
		}
	}
	text := func(e *expr) string { return orZero(e).String() }
	return text(a.sum.MACs), text(a.sum.FLOPs), text(a.sum.BytesRead), text(a.sum.BytesWrite), !a.missing
}
