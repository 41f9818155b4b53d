//go:build cgo

package ort

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// The kinds of a value, numbered as ONNXType in onnxruntime_c_api.h.
const (
	valueTensor   = 1
	valueSequence = 2
	valueMap      = 3
	valueOpaque   = 4
	valueSparse   = 5
	valueOptional = 6
)

// dtypeOf translates ONNXTensorElementDataType, which equals
// TensorProto.DataType up to Float4E2M1; then come Uint2, Int2 and Float8E8M0.
func dtypeOf(e int) onnx.DType {
	switch {
	case e <= int(onnx.Float4E2M1):
		return onnx.DType(e)
	case e == 24:
		return onnx.Uint2
	case e == 25:
		return onnx.Int2
	case e == 26:
		return onnx.Float8E8M0
	}
	return onnx.Undefined
}

// elementType is the inverse of dtypeOf for a type that a new value is to
// have; 0 if there is none. Release 1.30 takes the numbers of
// TensorProto.DataType here (asProto), although it reports its own; older
// ones have no Float8E8M0.
func elementType(d onnx.DType, asProto bool) int {
	switch {
	case d <= onnx.Float4E2M1 || asProto:
		return int(d)
	case d == onnx.Float8E8M0:
		return 0
	}
	return int(d) - 1
}

// tensorValue makes a value of t. The runtime reads t's own bytes in place,
// pinned by pin; only misaligned ones are copied.
func (a *api) tensorValue(t *onnx.Tensor, pin *runtime.Pinner) (ptr, error) {
	if elementType(t.DType, a.asProto) == 0 {
		return nil, fmt.Errorf("tensor %q: ONNX Runtime has no element type %v", t.Name, t.DType)
	}
	if t.DType == onnx.String {
		if n, ok := t.Elements(); !ok || n != int64(len(t.Str)) {
			return nil, fmt.Errorf("tensor %q: %d strings do not fill shape %v", t.Name, len(t.Str), t.Shape)
		}
		return a.newStrings(t.Shape, t.Str)
	}
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		b = make([]byte, 16)[:0]
	}
	if align := uintptr(min(max(t.DType.Bits()/8, 1), 8)); uintptr(ptr(unsafe.SliceData(b)))%align != 0 {
		b = append(make([]byte, 0, len(b)+16), b...)
	}
	data := unsafe.SliceData(b)
	pin.Pin(data)
	return a.newTensor(t.DType, t.Shape, ptr(data), len(b))
}

// inputValue makes the value for port p from the tensors given under its
// names; nil where an optional was left out.
func (a *api) inputValue(p session.Port, in map[string]*onnx.Tensor, pin *runtime.Pinner) (ptr, error) {
	switch {
	case p.Type != nil && p.Type.Kind == onnx.KindOptional:
		return a.inputValue(session.Port{Name: p.Name, Type: p.Type.Of}, in, pin)
	case p.Type != nil && p.Type.Kind == onnx.KindSequence:
		var list []*onnx.Tensor
		for i := 0; in[session.ElementName(p.Name, i)] != nil; i++ {
			list = append(list, in[session.ElementName(p.Name, i)])
		}
		return a.compound(valueSequence, list, pin)
	case p.Type != nil && p.Type.Kind == onnx.KindMap:
		return a.compound(valueMap, []*onnx.Tensor{in[session.KeysName(p.Name)], in[p.Name]}, pin)
	}
	if in[p.Name] == nil {
		return nil, nil
	}
	return a.tensorValue(in[p.Name], pin)
}

// compound makes a sequence or map of tensors.
func (a *api) compound(kind int, list []*onnx.Tensor, pin *runtime.Pinner) (ptr, error) {
	if len(list) == 0 || list[0] == nil {
		return nil, nil
	}
	var parts []ptr
	defer func() { a.releaseAll(parts) }()
	for _, t := range list {
		v, err := a.tensorValue(t, pin)
		if err != nil {
			return nil, err
		}
		parts = append(parts, v)
	}
	return a.newValue(kind, parts)
}

// reader turns values into tensors.
type reader struct {
	*api
	place func(n int) ([]byte, error) // where numeric content goes; nil: new memory
	out   map[string]*onnx.Tensor
}

// read adds the tensors of v under name, as [session.Session.Run] names them.
func (r reader) read(name string, v ptr) error {
	kind, present, err := r.kindOf(v)
	if err != nil || !present {
		return err
	}
	switch kind {
	case valueTensor:
		t, err := r.tensor(name, v, r.place)
		if err != nil {
			return err
		}
		r.out[name] = t
		return nil
	case valueSequence:
		return r.sequence(name, v)
	case valueMap:
		keys, values, err := r.mapOf(name, v)
		if err != nil {
			return err
		}
		r.out[session.KeysName(name)], r.out[name] = keys, values
		return nil
	case valueSparse:
		return fmt.Errorf("output %q is a sparse tensor, which cannot be returned", name)
	}
	return fmt.Errorf("output %q is of a kind that cannot be returned", name)
}

