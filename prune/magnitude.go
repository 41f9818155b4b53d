package prune

import (
	"context"
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// magnitude zeroes the weights of least absolute value. The threshold is exact:
// magnitudes are compared by the bits of their float32 form, which order as the
// numbers do, in two passes over the weights with a histogram of 2^16 bins each,
// so that no weight is held in memory.
type magnitude struct {
	o       Options
	weights []Weight
	done    bool
}

func (p *magnitude) Name() string { return passName }

func (p *magnitude) pruned() []Weight { return p.weights }

// Run prunes every candidate, once.
func (p *magnitude) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	if p.done {
		return nil
	}
	p.done = true
	list := candidates(m, &p.o, passName, e)
	if len(list) == 0 {
		e.Log.Notice("the model has no weights to prune")
		return nil
	}
	groups := [][]candidate{list}
	if p.o.Scope == Layer {
		groups = nil
		for _, c := range list {
			groups = append(groups, []candidate{c})
		}
	}
	for _, g := range groups {
		if err := p.group(ctx, g, e); err != nil {
			return err
		}
	}
	return nil
}

// group prunes weights that are ranked against each other.
func (p *magnitude) group(ctx context.Context, list []candidate, e *rewrite.Env) error {
	var total int64
	for _, c := range list {
		n, _ := c.value.Constant().Elements()
		total += n
	}
	cut, err := findCut(ctx, list, int64(p.o.Sparsity*float64(total)))
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := p.prune(c, &cut, e); err != nil {
			return err
		}
	}
	return nil
}

// replace gives the weight v other content, and returns it. It refers to no file
// of its own any more where such references are written as they are.
func (o *Options) replace(v *onnx.Value, d onnx.Data) *onnx.Tensor {
	t := *v.Constant()
	t.Data = d
	if o.External == onnxfile.ExternalKeep {
		t.External = nil
	}
	if n := v.Producer(); n != nil {
		n.SetAttr(&onnx.Attr{Name: "value", Type: onnx.AttrTensor, T: &t})
	} else {
		v.SetConst(&t)
	}
	return &t
}

func (p *magnitude) prune(c candidate, cut *cut, e *rewrite.Env) error {
	t := c.value.Constant()
	counts, err := count(t, *cut)
	if err != nil {
		return err
	}
	ties := min(counts.equal, cut.ties)
	w := Weight{Name: c.value.Name(), Node: c.node.Name, Op: c.node.Op, Shape: t.Shape, Elements: counts.all,
		Before: counts.zero, After: counts.zero,
		Threshold: float64(math.Float32frombits(cut.bits)), Importance: Magnitude}
	removed := counts.below - counts.zero + ties
	if cut.bits == 0 { // what equals the threshold is zero already
		removed = 0
	}
	if removed > 0 && e.Allow(passName, c.node) {
		site := e.At(passName, c.node)
		p.o.replace(c.value, &masked{src: t.Data, dtype: t.DType, cut: cut.bits, ties: ties})
		cut.ties -= ties
		w.After += removed
		note := fmt.Sprintf("%.1f %% of %q are zero", 100*float64(w.After)/float64(w.Elements), w.Name)
		if err := e.Fired(passName, site, 0, 0, note); err != nil {
			return err
		}
	}
	p.weights = append(p.weights, w)
	return nil
}
