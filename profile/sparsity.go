package profile

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Sparsity is the share of zeros among the stored parameters, and what
// arithmetic is left without them.
type Sparsity struct {
	Elements    int64            `json:"elements" schema:"count"`     // examined
	Zeros       int64            `json:"zeros" schema:"count"`        // zero, of either sign; of integers that stand for reals, those equal to their zero point
	Share       float64          `json:"share" schema:"fraction"`     // zeros of elements
	NonzeroMACs int64            `json:"nonzero_macs" schema:"count"` // multiply-accumulates of one inference without those by a zero weight
	Tensors     []TensorSparsity `json:"tensors"`                     // with at least 1024 elements and a zero, sparsest first
}

// TensorSparsity is the zeros of one tensor.
type TensorSparsity struct {
	Name     string  `json:"name"`                    // of the constant
	Elements int64   `json:"elements" schema:"count"` // in it
	Share    float64 `json:"share" schema:"fraction"` // zeros of elements
}

// add counts the zeros of t, the content of constant v, and notes in nonzero what
// is left; v may be nil.
func (s *Sparsity) add(name string, v *onnx.Value, t *onnx.Tensor, nonzero map[*onnx.Tensor]float64) error {
	if _, scales := learnedBy(v, t); scales > 0 {
		return nil
	}
	b, err := t.Bytes()
	if err != nil {
		return err
	}
	n, _ := t.Elements()
	zeros, shifted, err := zerosFromPoint(v, t, b)
	if err != nil {
		return err
	}
	if !shifted {
		zeros = zerosOf(t.DType, b, n)
	}
	s.Elements = plus(s.Elements, n)
	s.Zeros = plus(s.Zeros, zeros)
	dense := n
	if v != nil && v.Sparse != nil {
		dense, _ = onnx.ElementCount(v.Sparse.Dims)
	}
	if dense > 0 {
		nonzero[t] = float64(n-zeros) / float64(dense)
	}
	if n >= 1024 && zeros > 0 {
		s.Tensors = append(s.Tensors, TensorSparsity{Name: name, Elements: n, Share: float64(zeros) / float64(n)})
	}
	return nil
}

// zeroPoints gives, by operator and slot of quantized weights, the slot of their zero point.
var zeroPoints = map[string]map[int]int{
	"DequantizeLinear": {0: 2}, "MatMulInteger": {1: 3}, "ConvInteger": {1: 3}, "QLinearMatMul": {3: 5}, "QLinearConv": {3: 5},
	"QGemm": {3: 5}, "DynamicQuantizeMatMul": {1: 3}, "MatMulIntegerToFloat": {1: 5},
}

// zerosFromPoint counts the bytes b of a quantized weight that equal its zero
// point, where that is a constant other than 0: one for all, or one per element
// of an axis.
func zerosFromPoint(v *onnx.Value, t *onnx.Tensor, b []byte) (int64, bool, error) {
	if v == nil || len(v.Uses()) == 0 || t.DType != onnx.Uint8 && t.DType != onnx.Int8 {
		return 0, false, nil
	}
	u := v.Uses()[0]
	slot, ok := zeroPoints[u.Node.Op][u.Index]
	if !ok {
		return 0, false, nil
	}
	point := u.Node.Input(slot).Constant()
	if point == nil || point.DType != t.DType {
		return 0, false, nil
	}
	p, err := point.Bytes()
	if err != nil || len(p) == 0 {
		return 0, false, err
	}
	if len(p) == 1 {
		return int64(bytes.Count(b, p)), true, nil
	}
	inner := innerSize(u.Node, t.Shape, len(p))
	if inner == 0 {
		return 0, false, nil
	}
	zeros := 0
	for i := 0; (i+1)*inner <= len(b); i++ {
		zeros += bytes.Count(b[i*inner:(i+1)*inner], p[i%len(p):i%len(p)+1])
	}
	return int64(zeros), true, nil
}

// innerSize returns the number of elements behind the axis along which n's
// weight of the given shape has points zero points, 0 where there is none.
func innerSize(n *onnx.Node, shape []int64, points int) int {
	axis := int64(0) // of a convolution's weight, the output channels
	switch {
	case n.Op == "DequantizeLinear":
		axis = n.Int("axis", 1)
	case n.Op != "QLinearConv" && n.Op != "ConvInteger":
		axis = -1 // the columns of a matrix
	}
	if axis < 0 {
		axis += int64(len(shape))
	}
	if axis < 0 || axis >= int64(len(shape)) || shape[axis] != int64(points) {
		return 0
	}
	inner, _ := onnx.ElementCount(shape[axis+1:])
	return int(inner)
}

