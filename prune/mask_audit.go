package prune

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// Audited is what a weight of a written model is like, read back from the file.
type Audited struct {
	Name     string `json:"name"`
	Node     string `json:"node"`
	Elements int64  `json:"elements"`
	Zeros    int64  `json:"zeros"`
	Groups   int64  `json:"groups"`  // of M weights that are summed, fewer at the end; or blocks
	Invalid  int64  `json:"invalid"` // groups with more than N that are not zero; blocks that are zero in part
	Valid    bool   `json:"valid"`
}

// Audit reads the model at path and holds every weight against a pattern, as of
// [MaskOptions]. Weights in 8 bits behind a DequantizeLinear count as zero where their
// code is the zero point; others that are computed are left out.
func Audit(path, pattern string) ([]Audited, error) {
	p, err := parseMask(pattern)
	if err != nil {
		return nil, err
	}
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	var uses []onnx.Use
	seen := map[*onnx.Value]bool{}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			for _, slot := range weightSlots[opName(n)] {
				v := n.Input(slot)
				if v == nil || seen[v] {
					continue
				}
				seen[v] = true
				uses = append(uses, onnx.Use{Node: n, Index: slot})
			}
		}
	}
	return auditAll(path, uses, p)
}

// auditAll holds the weights that are read at uses against a pattern.
func auditAll(path string, uses []onnx.Use, p maskPattern) ([]Audited, error) {
	found, is := make([]Audited, len(uses)), make([]bool, len(uses))
	err := onAll(context.Background(), len(uses), func(i int) (err error) {
		found[i], is[i], err = auditOne(uses[i].Node.Input(uses[i].Index), uses[i], p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var out []Audited
	for i, a := range found {
		if is[i] {
			out = append(out, a)
		}
	}
	return out, nil
}

// auditOne holds one weight against a pattern; false where it is no matrix of numbers.
func auditOne(v *onnx.Value, u onnx.Use, p maskPattern) (Audited, bool, error) {
	t, err := denseOf(v)
	if err != nil || t == nil || !t.DType.IsFloat() {
		return Audited{}, false, err
	}
	view, ok := viewOf(u, t.Shape)
	if !ok {
		return Audited{}, false, nil
	}
	zero := newMask(view.rows * view.cols)
	b, err := t.Bytes()
	if err != nil {
		return Audited{}, false, err
	}
	visit(b, t.DType, func(i int, bits uint32) {
		if bits == 0 {
			zero.set(i)
		}
	})
	a := Audited{Name: v.Name(), Node: u.Node.Name, Elements: int64(view.rows * view.cols), Zeros: zero.count()}
	p.audit(view, zero, &a)
	a.Valid = a.Invalid == 0
	return a, true, nil
}

// audit counts groups and blocks, and those that are not as they are to be.
func (p maskPattern) audit(v maskView, zero maskBits, a *Audited) {
	switch {
	case p.grouped():
		for r := range v.rows {
			v.groups(p.m, func(c0, c1 int) {
				left := 0
				for c := c0; c < c1; c++ {
					if !zero.has(v.index(r, c)) {
						left++
					}
				}
				a.Groups++
				if left > p.n {
					a.Invalid++
				}
			})
		}
	case p.blocked():
		v.blocks(p, func(b maskBlock) {
			gone, all := 0, (b.r1-b.r0)*(b.c1-b.c0)
			for r := b.r0; r < b.r1; r++ {
				for c := b.c0; c < b.c1; c++ {
					if zero.has(v.index(r, c)) {
						gone++
					}
				}
			}
			a.Groups++
			if gone > 0 && gone < all {
				a.Invalid++
			}
		})
	}
}

// denseOf returns a constant with its zeros; nil for what is none, and for a form
// of sparse tensor that prune does not write.
func denseOf(v *onnx.Value) (*onnx.Tensor, error) {
	s := v.Sparse
	switch n := v.Producer(); {
	case n.Is("DequantizeLinear"):
		return dequantized(n)
	case s == nil && v.Const != nil:
		return v.Const, nil
	case s == nil:
		return v.Constant(), nil
	}
	if s.Indices == nil || s.Indices.DType != onnx.Int64 || len(s.Indices.Shape) != 1 || s.Values.DType.Bits()%8 != 0 {
		return nil, nil
	}
	places, err := s.Indices.Bytes()
	if err != nil {
		return nil, err
	}
	values, err := s.Values.Bytes()
	if err != nil {
		return nil, err
	}
	t := &onnx.Tensor{Name: v.Name(), DType: s.Values.DType, Shape: s.Dims}
	size, all := int64(s.Values.DType.Bits()/8), t.Size()
	b := make([]byte, all)
	if len(values)/int(size) != len(places)/8 {
		return nil, fmt.Errorf("sparse tensor %q has %d places for %d bytes of values", v.Name(), len(places)/8, len(values))
	}
	for i := range len(places) / 8 {
		at := int64(binary.LittleEndian.Uint64(places[8*i:]))
		if at < 0 || at >= all/size {
			return nil, fmt.Errorf("sparse tensor %q has an element at place %d of %d", v.Name(), at, all/size)
		}
		copy(b[at*size:(at+1)*size], values[int64(i)*size:])
	}
	t.Data = onnx.Raw(b)
	return t, nil
}

// dequantized returns constant codes of 8 bits less their zero point; nil for others.
func dequantized(n *onnx.Node) (*onnx.Tensor, error) {
	t, z := n.Input(0).Constant(), n.Input(2).Constant()
	if t == nil || t.DType != onnx.Int8 && t.DType != onnx.Uint8 || n.Input(2) != nil && z == nil {
		return nil, nil
	}
	codes, err := t.Ints()
	if err != nil {
		return nil, err
	}
	if z != nil {
		zero, err := z.Ints()
		if err != nil {
			return nil, err
		}
		for _, x := range zero {
			if x != zero[0] {
				return nil, nil
			}
		}
		for i := range codes {
			codes[i] -= zero[0]
		}
	}
	f := make([]float32, len(codes))
	for i, x := range codes {
		f[i] = float32(x)
	}
	return onnx.FromFloats(t.Name, t.Shape, f), nil
}
