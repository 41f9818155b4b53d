package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// matmulNBits: a product with a weight that is dequantized in blocks along its
// depth is one operator of ONNX Runtime's own, which never unpacks the weight
// whole. Sums are those of floats, as before: the operator's level of accuracy
// stays at its default, which quantizes no activation.
//
// Where the weight stands as it is multiplied, the runtime makes the operator of
// it when it loads the model, at the level that quantizes activations to 8 bits:
// with 1024×2048 of 4 bits that takes 0.04 ms for one row where the default level
// takes 0.15 and the parts 2.1 (4.1, 5.6 and 8.3 ms for 128 rows), and is off by
// 0.5 % of the largest result instead of by rounding. It does not where the weight
// is transposed, for which the parts take 3.3 ms (10 ms). For 8 bits the default
// level takes 5.3 ms, and the parts 0.3.
func matmulNBits(t *Target) rewrite.Rule {
	const name = "matmul-nbits"
	return rewrite.Rule{
		Name: name, Doc: "makes com.microsoft.MatMulNBits of a product with a constant weight of 4 bits, on GPUs 8 too, that is dequantized in blocks; on CPUs where it is transposed, else if asked for by name",
		Pattern: "MatMul(a, dq=DequantizeLinear(w, scale, ?zero)); MatMul(a, t=Transpose(dq=DequantizeLinear(w, scale, ?zero))); " +
			"Gemm|com.microsoft.FusedMatMul(a, dq=DequantizeLinear(w, scale, ?zero), ?c)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if !t.Own() || m.Node("dq").Int("block_size", 0) == 0 {
				return rewrite.ErrNotHere
			}
			w, err := blocksOf(m)
			if err != nil {
				return err
			}
			switch {
			case t.GPU() || t.asked(name):
			case w.bits == 8:
				return rewrite.Decline("the kernel for weights of 8 bits is slower than the parts on the CPU unless activations are quantized too; ask for it by name")
			case !w.turned:
				return rewrite.Decline("the runtime makes MatMulNBits of it at load, with activations of 8 bits, which is faster and less exact than with floats; ask for it by name")
			}
			if size := int64(len(w.codes)); len(m.Value("w").Uses()) > 1 && size > t.growth() {
				return rewrite.Decline("the weight is read elsewhere too, and a packed copy has %d bytes", size)
			}
			if err := t.offer(m, microsoft, "MatMulNBits", m.Facts.DType(m.Value("a"))); err != nil {
				return err
			}
			return w.emit(m, p)
		},
	}
}

// blockWeight is a weight of n columns and depth k in codes of so many bits, of
// which each block along the depth has a scale and a zero point.
type blockWeight struct {
	n, k, block, blocks int64
	bits                int64
	codes, zeros        []byte // packed, the first in the lowest bits; no zeros: half the range everywhere
	flip                byte   // what makes unsigned numbers of both
	scales              *onnx.Tensor
	turned              bool // stored [n, k] instead of [k, n]
}

// blocksOf reads the weight of a match, and declines where the operator has no
// such one.
func blocksOf(m *rewrite.Match) (*blockWeight, error) {
	dq, turn := m.Node("dq"), m.Node("t")
	for _, n := range []*onnx.Node{dq, turn} {
		if n == nil {
			continue
		}
		if err := soleUse(n); err != nil {
			return nil, err
		}
	}
	codes, err := m.Const("w")
	if err != nil {
		return nil, err
	}
	scales, err := m.Const("scale")
	if err != nil {
		return nil, err
	}
	root := m.Root
	w := &blockWeight{block: dq.Int("block_size", 0), scales: scales, turned: turn != nil || root.Int("transB", 0) != 0}
	axis := dq.Int("axis", 1)
	if axis < 0 {
		axis += 2
	}
	switch {
	case root.Int("transA", 0) != 0 || root.Int("transBatchA", 0)|root.Int("transBatchB", 0) != 0 || root.Float("alpha", 1) != 1 ||
		m.Value("c") != nil && root.Float("beta", 1) != 1:
		return nil, rewrite.Decline("%v transposes or scales more than the weight", root)
	case len(codes.Shape) != 2:
		return nil, rewrite.Decline("the weight has shape %s, not that of a matrix", dims(codes.Shape))
	case turn != nil && !swapsLast(turn.Ints("perm", nil), 2):
		return nil, rewrite.Decline("%v leaves the weight as it is", turn)
	case w.block < 16 || w.block > 256 || w.block&(w.block-1) != 0:
		return nil, rewrite.Decline("blocks of %d are none of 16, 32, 64, 128 and 256", w.block)
	case w.turned != (axis == 1):
		return nil, rewrite.Decline("the blocks run along axis %d, which is not that of the sum", axis)
	}
	if w.k, w.n = codes.Shape[0], codes.Shape[1]; w.turned {
		w.k, w.n = w.n, w.k
	}
	w.blocks = (w.k + w.block - 1) / w.block
	a := m.Facts.Shape(m.Value("a"))
	switch d := m.Facts.DType(m.Value("a")); {
	case d != onnx.Float && d != onnx.Float16 || d != scales.DType || d != m.Facts.DType(dq.Output(0)):
		return nil, rewrite.Decline("the factor is %v, and the scales are %v", d, scales.DType)
	case len(a) < 2 || !a[len(a)-1].Same(onnx.Fixed(w.k)):
		return nil, rewrite.Decline("the factor has shape %v, and the weight a depth of %d", a, w.k)
	case codes.DType == onnx.Int4 || codes.DType == onnx.Uint4:
		w.bits = 4
	case codes.DType == onnx.Int8 || codes.DType == onnx.Uint8:
		w.bits = 8
	default:
		return nil, rewrite.Decline("the weight is %v, neither of 4 bits nor of 8", codes.DType)
	}
	return w, w.read(m, codes)
}

