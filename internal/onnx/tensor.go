package onnx

import "fmt"

// Tensor is a constant: an initializer, or a tensor attribute. It is immutable;
// its bytes stay in the file until [Tensor.Bytes] asks for them.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64
	Data  Data     // numeric content; nil for String tensors
	Str   [][]byte // content of String tensors, row-major

	Doc      string
	Meta     []Entry       // metadata_props
	External *ExternalData // where the bytes are stored outside the model file; nil if inside
	Unknown  []byte        // fields this package does not know, as encoded
}

// ExternalData says where a tensor's bytes lie outside the model file.
type ExternalData struct {
	Location string  // path relative to the model's folder, with forward slashes
	Offset   int64   // in bytes
	Length   int64   // in bytes
	Extra    []Entry // further entries, such as checksum, in file order
}

// Entry is one key and value of a metadata list.
type Entry struct{ Key, Value string }

// SparseTensor is a tensor in coordinate form: Values [NNZ] and Indices
// [NNZ] (linear) or [NNZ, rank] (int64), of dense shape Dims.
type SparseTensor struct {
	Values  *Tensor
	Indices *Tensor
	Dims    []int64
	Unknown []byte
}

// Elements returns the number of elements; false if the shape is negative or overflows.
func (t *Tensor) Elements() (int64, bool) { return ElementCount(t.Shape) }

// Size returns the packed size in bytes by dtype and shape, without I/O; for
// String tensors the sum of the string lengths. It is 0 if the shape is invalid.
func (t *Tensor) Size() int64 {
	if t.DType == String {
		var n int64
		for _, s := range t.Str {
			n += int64(len(s))
		}
		return n
	}
	n, ok := t.Elements()
	if !ok {
		return 0
	}
	size, _ := t.DType.ByteSize(n)
	return size
}

// Bytes returns the packed content of a numeric tensor after checking that its
// length agrees with dtype and shape.
func (t *Tensor) Bytes() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if t.DType == String {
		return nil, fmt.Errorf("tensor %q: string tensors have no packed bytes", t.Name)
	}
	if t.Data == nil {
		return nil, nil
	}
	b, err := t.Data.Bytes()
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	return b, nil
}

// check compares the length of the content with dtype and shape, without I/O.
func (t *Tensor) check() error {
	n, ok := t.Elements()
	if !ok {
		return fmt.Errorf("tensor %q: shape %v has a negative size or overflows", t.Name, t.Shape)
	}
	if t.DType == String {
		if int64(len(t.Str)) != n {
			return fmt.Errorf("tensor %q: %d strings, want %d for shape %v", t.Name, len(t.Str), n, t.Shape)
		}
		return nil
	}
	want, ok := t.DType.ByteSize(n)
	if !ok && t.DType.Bits() > 0 {
		return fmt.Errorf("tensor %q: the %d elements of %v%v have more bytes than can be counted", t.Name, n, t.DType, t.Shape)
	}
	if !ok {
		return fmt.Errorf("tensor %q: unknown element type %v", t.Name, t.DType)
	}
	var have int64
	if t.Data != nil {
		have = t.Data.Len()
	}
	if have != want {
		return fmt.Errorf("tensor %q: %d bytes, want %d for %v%v", t.Name, have, want, t.DType, t.Shape)
	}
	return nil
}

// Type returns the type of the value that t initializes.
func (t *Tensor) Type() *Type { return TensorType(t.DType, ShapeOf(t.Shape...)) }

// Renamed returns a copy of t with another name, sharing its content.
func (t *Tensor) Renamed(name string) *Tensor {
	c := *t
	c.Name = name
	return &c
}

// String describes t for messages: name, type and shape.
func (t *Tensor) String() string { return fmt.Sprintf("%s %v%v", t.Name, t.DType, t.Shape) }
