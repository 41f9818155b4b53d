package quantize

import (
	"encoding/binary"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// weightKey names a quantized weight: nodes that need other scales for their
// bias have their own.
type weightKey struct {
	value  *onnx.Value
	axis   int
	raised bool
	t      codeType
	node   *onnx.Node // where raised, or fitted
}

// quantWeight is a quantized weight, in the graph of the one that it stands for, so
// that bodies share it; each has its own DequantizeLinear.
type quantWeight struct {
	s                  *static
	codes, scale, zero *onnx.Value
	axis               int
	name               string
	scales             []float32
	params             Params
	dq                 map[*onnx.Graph]*onnx.Value
}

// in returns the dequantized weight in g.
func (q *quantWeight) in(g *onnx.Graph) *onnx.Value {
	if q.dq[g] == nil {
		q.dq[g] = q.s.dequantize(g, q.codes, q.scale, q.zero, q.axis, q.name)
	}
	return q.dq[g]
}

// weightAxis returns the output-channel axis of the weight in slot 1 of n; -1
// for one scale.
func weightAxis(n *onnx.Node, w *onnx.Tensor, perTensor bool) int {
	switch {
	case perTensor:
		return -1
	case n.Is("Conv"):
		return 0
	case n.Is("MatMul") && len(w.Shape) == 2:
		return 1
	case n.Is("Gemm") && n.Int("transB", 0) == 1:
		return 0
	case n.Is("Gemm"):
		return 1
	}
	return -1 // runtimes refuse per-channel scales of batched products
}

// weight quantizes the weight and the bias of an anchor.
func (p *staticPass) weight(n *onnx.Node, l *Layer) error {
	w, t := n.Input(1), n.Input(1).Constant()
	axis := weightAxis(n, t, p.s.o.PerTensor)
	m := channelsOf(t, axis)
	narrow := p.s.choices.narrow[outputName(n)]
	s, err := p.s.o.weightCodes(axis >= 0, narrow).steps(m)
	if err != nil {
		return err
	}
	key := weightKey{value: w, axis: axis, t: s.t}
	if fitted := p.s.choices.scales[outputName(n)]; len(fitted) == len(s.scales) && !narrow { // they fit 8 bits
		copy(s.scales, fitted)
		key.node = n
	}
	var bias []float32
	in := p.plan.params[n.Input(0)].scale
	if b := n.Input(2); b != nil && !p.s.o.floatBias() {
		if bias, err = b.Constant().Floats(); err != nil {
			return err
		}
		if raiseForBias(s.scales, bias, in) {
			key.raised, key.node = true, n
			if !s.t.symmetric {
				s.zero = s.t.zeroPoint(min(s.lo, 0), float64(s.scales[0]))
			}
		}
	}
	codes := p.s.choices.codes[outputName(n)]
	if narrow || !codes.fits(s) { // they are of other scales
		codes = nil
	} else {
		key.node = n
	}
	q, known := p.weights[key]
	if !known {
		q = p.s.addWeight(w, m, axis, s, codes)
		p.weights[key] = q
		p.r.sizes.Before += t.Size()
		p.r.sizes.After += t.Size()/4 + int64(5*len(s.scales))
	}
	n.SetInput(1, q.in(n.Graph()))
	l.Weight = &q.params
	if bias != nil {
		n.SetInput(2, p.addBias(n, n.Input(2), bias, in, q.scales))
	}
	return nil
}

// addWeight adds a weight with the nearest codes, or with others.
func (st *static) addWeight(w *onnx.Value, m matrix, axis int, s weightSteps, codes *roundedCodes) *quantWeight {
	g, name := w.Graph(), w.Name()
	shape := []int64{}
	if axis >= 0 {
		shape = []int64{int64(len(s.scales))}
	}
	q := &quantWeight{s: st, axis: axis, name: name, scales: s.scales, params: s.describe(name), dq: map[*onnx.Graph]*onnx.Value{}}
	q.scale = g.NewConst(onnx.FromFloats(name+"_scale", shape, s.scales))
	q.zero = g.NewConst(s.t.zeros(name+"_zero_point", shape, s.zero))
	content := m.coded(name+"_quantized", s)
	if codes != nil {
		content.Data = onnx.Raw(codes.codes)
	}
	q.codes = g.NewConst(content)
	if axis >= 0 {
		q.params.Channels = len(s.scales)
	}
	return q
}

// raiseForBias raises weight scales so that a bias of scale in·s fits int32,
// and reports whether any had to be. Channels that are almost dead would
// otherwise clip their bias.
func raiseForBias(scales, bias []float32, in float32) bool {
	raised := false
	for i, b := range bias {
		k := min(i, len(scales)-1)
		least := math.Abs(float64(b)) / (float64(in) * math.MaxInt32 * 0.99)
		if float64(scales[k]) < least {
			scales[k], raised = float32(least), true
		}
	}
	return raised
}

// addBias returns the dequantized int32 form of the bias b, [M] or [1, M].
func (p *staticPass) addBias(n *onnx.Node, b *onnx.Value, bias []float32, in float32, weight []float32) *onnx.Value {
	g, name := n.Graph(), b.Name()
	scales := make([]float32, len(weight))
	for i, s := range weight {
		scales[i] = in * s
		if scales[i] < minNormal {
			scales[i] = minNormal
		}
	}
	codes := make([]byte, 4*len(bias))
	for i, x := range bias {
		c := math.RoundToEven(float64(x) / float64(scales[min(i, len(scales)-1)])) // beyond the 24 bits of float32
		binary.LittleEndian.PutUint32(codes[4*i:], uint32(int32(min(max(c, math.MinInt32), math.MaxInt32))))
	}
	shape, axis := []int64{}, -1
	if len(scales) > 1 || p.plan.perChannel(n) {
		shape, axis = []int64{int64(len(scales))}, 0
	}
	q := g.NewConst(&onnx.Tensor{Name: name + "_quantized", DType: onnx.Int32, Shape: []int64{int64(len(bias))}, Data: onnx.Raw(codes)})
	scale := g.NewConst(onnx.FromFloats(name+"_scale", shape, scales))
	zero := g.NewConst(&onnx.Tensor{Name: name + "_zero_point", DType: onnx.Int32, Shape: shape, Data: make(onnx.Raw, 4*len(scales))})
	return p.s.dequantize(g, q, scale, zero, axis, name)
}
