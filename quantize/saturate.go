package quantize

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// On x86 processors without VNNI, ONNX Runtime multiplies uint8 codes of
// activations by int8 codes of weights with vpmaddubsw, which adds products in
// pairs to 16 bits and saturates: −32768 or 32767 stands for sums beyond. Pairs
// are neighbours along the reduced axis, which for a convolution runs over the
// rows and columns of the window and, fastest, the input channels. Depthwise
// convolutions have a kernel of their own that widens first. Processors with VNNI,
// AVX-512 VNNI, AMX or ARM's dot products add to 32 bits and are exact.

// limits of a sum of two products.
const (
	pairLow  = math.MinInt16
	pairHigh = math.MaxInt16
)

// layer8 is a node between dequantized codes: u8 activations and s8 weights.
type layer8 struct {
	node     *onnx.Node
	input    *onnx.Node // DequantizeLinear of the activation
	weight   *onnx.Node // DequantizeLinear of the weight
	pairs    [][]int8   // by output channel: codes in the order in which they are multiplied
	channels int
	offset   float32 // what the engine adds to the codes of the activation to make them uint8
}

// layersOf returns the layers of m whose products could saturate at all: by
// operator and by the types of their codes.
func layersOf(m *onnx.Model) ([]*layer8, error) {
	var out []*layer8
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if place(n) != anchor {
				continue
			}
			l := &layer8{node: n, input: dequantized(n.Input(0)), weight: dequantized(n.Input(1))}
			if l.input == nil || l.weight == nil || l.input.Input(0).Constant() != nil {
				continue
			}
			codes := l.weight.Input(0).Constant()
			if codes == nil || codes.DType != onnx.Int8 || n.Is("Conv") && n.Int("group", 1) != 1 || len(codes.Shape) < 2 {
				continue
			}
			switch zero := l.input.Input(2).Constant(); {
			case zero == nil:
				continue
			case zero.DType == onnx.Int8:
				l.offset = -math.MinInt8
			case zero.DType != onnx.Uint8:
				continue
			}
			if err := l.order(codes); err != nil {
				return nil, err
			}
			out = append(out, l)
		}
	}
	return out, nil
}

// dequantized returns the DequantizeLinear, of any domain, that v is of; nil if it
// is of none.
func dequantized(v *onnx.Value) *onnx.Node {
	if v == nil || v.Producer() == nil || v.Producer().Op != "DequantizeLinear" {
		return nil
	}
	return v.Producer()
}

// isQuantize reports whether n is a QuantizeLinear of any domain.
func isQuantize(n *onnx.Node) bool { return n != nil && n.Op == "QuantizeLinear" }

// order puts the codes of each output channel into the order in which they are
// multiplied.
func (l *layer8) order(codes *onnx.Tensor) error {
	b, err := codes.Bytes()
	if err != nil {
		return err
	}
	at := func(i int) int8 { return int8(b[i]) }
	s := codes.Shape
	switch {
	case l.node.Is("Conv"):
		c, window := int(s[1]), 1
		for _, d := range s[2:] {
			window *= int(d)
		}
		l.rows(int(s[0]), c*window, func(o, k int) int8 { return at((o*c+k%c)*window + k/c) })
	case l.node.Is("Gemm") && l.node.Int("transB", 0) == 1:
		l.rows(int(s[0]), int(s[1]), func(o, k int) int8 { return at(o*int(s[1]) + k) })
	default:
		k, n := int(s[len(s)-2]), int(s[len(s)-1])
		if len(s) > 2 {
			return nil // one matrix of many; its layers are not screened
		}
		l.rows(n, k, func(o, i int) int8 { return at(i*n + o) })
	}
	return nil
}

func (l *layer8) rows(outputs, k int, at func(o, k int) int8) {
	l.channels = outputs
	for o := range outputs {
		row := make([]int8, k)
		for i := range row {
			row[i] = at(o, i)
		}
		l.pairs = append(l.pairs, row)
	}
}

// unsafe is the share of pairs of weights whose sum of products can leave 16
// bits for activations up to code top.
func (l *layer8) unsafe(top int) float64 {
	bad, all := 0, 0
	for _, row := range l.pairs {
		for k := 0; k+1 < len(row); k += 2 {
			high := max(int(row[k]), 0) + max(int(row[k+1]), 0)
			low := min(int(row[k]), 0) + min(int(row[k+1]), 0)
			if high*top > pairHigh || low*top < pairLow {
				bad++
			}
			all++
		}
	}
	return float64(bad) / float64(max(all, 1))
}

// dot is the sum of products with and without saturation.
func (l *layer8) dot(o int, a []uint8) (saturated, exact int32) {
	row := l.pairs[o]
	for k := 0; k < len(row); k += 2 {
		p := int32(a[k]) * int32(row[k])
		if k+1 < len(row) {
			p += int32(a[k+1]) * int32(row[k+1])
		}
		exact += p
		saturated += min(max(p, pairLow), pairHigh)
	}
	return saturated, exact
}

// saturating returns a copy of m, a quantized model, that computes as such
// processors do, out of standard operators in float32, which hold these sums
// exactly; and the first outputs of the layers that are changed. Layers whose
// sizes are not known stay as they are, and so do those that only refuses.
func saturating(m *onnx.Model, dims map[string]int64, only func(output string) bool) (*onnx.Model, []string, error) {
	c := m.Clone()
	facts, err := opset.Infer(c, opset.Options{Dims: dims})
	if err != nil {
		return nil, nil, err
	}
	layers, err := layersOf(c)
	if err != nil {
		return nil, nil, err
	}
	var changed []string
	for _, l := range layers {
		output := outputName(l.node)
		if l.pairs == nil || l.unsafe(255) == 0 || only != nil && !only(output) {
			continue
		}
		t := &twin{l: l, g: l.node.Graph(), facts: facts}
		if t.build() {
			changed = append(changed, output)
		}
	}
	return c, changed, nil
}
