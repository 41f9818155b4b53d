package profile

import (
	"encoding/binary"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// add counts the zeros of t.
func (s *Sparsity) add(name string, t *onnx.Tensor) error {
	b, err := t.Bytes()
	if err != nil {
		return err
	}
	n, _ := t.Elements()
	zeros := zerosOf(t.DType, b, n)
	s.Elements = plus(s.Elements, n)
	s.Zeros = plus(s.Zeros, zeros)
	if n >= 1024 && zeros > 0 {
		s.Tensors = append(s.Tensors, TensorSparsity{Name: name, Elements: n, Share: float64(zeros) / float64(n)})
	}
	return nil
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
