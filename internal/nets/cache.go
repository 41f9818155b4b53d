package nets

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// cache is the keys and values [batch, kv heads, past, dim] of earlier tokens:
// inputs of the network, and with the new tokens its outputs. A nil cache is none.
type cache struct {
	heads  heads
	layers [][2]*onnx.Value // keys and values
}

// addCache adds the inputs.
func (b *builder) addCache(layers int64, h heads) *cache {
	b.o.Seq = 0 // keys are longer than queries
	c := &cache{heads: h}
	shape := append(b.dims(anyBatch, h.kv), onnx.Symbol("past"), onnx.Fixed(h.dim))
	for i := range layers {
		var kv [2]*onnx.Value
		for j, part := range []string{"key", "value"} {
			kv[j] = b.m.Graph.AddInput(fmt.Sprintf("past_key_values.%d.%s", i, part), onnx.TensorType(b.o.DType, shape))
		}
		c.layers = append(c.layers, kv)
	}
	return c
}

// extend appends the keys and values of a layer's new tokens to the earlier ones.
func (c *cache) extend(b *builder, layer int64, k, v *onnx.Value) (keys, values *onnx.Value) {
	if c == nil {
		return k, v
	}
	kv := &c.layers[layer]
	kv[0], kv[1] = b.concat(-2, kv[0], k), b.concat(-2, kv[1], v)
	return kv[0], kv[1]
}

// past is the number of earlier tokens, before any layer was extended.
func (c *cache) past() size { return size{of: c.layers[0][0], axis: 2} }

// present makes what extend made outputs.
func (c *cache) present(b *builder) {
	if c == nil {
		return
	}
	shape := append(b.dims(anyBatch, c.heads.kv), onnx.Symbol("past + seq"), onnx.Fixed(c.heads.dim))
	for i, kv := range c.layers {
		for j, part := range []string{"key", "value"} {
			b.output(fmt.Sprintf("present.%d.%s", i, part), kv[j])
			kv[j].Type = onnx.TensorType(b.o.DType, shape)
		}
	}
}
