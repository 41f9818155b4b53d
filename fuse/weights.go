package fuse

import (
	"bytes"
	"context"
	"hash/maphash"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// weights merges constants of equal type, shape and content.
type weights struct{}

func (weights) Name() string { return "weights" }

// Doc says what the pass does.
func (weights) Doc() string { return "stores equal constants once" }

// weightKey is what can be compared without reading content.
type weightKey struct {
	dtype onnx.DType
	size  int64
	hash  uint64
}

// Run hashes only constants that share type and size with another, and compares
// in full before it merges.
func (weights) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	for _, g := range m.Graphs() {
		count := map[weightKey]int{}
		for _, v := range g.Initializers() {
			count[weightKey{dtype: v.Const.DType, size: v.Const.Size()}]++
		}
		seed := maphash.MakeSeed()
		first := map[weightKey][]*onnx.Value{}
		for _, v := range slices.Clone(g.Initializers()) {
			if err := ctx.Err(); err != nil {
				return err
			}
			t := v.Constant()
			if t == nil || t.DType == onnx.String || count[weightKey{dtype: t.DType, size: t.Size()}] < 2 || e.Exhausted() {
				continue
			}
			b, err := t.Bytes()
			if err != nil {
				return err
			}
			key := weightKey{t.DType, t.Size(), maphash.Bytes(seed, b)}
			if twin := findTwin(first[key], t, b); twin == nil {
				first[key] = append(first[key], v)
			} else if err := mergeWeight(e, g, v, twin); err != nil {
				return err
			}
		}
	}
	return nil
}

func findTwin(list []*onnx.Value, t *onnx.Tensor, content []byte) *onnx.Value {
	for _, v := range list {
		other, err := v.Const.Bytes()
		if err == nil && slices.Equal(v.Const.Shape, t.Shape) && bytes.Equal(other, content) {
			return v
		}
	}
	return nil
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
