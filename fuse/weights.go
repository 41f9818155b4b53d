package fuse

import (
	"context"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// weights merges constants of equal type, shape and content.
type weights struct {
	prints *prints
}

func (weights) Name() string { return "weights" }

// Doc says what the pass does.
func (weights) Doc() string { return "stores equal constants once" }

// weightKey is what is compared first: what is known without reading content,
// and a fingerprint of parts of it.
type weightKey struct {
	dtype onnx.DType
	size  int64
	print uint64
}

// Run reads parts only of constants that share type and size with another, and
// the whole only of those whose parts agree.
func (p weights) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	for _, g := range m.Graphs() {
		count := map[weightKey]int{}
		for _, v := range g.Initializers() {
			count[weightKey{dtype: v.Const.DType, size: v.Const.Size()}]++
		}
		first := map[weightKey][]*onnx.Value{}
		for _, v := range slices.Clone(g.Initializers()) {
			if err := ctx.Err(); err != nil {
				return err
			}
			t := v.Constant()
			if t == nil || t.DType == onnx.String || t.Data == nil || count[weightKey{dtype: t.DType, size: t.Size()}] < 2 || e.Exhausted() {
				continue
			}
			print, err := p.prints.of(t, sampled)
			if err != nil {
				return err
			}
			key := weightKey{t.DType, t.Size(), print}
			twin, err := p.twin(first[key], t)
			if err != nil {
				return err
			}
			if twin == nil {
				first[key] = append(first[key], v)
			} else if err := mergeWeight(e, g, v, twin); err != nil {
				return err
			}
		}
	}
	return nil
}

// twin returns the value of list that holds what t does, nil if none.
func (p weights) twin(list []*onnx.Value, t *onnx.Tensor) (*onnx.Value, error) {
	for _, v := range list {
		if !slices.Equal(v.Const.Shape, t.Shape) {
			continue
		}
		if same, err := p.prints.equal(v.Const, t); err != nil || same {
			return v, err
		}
	}
	return nil, nil
}

// mergeWeight makes the readers of v read twin; a constant that is a graph
// output keeps its own copy.
func mergeWeight(e *rewrite.Env, g *onnx.Graph, v, twin *onnx.Value) error {
	if v.IsOutput() || len(v.Uses()) == 0 {
		return nil
	}
	reader := v.Uses()[0].Node
	name := v.Name()
	if !e.Allow("weights", reader, name) {
		return nil
	}
	site := e.At("weights", reader, name)
	if err := g.Replace(v, twin); err != nil {
		return err
	}
	return e.Fired("weights", site, 0, 0, name+" is "+twin.Name())
}
