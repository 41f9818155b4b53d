package fuse

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// unroll writes out loops that run a known, small number of times.
type unroll struct {
	most int64 // iterations; 0: no loop
}

// mostUnrolled is how many nodes an unrolled loop may become.
const mostUnrolled = 20_000

func (unroll) Name() string { return "unroll" }

// Doc says what the pass does.
func (unroll) Doc() string {
	return "writes out Loop that runs a constant number of times, on request"
}

// Run unrolls outer loops first.
func (u unroll) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	for _, g := range m.Graphs() {
		if !attached(g) {
			continue
		}
		for n := range g.Nodes() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if n.Is("Loop") {
				if err := u.loop(n, e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (u unroll) loop(n *onnx.Node, e *rewrite.Env) error {
	if u.most <= 0 {
		e.Decline("unroll", n, "loops stay loops (ask for --unroll N)")
		return nil
	}
	trips, why := tripCount(n, e)
	if why == "" && trips > u.most {
		why = fmt.Sprintf("it runs %d times, more than %d", trips, u.most)
	}
	if why != "" {
		e.Decline("unroll", n, "%s", why)
		return nil
	}
	body := n.Attr("body").G // is there, or the number of its runs would not be known
	if trips*int64(body.Len()) > mostUnrolled {
		e.Decline("unroll", n, "the written-out loop would be too large")
		return nil
	}
	if !e.Allow("unroll", n) {
		return nil
	}
	site := e.At("unroll", n)
	removed, err := settle(n, unrolled(n, body, trips))
	if err != nil {
		return err
	}
	return e.Fired("unroll", site, removed, int(trips)*body.Len(), fmt.Sprintf("%d iterations", trips))
}

// tripCount returns how often a Loop certainly runs, or why that is not known.
func tripCount(n *onnx.Node, e *rewrite.Env) (int64, string) {
	a := n.Attr("body")
	switch {
	case a == nil || a.G == nil || len(a.G.SparseInitializers()) > 0:
		return 0, "its body is missing or has sparse constants"
	case len(n.Inputs()) < 2 || n.Input(0) == nil:
		return 0, "the number of iterations is not given"
	}
	trips, ok := knownInts(e.Facts, n.Input(0))
	if !ok || len(trips) != 1 {
		return 0, "the number of iterations is not constant"
	}
	if c := n.Input(1); c != nil && !certainlyTrue(c, e) {
		return 0, "it may not start"
	}
	carried := len(n.Inputs()) - 2
	if len(a.G.Inputs()) != 2+carried || len(a.G.Outputs()) != len(n.Outputs())+1 || len(n.Outputs()) < carried {
		return 0, "its body does not fit it"
	}
	if !goesOn(a.G, e) {
		return 0, "it may stop early"
	}
	if len(n.Outputs()) > carried && trips[0] <= 0 {
		return 0, "it never runs, and the type of what it would gather is not known"
	}
	return max(trips[0], 0), ""
}

func certainlyTrue(v *onnx.Value, e *rewrite.Env) bool {
	x, ok := e.Facts.Ints(v)
	return ok && len(x) == 1 && x[0].Known && x[0].Value != 0
}

// goesOn reports whether the condition that a loop's body gives is always true,
// or the one that it got.
func goesOn(body *onnx.Graph, e *rewrite.Env) bool {
	v := body.Outputs()[0]
	for v.Producer().Is("Identity") {
		v = v.Producer().Input(0)
	}
	return v == body.Inputs()[1] || certainlyTrue(v, e)
}

// unrolled writes out the iterations in front of n and returns what its outputs are.
func unrolled(n *onnx.Node, body *onnx.Graph, trips int64) []*onnx.Value {
	state := append([]*onnx.Value(nil), n.Inputs()[2:]...)
	carried := len(state)
	gathered := make([][]*onnx.Value, len(n.Outputs())-carried)
	yes, _ := onnx.FromFloat64s("go_on", onnx.Bool, []int64{}, []float64{1}) // one element of a fixed type always fits
	for i := range trips {
		args := []*onnx.Value{
			constBefore(n, onnx.FromInts("iteration", []int64{}, []int64{i})),
			constBefore(n, yes),
		}
		out := splice(n, body, append(args, state...), nil)
		copy(state, out[1:1+carried])
		for k := range gathered {
			gathered[k] = append(gathered[k], out[1+carried+k])
		}
	}
	for _, parts := range gathered {
		state = append(state, stack(n, parts))
	}
	return state
}

// stack puts values side by side along a new first axis, in front of at.
func stack(at *onnx.Node, parts []*onnx.Value) *onnx.Value {
	g := at.Graph()
	rows := make([]*onnx.Value, len(parts))
	var axes *onnx.Value
	for i, v := range parts {
		u := onnx.NewNode("Unsqueeze", []*onnx.Value{v}, g.Model().Fresh(v.Name()+"_row"))
		if at.OpsetVersion("") < 13 {
			u.Attrs = []*onnx.Attr{onnx.IntsAttr("axes", 0)}
		} else {
			if axes == nil {
				axes = constBefore(at, onnx.FromInts("axes", []int64{1}, []int64{0}))
			}
			u.SetInput(1, axes)
		}
		g.InsertBefore(u, at)
		rows[i] = u.Output(0)
	}
	c := onnx.NewNode("Concat", rows, g.Model().Fresh(parts[0].Name()+"_rows"))
	c.Attrs = []*onnx.Attr{onnx.IntAttr("axis", 0)}
	g.InsertBefore(c, at)
	return c.Output(0)
}
