package quantize

import "github.com/lapidary-ml/lapidary/internal/onnx"

// microsoft is the domain of ONNX Runtime's own operators.
const microsoft = "com.microsoft"

// plainOpset is the version of the standard operators from which
// DequantizeLinear takes blocks and 4-bit codes.
const plainOpset = 21

// newConst adds t to the graph in which the weights are, so that graphs inside
// of it share it.
func newConst(g *onnx.Graph, t *onnx.Tensor) *onnx.Value {
	if t == nil {
		return nil
	}
	return g.NewConst(t)
}

// parameters adds the tensors of l to g: codes, scales, and zero points or nil.
func parameters(g *onnx.Graph, l layout, name string) [3]*onnx.Value {
	return [3]*onnx.Value{newConst(g, l.codes(name+"_codes")), newConst(g, l.scales(name+"_scales")), newConst(g, l.zeros(name+"_zero_points"))}
}

// nbitsNode returns x · w for w in blocks, as MatMulNBits; bias may be nil.
func nbitsNode(g *onnx.Graph, b *blockwise, x, bias *onnx.Value, out string, accuracy int64) *onnx.Node {
	return nbitsOf(parameters(g, layout{c: b}, b.op.t.Name), b, x, bias, out, accuracy)
}

func nbitsOf(w [3]*onnx.Value, b *blockwise, x, bias *onnx.Value, out string, accuracy int64) *onnx.Node {
	n := onnx.NewNode("MatMulNBits", []*onnx.Value{x, w[0], w[1], w[2], nil, bias}, out)
	n.TrimInputs()
	n.Domain, n.Name = microsoft, out
	n.Attrs = []*onnx.Attr{onnx.IntAttr("K", int64(b.op.k)), onnx.IntAttr("N", int64(b.op.n)), onnx.IntAttr("bits", int64(b.f.bits)), onnx.IntAttr("block_size", int64(b.f.size))}
	if accuracy != 0 {
		n.Attrs = append(n.Attrs, onnx.IntAttr("accuracy_level", accuracy))
	}
	return n
}

// plainNode returns the weights of b in floating point again, by DequantizeLinear.
func plainNode(g *onnx.Graph, b *blockwise, name string) *onnx.Node {
	return plainOf(parameters(g, plainLayout(b), b.op.t.Name), b, g.Model().Fresh(name+"_dequantized"))
}

// plainLayout is that of DequantizeLinear: signed codes where the middle one is zero.
func plainLayout(b *blockwise) layout { return layout{c: b, plain: true, signed: !b.f.asymmetric} }

func plainOf(w [3]*onnx.Value, b *blockwise, out string) *onnx.Node {
	n := onnx.NewNode("DequantizeLinear", w[:], out)
	n.TrimInputs()
	n.Name = out
	n.Attrs = []*onnx.Attr{onnx.IntAttr("axis", plainLayout(b).axis()), onnx.IntAttr("block_size", int64(b.f.size))}
	n.Output(0).Type = onnx.TensorType(b.f.dtype, onnx.ShapeOf(plainLayout(b).shape()...))
	return n
}

// gatherLayout is that of GatherBlockQuantized. The middle one of unsigned codes
// is its zero where none is given.
func gatherLayout(b *blockwise) layout {
	return layout{c: b, plain: true, signed: !b.f.asymmetric && b.f.bits == 4}
}

// gatherNode returns rows of a table in blocks, those that x says.
func gatherNode(g *onnx.Graph, b *blockwise, x *onnx.Value, out string, axis int64) *onnx.Node {
	return gatherOf(parameters(g, gatherLayout(b), b.op.t.Name), b, x, out, axis)
}

func gatherOf(w [3]*onnx.Value, b *blockwise, x *onnx.Value, out string, axis int64) *onnx.Node {
	n := onnx.NewNode("GatherBlockQuantized", []*onnx.Value{w[0], x, w[1], w[2]}, out)
	n.TrimInputs()
	n.Domain, n.Name = microsoft, out
	n.Attrs = []*onnx.Attr{onnx.IntAttr("gather_axis", axis), onnx.IntAttr("quantize_axis", gatherLayout(b).axis()), onnx.IntAttr("block_size", int64(b.f.size))}
	if b.f.bits != 4 {
		n.Attrs = append(n.Attrs, onnx.IntAttr("bits", int64(b.f.bits)))
	}
	return n
}
