package fuse

import (
	"context"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// hoist moves what is the same in every iteration out of the bodies of Loop and
// Scan (loop-invariant code motion): nodes that read constants and values from
// around the loop only. A loop may run no time at all; what could fail then moves
// only where it is known to run. The branches of an If keep their nodes, since
// one of them does not run.
type hoist struct {
	limit int64 // bytes that results may take beside what the body needs anyway
}

func (hoist) Name() string { return "hoist" }

// Doc says what the pass does.
func (hoist) Doc() string {
	return "moves what is the same in every iteration in front of a Loop or Scan"
}

// Run visits inner loops first: what leaves them may leave the outer ones too.
func (h hoist) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	graphs := m.Graphs()
	slices.Reverse(graphs)
	for _, g := range graphs {
		loop := g.Owner()
		if loop == nil || !loop.Is("Loop") && !loop.Is("Scan") {
			continue
		}
		l := &invariants{loop: loop, body: g, e: e, runs: runsOnce(loop, e)}
		l.room = h.limit + peakOf(e.Facts, g) - l.kept()
		for n := range g.Nodes() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := l.node(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// runsOnce reports whether a loop certainly runs at least once.
func runsOnce(loop *onnx.Node, e *rewrite.Env) bool {
	if loop.Is("Scan") {
		return scansSome(loop, e.Facts)
	}
	if v := loop.Input(0); v != nil {
		trips, ok := knownInts(e.Facts, v)
		if !ok || len(trips) != 1 || trips[0] < 1 {
			return false
		}
	}
	v := loop.Input(1)
	return v == nil || certainlyTrue(v, e)
}

// scansSome reports whether a Scan has an input with at least one slice. Before
// opset 9 there was a batch around it.
func scansSome(scan *onnx.Node, facts *opset.Facts) bool {
	k := int(scan.Int("num_scan_inputs", 0))
	if scan.OpsetVersion("") < 9 || k < 1 || k > len(scan.Inputs()) {
		return false
	}
	axes := scan.Ints("scan_input_axes", make([]int64, k))
	for i, v := range scan.Inputs()[len(scan.Inputs())-k:] {
		s := facts.Shape(v)
		if i >= len(axes) || s == nil {
			continue
		}
		if at, ok := normalAxes(axes[i:i+1], len(s)); ok && s[at[0]].Value >= 1 {
			return true
		}
	}
	return false
}

// invariants moves nodes of one body.
type invariants struct {
	loop *onnx.Node
	body *onnx.Graph
	e    *rewrite.Env
	runs bool  // the loop certainly runs at least once
	room int64 // bytes that may still be kept beside the loop
}

// node moves n if it is the same in every iteration.
func (l *invariants) node(n *onnx.Node) error {
	if n.Is("Constant") || !l.invariant(n) || !pure(n) || !l.gains(n) {
		return nil
	}
	size, why := l.takes(n)
	switch {
	case neverFolded[n.Op]:
		why = "engines look for the quantized form where it is"
	case why == "" && !l.runs && !succeeds(n, l.e.Facts):
		why = "it may fail, and the loop may run no time"
	}
	if why != "" {
		l.e.Decline("hoist", n, "%s", why)
		return nil
	}
	if !l.e.Allow("hoist", n) {
		return nil
	}
	site := l.e.At("hoist", n)
	moved, err := l.move(n)
	if err != nil {
		return err
	}
	l.e.Facts.Infer(moved)
	removed, err := settle(n, moved.Outputs())
	if err != nil {
		return err
	}
	l.room -= size
	return l.e.Fired("hoist", site, removed, 1, fmt.Sprintf("once in front of %v", l.loop))
}

// invariant reports whether all that n reads is constant or from around the loop.
func (l *invariants) invariant(n *onnx.Node) bool {
	for _, v := range n.Inputs() {
		if v != nil && v.Graph() == l.body && (v.Constant() == nil || v.IsOutput() && v.Constant().Size() > hoistFrom) {
			return false
		}
	}
	return !slices.ContainsFunc(n.Captures(), func(v *onnx.Value) bool { return v.Graph() == l.body })
}

// pure reports whether n and what its subgraphs hold are functions of what they
// read, and no attribute is left to the caller of a function.
func pure(n *onnx.Node) bool {
	row := opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain))
	if row == nil || opset.Varies(n) || row.SideEffect() || slices.ContainsFunc(n.Attrs, func(a *onnx.Attr) bool { return a.Ref != "" }) {
		return false
	}
	for _, g := range n.Subgraphs() {
		for inner := range g.Nodes() {
			if !pure(inner) {
				return false
			}
		}
	}
	return true
}

// products are the operators that cost much even where a size is not known.
var products = map[string]bool{"MatMul": true, "Gemm": true, "Conv": true, "ConvTranspose": true}

// gains reports whether the body has less to do without n: where n makes an output
// of the body, an Identity is left of it.
func (l *invariants) gains(n *onnx.Node) bool {
	read := false
	for _, v := range n.Outputs() {
		if v == nil || v.Dead() {
			continue
		}
		read = true
		if v.IsOutput() && l.e.Facts.Cost(n).MACs == 0 && !products[n.Op] {
			return false
		}
	}
	return read
}

// kept returns the bytes of what is computed in front of the loop for it alone, as
// what left it in an earlier round is.
func (l *invariants) kept() int64 {
	var sum int64
	seen := map[*onnx.Value]bool{}
	for _, v := range l.loop.Captures() {
		if seen[v] {
			continue
		}
		seen[v] = true
		alone := v.Producer() != nil && v.Graph() == l.loop.Graph() && !v.IsOutput() && !slices.ContainsFunc(v.Uses(), func(u onnx.Use) bool { return u.Node.Graph() == v.Graph() })
		if size, ok := l.bytes(v); ok && alone {
			sum += size
		}
	}
	return sum
}

// bytes returns the size of v, where it is known.
func (l *invariants) bytes(v *onnx.Value) (int64, bool) {
	dims, ok := l.e.Facts.Shape(v).Static()
	d := l.e.Facts.DType(v)
	if !ok || d.Bits() == 0 {
		return 0, false
	}
	count, ok := onnx.ElementCount(dims)
	if !ok {
		return 0, false
	}
	return d.ByteSize(count)
}

// takes returns the bytes of the results of n, which stay as long as the loop runs,
// or why they must not. Where a size is not known, it may grow no faster than the
// inputs do: as one of them, or with one dimension.
func (l *invariants) takes(n *onnx.Node) (size int64, why string) {
	for _, v := range n.Outputs() {
		if v == nil || v.Dead() {
			continue
		}
		if bytes, ok := l.bytes(v); ok {
			size += bytes
			continue
		}
		s := l.e.Facts.Shape(v)
		if s == nil || l.e.Facts.DType(v).Bits() == 0 || spreading[n.Op] || !l.linear(n, s) {
			return 0, "how much memory its result would take beside the loop is not known"
		}
	}
	if size > l.room {
		return 0, fmt.Sprintf("its result would take %d bytes beside the loop", size)
	}
	return size, ""
}

// linear reports whether a result of shape s has the shape of an input, or at most
// one size that is not known.
func (l *invariants) linear(n *onnx.Node, s onnx.Shape) bool {
	open := 0
	for _, d := range s {
		if !d.Known() {
			open++
		}
	}
	return open <= 1 || slices.ContainsFunc(n.Inputs(), func(v *onnx.Value) bool { return s.Equal(l.e.Facts.Shape(v)) })
}

// move puts a copy of n in front of the loop, with the constants of the body that
// it reads, and returns it.
func (l *invariants) move(n *onnx.Node) (*onnx.Node, error) {
	g := l.loop.Graph()
	in := slices.Clone(n.Inputs())
	for i, v := range in {
		if v == nil || v.Graph() != l.body {
			continue
		}
		c := constBefore(l.loop, v.Constant().Renamed(v.Name()))
		if p := c.Producer(); p != nil {
			l.e.Facts.Infer(p)
		}
		if !v.IsOutput() { // no reader needs another copy of it
			if err := l.body.Replace(v, c); err != nil {
				return nil, err
			}
		}
		for k := i; k < len(in); k++ {
			if in[k] == v {
				in[k] = c
			}
		}
	}
	names := make([]string, len(n.Outputs()))
	for i, v := range n.Outputs() {
		if v != nil {
			names[i] = g.Model().Fresh(v.Name())
		}
	}
	c := onnx.CloneNodeInto(n, in, names, nil)
	g.InsertBefore(c, l.loop)
	for i, v := range n.Outputs() {
		if v != nil {
			c.Output(i).Type = v.Type
		}
	}
	return c, nil
}