// weigh gives each of the rows of nodes its MACs without those by a zero
// weight, and adds them up.
func (s *Sparsity) weigh(rows []Node, nodes []*onnx.Node, nonzero map[*onnx.Tensor]float64) {
	for i := range rows {
		r := &rows[i]
		if r.Work.MACs == 0 {
			continue
		}
		macs := r.Work.MACs
		if share, ok := nonzero[weightOf(nodes[i])]; ok {
			macs = int64(math.Round(float64(macs) * share))
		}
		r.Nonzero = &macs
		s.NonzeroMACs = plus(s.NonzeroMACs, times(macs, r.Runs))
	}
}

// weightOf returns the constant by which n multiplies, through changes of form
// and dequantization; nil where there is none or more than one.
func weightOf(n *onnx.Node) *onnx.Tensor {
	var found *onnx.Tensor
	slots := weightSlots(n.Op)
	if m, ok := multiplicands[opText(n)]; ok {
		slots = m[:]
	}
	for _, i := range slots {
		v := n.Input(i)
		for range maxNesting {
			p := (*onnx.Node)(nil)
			if v != nil {
				p = v.Producer()
			}
			if p == nil || !passes(p.Op) && !isDequantize(p) {
				break
			}
			v = p.Input(0)
		}
		t := stored(v)
		if t == nil && v != nil && v.Sparse != nil {
			t = v.Sparse.Values
		}
		switch {
		case t == nil || v.Sparse == nil && len(t.Shape) < 2:
		case found != nil && found != t:
			return nil
		default:
			found = t
		}
	}
	return found
}

// finish completes the sums.
func (s *Sparsity) finish() *Sparsity {
	if s.Elements > 0 {
		s.Share = float64(s.Zeros) / float64(s.Elements)
	}
	slices.SortStableFunc(s.Tensors, func(a, b TensorSparsity) int {
		switch {
		case a.Share > b.Share:
			return -1
		case a.Share < b.Share:
			return 1
		}
		return 0
	})
	return s
}

// zerosOf counts the zero elements of n packed elements of type d. A floating
// zero may have either sign; of quantized weights the stored zero is counted,
// whatever their zero point.
func zerosOf(d onnx.DType, b []byte, n int64) int64 {
	bits := d.Bits()
	if d == onnx.Float8E8M0 { // an exponent: it has no zero
		return 0
	}
	if bits < 8 {
		return zerosOfPacked(d, b, n, bits)
	}
	size, zeros := bits/8, int64(0)
	sign := uint64(0)
	if d.IsFloat() && d != onnx.Float8E4M3FNUZ && d != onnx.Float8E5M2FNUZ { // there the sign bit alone is NaN
		sign = 1 << (bits - 1)
	}
	switch size {
	case 1:
		for _, x := range b {
			if uint64(x)&^sign == 0 {
				zeros++
			}
		}
	case 2:
		for ; len(b) >= 2; b = b[2:] {
			if uint64(binary.LittleEndian.Uint16(b))&^sign == 0 {
				zeros++
			}
		}
	case 4:
		for ; len(b) >= 4; b = b[4:] {
			if uint64(binary.LittleEndian.Uint32(b))&^sign == 0 {
				zeros++
			}
		}
	case 8:
		if d == onnx.Complex64 {
			sign = 1<<63 | 1<<31
		}
		for ; len(b) >= 8; b = b[8:] {
			if binary.LittleEndian.Uint64(b)&^sign == 0 {
				zeros++
			}
		}
	case 16:
		sign = 1 << 63
		for ; len(b) >= 16; b = b[16:] {
			if (binary.LittleEndian.Uint64(b)|binary.LittleEndian.Uint64(b[8:]))&^sign == 0 {
				zeros++
			}
		}
	}
	return zeros
}

// zerosOfPacked counts zeros of elements that share bytes, low bits first.
func zerosOfPacked(d onnx.DType, b []byte, n int64, bits int) int64 {
	if bits == 0 {
		return 0
	}
	mask := byte(1)<<bits - 1
	if d == onnx.Float4E2M1 {
		mask = 7 // without the sign
	}
	per := int64(8 / bits)
	zeros := int64(0)
	for i := range n {
		if b[i/per]>>(int(i%per)*bits)&mask == 0 {
			zeros++
		}
	}
	return zeros
}