// read takes codes and zero points in as unsigned numbers.
func (w *blockWeight) read(m *rewrite.Match, codes *onnx.Tensor) error {
	if e, ok := w.scales.Elements(); !ok || e != w.n*w.blocks || len(w.scales.Shape) != 2 {
		return rewrite.Decline("the scales have shape %s, for %d columns of %d blocks", dims(w.scales.Shape), w.n, w.blocks)
	}
	half := byte(1) << (w.bits - 1)
	if codes.DType == onnx.Int4 || codes.DType == onnx.Int8 {
		w.flip = half
	}
	var err error
	if w.codes, err = codes.Bytes(); err != nil {
		return err
	}
	if m.Value("zero") == nil {
		if w.flip == 0 { // which the operator takes for half the range
			w.zeros = make([]byte, w.n*w.blocks)
		}
		return nil
	}
	zero, err := m.Const("zero")
	if err != nil {
		return err
	}
	if e, ok := zero.Elements(); !ok || e != w.n*w.blocks || zero.DType != codes.DType {
		return rewrite.Decline("the zero points have shape %s, and the scales %s", dims(zero.Shape), dims(w.scales.Shape))
	}
	z, err := zero.Bytes()
	if err != nil {
		return err
	}
	for i := range w.n * w.blocks {
		if w.code(z, i) != half {
			w.zeros = z
		}
	}
	return nil
}

// code returns element i of packed numbers, as an unsigned one.
func (w *blockWeight) code(packed []byte, i int64) byte {
	return packed[i*w.bits/8]>>(i*w.bits%8)&(1<<w.bits-1) ^ w.flip
}

// at returns where a tensor of so many rows along the depth has the element of
// column n and row r.
func (w *blockWeight) at(n, r, rows int64) int64 {
	if w.turned {
		return n*rows + r
	}
	return r*w.n + n
}

// emit proposes the operator, with codes packed [n, blocks, block·bits/8], the
// first in the lowest bits, scales [n·blocks] and zero points packed likewise
// for each column.
func (w *blockWeight) emit(m *rewrite.Match, p *rewrite.Patch) error {
	name := m.Value("w").Name()
	width := w.block * w.bits / 8
	packed := make([]byte, w.n*w.blocks*width)
	for n := range w.n {
		row := packed[n*w.blocks*width:]
		for k := range w.k {
			row[k*w.bits/8] |= w.code(w.codes, w.at(n, k, w.k)) << (k * w.bits % 8)
		}
	}
	b, err := onnx.NewTensor(name+"_packed", onnx.Uint8, []int64{w.n, w.blocks, width}, packed)
	if err != nil {
		return err
	}
	s, err := w.scales.Float64s()
	if err != nil {
		return err
	}
	scales := make([]float64, len(s))
	for n := range w.n {
		for i := range w.blocks {
			scales[n*w.blocks+i] = s[w.at(n, i, w.blocks)]
		}
	}
	c, err := onnx.FromFloat64s(name+"_scales", w.scales.DType, []int64{w.n * w.blocks}, scales)
	if err != nil {
		return err
	}
	in := []*onnx.Value{m.Value("a"), p.Const(b), p.Const(c)}
	if w.zeros != nil {
		z, err := w.packedZeros(name + "_zeros")
		if err != nil {
			return err
		}
		in = append(in, p.Const(z))
	}
	y := p.AddNode(microsoft, "MatMulNBits", in, 1, onnx.IntAttr("K", w.k), onnx.IntAttr("N", w.n),
		onnx.IntAttr("bits", w.bits), onnx.IntAttr("block_size", w.block))
	out := y.Output(0)
	if c := m.Value("c"); c != nil { // of a Gemm
		out = p.Add("Add", []*onnx.Value{out, c})
	}
	p.Swap(m.Root.Output(0), out)
	return nil
}

func (w *blockWeight) packedZeros(name string) (*onnx.Tensor, error) {
	width := (w.blocks*w.bits + 7) / 8
	out := make([]byte, w.n*width)
	for n := range w.n {
		for i := range w.blocks {
			out[n*width+i*w.bits/8] |= w.code(w.zeros, w.at(n, i, w.blocks)) << (i * w.bits % 8)
		}
	}
	return onnx.NewTensor(name, onnx.Uint8, []int64{w.n * width}, out)
}
