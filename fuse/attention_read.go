package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// checkCache leaves the cache to others where the mask is computed from what it
// grows to, which the operator would give only after it has read the mask.
func (b *attnBlock) checkCache() error {
	if b.k.past == nil {
		return nil
	}
	goal := map[*onnx.Value]bool{b.k.x: true, b.v.x: true}
	for _, v := range b.mask.inputs() {
		if computedFrom(v, goal, 4096) {
			if b.mask.causal {
				return rewrite.Decline("the mask is computed from keys and values of past and present")
			}
			b.k.past, b.v.past = nil, nil
			return nil
		}
	}
	return nil
}

// computedFrom reports whether v may be computed from one of goal, looking at so
// many nodes at most.
func computedFrom(v *onnx.Value, goal map[*onnx.Value]bool, most int) bool {
	seen := map[*onnx.Node]bool{}
	for open := []*onnx.Value{v}; len(open) > 0; {
		v := open[len(open)-1]
		open = open[:len(open)-1]
		if goal[v] {
			return true
		}
		n := v.Producer()
		if n == nil || seen[n] {
			continue
		}
		if seen[n] = true; len(seen) > most {
			return true
		}
		for _, in := range append(n.Captures(), n.Inputs()...) {
			if in != nil {
				open = append(open, in)
			}
		}
	}
	return false
}

// readElsewhere finds the value in between that others read: the operator can
// give one of them, if it is one that it has.
func (b *attnBlock) readElsewhere() error {
	b.nameStages()
	for _, p := range b.passed {
		if !b.leaks(p.v) || p.v == b.asked {
			continue
		}
		if b.asked != nil {
			return rewrite.Decline("both %q and %q, scores or weights, are read elsewhere", b.asked.Name(), p.v.Name())
		}
		if p.stage == unnamedScores || b.facts.DType(p.v) != b.elem {
			return rewrite.Decline("the scores %q are read elsewhere", p.v.Name())
		}
		b.asked, b.mode = p.v, int64(p.stage)
	}
	return nil
}

// leaks reports whether v is read outside the block.
func (b *attnBlock) leaks(v *onnx.Value) bool {
	if v.IsOutput() {
		return true
	}
	for _, u := range v.Uses() {
		if !b.inner[u.Node] && !b.readsType(u) && !b.readsShape(u.Node) {
			return true
		}
	}
	return false
}

// readsShape reports whether n asks for the shape of scores only, and notes it:
// the sizes are known without them.
func (b *attnBlock) readsShape(n *onnx.Node) bool {
	if !n.Is("Shape") || len(n.Attrs) > 0 || len(b.facts.Shape(n.Input(0))) != 4 || n.Output(0).IsOutput() {
		return false
	}
	if !slices.Contains(b.shapes, n) {
		b.shapes = append(b.shapes, n)
	}
	return true
}

// swapShapes lets the sizes of scores come from query and keys.
func (b *attnBlock) swapShapes(p *rewrite.Patch) {
	for _, n := range b.shapes {
		size := func(h headsAt, axis int) *onnx.Value { return b.size(p, h, axis) }
		cols := size(b.k.fresh(), 2)
		if b.k.past != nil {
			cols = p.Add("Add", []*onnx.Value{size(*b.k.past, 2), cols})
		}
		parts := []*onnx.Value{size(b.q.headsAt, 0), size(b.q.headsAt, 1), size(b.q.headsAt, 2), cols}
		p.Swap(n.Output(0), p.Add("Concat", parts, onnx.IntAttr("axis", 0)))
	}
}

// size proposes the size of h along an axis of [batch, heads, length, width], read
// from the first value that is known to have it: products and what takes them
// apart need not stay for it.
func (b *attnBlock) size(p *rewrite.Patch, h headsAt, axis int) *onnx.Value {
	from, at := h.x, int(h.how[axis])
	d := b.facts.Shape(from)[at]
	for v, steps := from, 0; opset.Named(d) && steps < 8; steps++ {
		n := v.Producer()
		if n == nil || n.Graph() != b.context.Graph() || !n.Is("Reshape") && !n.Is("Transpose") && !n.Is("Split") && !n.Is("MatMul") && !n.Is("Add") {
			break
		}
		i := slices.IndexFunc(n.Inputs(), func(x *onnx.Value) bool { return x != nil && x.Constant() == nil })
		if i < 0 {
			break
		}
		v = n.Input(i)
		if k := slices.IndexFunc(b.facts.Shape(v), d.Same); k >= 0 {
			from, at = v, k
		}
	}
	return axisSize(p, b.version, from, int64(at))
}

// readsType reports whether u takes only the type of a value, for the block.
func (b *attnBlock) readsType(u onnx.Use) bool {
	if !u.Node.Is("CastLike") || u.Index != 1 {
		return false
	}
	for _, r := range u.Node.Output(0).Uses() {
		if !b.inner[r.Node] {
			return false
		}
	}
	return true
}

// nameStages gives the scores the stage that the operator has for them, from the
// product on, now that all of the block is known.
func (b *attnBlock) nameStages() {
	factor, capped, masks := b.inputScale, false, 0
	for i := len(b.passed) - 1; i >= 0; i-- {
		p := &b.passed[i]
		n := p.v.Producer()
		if p.stage == softWeights {
			if b.guarded && n.Is("Softmax") {
				p.stage = unnamedScores
			}
			continue
		}
		switch n.Op {
		case "Mul", "Div":
			_, f, _ := scaledByNumber(b.facts, n)
			factor *= f
		case "Tanh":
			capped, factor = true, 1
		case "Add", "Where":
			masks++
		}
		p.stage = b.stageOf(factor, capped, masks)
	}
}

// stageOf names scores that are multiplied by factor, since the softcap if
// capped, and have so many masks.
func (b *attnBlock) stageOf(factor float64, capped bool, masks int) scoreStage {
	switch {
	case masks > 0 && masks == len(b.terms):
		return maskedScores
	case masks > 0:
		return unnamedScores
	case capped && closeTo(factor, b.softcap, b.elem):
		return cappedScores
	case !capped && closeTo(factor, b.scale, b.elem):
		return scaledScores
	}
	return unnamedScores
}
