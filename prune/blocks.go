package prune

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// blocksPass is how logs and --disable call the removal of residual blocks.
const blocksPass = "layers"

// block is a residual block: sum = skip + what is computed from skip. Without it
// the sum's readers read skip.
type block struct {
	sum  *onnx.Node
	skip int // the input of sum that is handed on
}

// noiseOf is the inverse of [trial.Decibels].
func noiseOf(db float64) float64 { return math.Pow(10, -db/10) }

// residualBlocks finds the sums one of whose operands is computed from the other
// and that the operand can take the place of.
func residualBlocks(m *onnx.Model, f *opset.Facts) []block {
	var out []block
	order := map[*onnx.Node]int{}
	for n := range m.Graph.Nodes() {
		order[n] = len(order)
	}
	for n := range m.Graph.Nodes() {
		if !n.Is("Add") && !n.Is("Sum") || len(n.Inputs()) != 2 || n.Output(0).IsOutput() {
			continue
		}
		for i := range 2 {
			skip, other := n.Input(i), n.Input(1-i)
			if skip.Constant() == nil && sameType(f, skip, n.Output(0)) && dependsOn(other, skip, order) {
				out = append(out, block{n, i})
				break
			}
		}
	}
	return out
}

func sameType(f *opset.Facts, a, b *onnx.Value) bool {
	x, y := f.Shape(a), f.Shape(b)
	if len(x) != len(y) || x == nil || f.DType(a) != f.DType(b) {
		return false
	}
	for i := range x {
		if !x[i].Same(y[i]) {
			return false
		}
	}
	return true
}

// dependsOn reports whether v is computed from w, by weights on the way: a sum
// without any is no block.
func dependsOn(v, w *onnx.Value, order map[*onnx.Node]int) bool {
	least := -1
	if p := w.Producer(); p != nil {
		least = order[p]
	}
	seen := map[*onnx.Node]bool{}
	found, heavy := false, false
	todo := []*onnx.Node{v.Producer()}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n == nil || seen[n] || order[n] <= least {
			continue
		}
		seen[n] = true
		heavy = heavy || computes(n)
		for _, in := range n.Inputs() {
			if in == w {
				found = true
			} else if in != nil {
				todo = append(todo, in.Producer())
			}
		}
	}
	return found && heavy
}

// layered removes the residual blocks whose removal changes the outputs least.
type layered struct {
	o      *StructureOptions
	result *Structure
	held   *trial.Held
	order  []string           // sums of blocks to remove, by key
	noise  map[string]float64 // of the outputs, when that block went
	total  int
	done   bool
}

func (p *layered) Name() string { return blocksPass }

// Run removes the blocks that rank chose.
func (p *layered) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	if p.done {
		return nil
	}
	p.done = true
	f, err := opset.Infer(m, opset.Options{Dims: p.o.Dims, ReadOnly: true})
	if err != nil {
		return err
	}
	if p.order == nil {
		if err := p.rank(ctx, m, f); err != nil {
			return err
		}
	}
	cost, err := costs(m, p.o.Dims)
	if err != nil {
		return err
	}
	p.result = &Structure{Before: totals(m, cost), Pattern: string(Layers)}
	for _, b := range residualBlocks(m, f) {
		key := nodeKey(b.sum)
		at := slices.Index(p.order, key)
		g := StructureGroup{Name: nodeName(b.sum), Op: b.sum.Op, Kind: "block", Units: 1}
		if at >= 0 && e.Allow(blocksPass, b.sum) {
			site := e.At(blocksPass, b.sum)
			before := m.Graph.Len()
			if err := b.remove(m); err != nil {
				return err
			}
			g.Removed, g.Importance = 1, p.noise[key]
			note := fmt.Sprintf("block %d of %d: the outputs lose %.3g of their power", at+1, p.total, p.noise[key])
			if err := e.Fired(blocksPass, site, before-m.Graph.Len(), 0, note); err != nil {
				return err
			}
		}
		p.result.Groups = append(p.result.Groups, g)
	}
	return p.result.after(m, p.o.Dims)
}

// remove lets the readers of the sum read what it was added to.
func (b block) remove(m *onnx.Model) error {
	if err := m.Graph.Replace(b.sum.Output(0), b.sum.Input(b.skip)); err != nil {
		return err
	}
	m.Graph.Sweep()
	return nil
}

// rank removes one block after the other, each time the one without which the
// outputs are nearest to the original's.
func (p *layered) rank(ctx context.Context, m *onnx.Model, f *opset.Facts) error {
	if p.o.Data == nil {
		return errors.New("removing layers looks at what the outputs lose; give it data, with --data")
	}
	var err error
	if p.held, err = trial.New(ctx, m, *p.o.Data); err != nil {
		return err
	}
	all := residualBlocks(m, f)
	p.total, p.noise = len(all), map[string]float64{}
	if len(all) == 0 {
		return errors.New("the model has no residual block that could be left out")
	}
	goal := int(math.Round(p.o.Sparsity * float64(len(all))))
	for len(p.order) < goal {
		best, least := "", math.Inf(1)
		for _, b := range all {
			key := nodeKey(b.sum)
			if slices.Contains(p.order, key) {
				continue
			}
			s, err := p.try(ctx, m, append(slices.Clone(p.order), key))
			if err != nil {
				return err
			}
			if n := noiseOf(s.DB); n < least {
				best, least = key, n
			}
		}
		if best == "" {
			break
		}
		p.order = append(p.order, best)
		p.noise[best] = least
	}
	if p.order == nil {
		p.order = []string{}
	}
	return nil
}

// try scores a copy without some blocks.
func (p *layered) try(ctx context.Context, m *onnx.Model, keys []string) (trial.Score, error) {
	c := m.Clone()
	f, err := opset.Infer(c, opset.Options{Dims: p.o.Dims, ReadOnly: true})
	if err != nil {
		return trial.Score{}, err
	}
	for _, b := range residualBlocks(c, f) {
		if slices.Contains(keys, nodeKey(b.sum)) {
			if err := c.Graph.Replace(b.sum.Output(0), b.sum.Input(b.skip)); err != nil {
				return trial.Score{}, err
			}
		}
	}
	c.Graph.Sweep()
	return p.held.Score(ctx, c)
}