// tensor copies a tensor value.
func (r reader) tensor(name string, v ptr, place func(int) ([]byte, error)) (*onnx.Tensor, error) {
	d, shape, err := r.tensorShape(v)
	if err != nil {
		return nil, err
	}
	t := &onnx.Tensor{Name: name, DType: d, Shape: shape}
	n, ok := t.Elements()
	if d == onnx.String && ok {
		t.Str, err = r.strings(v, n)
		return t, err
	}
	size, ok := d.ByteSize(n)
	if !ok {
		return nil, fmt.Errorf("output %q has an element type that lapidary does not know", name)
	}
	data, err := r.tensorData(v)
	if err != nil {
		return nil, err
	}
	var b []byte
	if place == nil {
		b = make([]byte, size)
	} else if b, err = place(int(size)); err != nil {
		return nil, err
	}
	copy(b, unsafe.Slice((*byte)(data), size))
	t.Data = onnx.Raw(b)
	return t, nil
}

func (r reader) sequence(name string, v ptr) error {
	list, err := r.parts(v)
	if err != nil {
		return err
	}
	defer r.releaseAll(list)
	if len(list) > 0 {
		kind, _, err := r.kindOf(list[0])
		if err != nil {
			return err
		}
		if kind == valueMap {
			return r.maps(name, list)
		}
	}
	for i, e := range list {
		if err := r.read(session.ElementName(name, i), e); err != nil {
			return err
		}
	}
	return nil
}

// maps adds a sequence of maps: values [len(list), keys] and keys [keys].
func (r reader) maps(name string, list []ptr) error {
	var all *onnx.Tensor
	var keys *onnx.Tensor
	var content []byte
	for i, v := range list {
		k, values, err := r.mapOf(name, v)
		if err != nil {
			return err
		}
		if values.DType == onnx.String {
			return fmt.Errorf("output %q: a sequence of maps to strings cannot be returned", name)
		}
		if i == 0 {
			keys, all = k, values
		} else if !sameKeys(keys, k) || values.DType != all.DType {
			return fmt.Errorf("output %q: map %d of the sequence has other keys than the first", name, i)
		}
		b, err := values.Bytes()
		if err != nil {
			return err
		}
		content = append(content, b...)
	}
	t, err := onnx.NewTensor(name, all.DType, []int64{int64(len(list)), all.Shape[0]}, content)
	if err != nil {
		return err
	}
	r.out[session.KeysName(name)], r.out[name] = keys, t
	return nil
}

// mapOf returns keys and values of a map, ordered by key.
func (r reader) mapOf(name string, v ptr) (keys, values *onnx.Tensor, err error) {
	kv, err := r.parts(v)
	if err != nil {
		return nil, nil, err
	}
	defer r.releaseAll(kv)
	if len(kv) != 2 {
		return nil, nil, fmt.Errorf("output %q: a map of %d parts", name, len(kv))
	}
	if keys, err = r.tensor(session.KeysName(name), kv[0], nil); err != nil {
		return nil, nil, err
	}
	if values, err = r.tensor(name, kv[1], nil); err != nil {
		return nil, nil, err
	}
	n, _ := keys.Elements()
	if m, _ := values.Elements(); m != n {
		return nil, nil, fmt.Errorf("output %q: a map of %d keys and %d values", name, n, m)
	}
	order, err := keyOrder(keys, int(n))
	if err != nil {
		return nil, nil, fmt.Errorf("output %q: %w", name, err)
	}
	return permuted(keys, order), permuted(values, order), nil
}

// keyOrder returns the positions of keys in ascending order.
func keyOrder(keys *onnx.Tensor, n int) ([]int, error) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	switch keys.DType {
	case onnx.String:
		slices.SortFunc(order, func(i, j int) int { return bytes.Compare(keys.Str[i], keys.Str[j]) })
	case onnx.Int64:
		b, err := keys.Bytes()
		if err != nil {
			return nil, err
		}
		at := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[8*i:])) }
		slices.SortFunc(order, func(i, j int) int { return cmp.Compare(at(i), at(j)) })
	default:
		return nil, fmt.Errorf("a map with keys of type %v cannot be returned", keys.DType)
	}
	return order, nil
}

// permuted returns the elements of a vector in the given order. Map contents
// are strings or whole bytes wide.
func permuted(t *onnx.Tensor, order []int) *onnx.Tensor {
	out := &onnx.Tensor{Name: t.Name, DType: t.DType, Shape: []int64{int64(len(order))}}
	if t.DType == onnx.String {
		for _, i := range order {
			out.Str = append(out.Str, t.Str[i])
		}
		return out
	}
	b, _ := t.Data.Bytes()
	w := t.DType.Bits() / 8
	var c []byte
	for _, i := range order {
		c = append(c, b[i*w:(i+1)*w]...)
	}
	out.Data = onnx.Raw(c)
	return out
}

func sameKeys(a, b *onnx.Tensor) bool {
	if a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) {
		return false
	}
	if a.DType == onnx.String {
		return slices.EqualFunc(a.Str, b.Str, bytes.Equal)
	}
	x, _ := a.Data.Bytes()
	y, _ := b.Data.Bytes()
	return bytes.Equal(x, y)
}
