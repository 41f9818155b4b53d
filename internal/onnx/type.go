package onnx

// TypeKind says which of ONNX's type constructors a [Type] is.
type TypeKind uint8

// The kinds of TypeProto.
const (
	KindUnknown TypeKind = iota
	KindTensor
	KindSparseTensor
	KindSequence
	KindMap
	KindOptional
	KindOpaque
)

// Type is the type of a value. A nil *Type means that nothing is known.
// Types are immutable once attached to a value; edits attach a new one.
type Type struct {
	Kind       TypeKind
	Elem       DType // element type of a tensor; Undefined if unknown
	Shape      Shape // tensors: nil where the rank is unknown
	Of         *Type // element of a sequence or optional, value of a map
	Key        DType // key type of a map
	Denotation string
	Opaque     []byte // encoded TypeProto.Opaque, passed through
	Unknown    []byte // fields this package does not know, as encoded
}

// TensorType returns the type of a dense tensor; shape nil means unknown rank.
func TensorType(elem DType, shape Shape) *Type {
	return &Type{Kind: KindTensor, Elem: elem, Shape: shape}
}

// IsTensor reports whether t is known to be a dense tensor.
func (t *Type) IsTensor() bool { return t != nil && t.Kind == KindTensor }

// WithShape returns a copy of t whose shape is s.
func (t *Type) WithShape(s Shape) *Type {
	c := *t
	c.Shape = s
	return &c
}

// Equal reports whether both types are known and certainly equal.
func (t *Type) Equal(u *Type) bool {
	if t == nil || u == nil || t.Kind != u.Kind {
		return false
	}
	switch t.Kind {
	case KindTensor, KindSparseTensor:
		return t.Elem == u.Elem && t.Shape.Equal(u.Shape)
	case KindSequence, KindOptional:
		return t.Of.Equal(u.Of)
	case KindMap:
		return t.Key == u.Key && t.Of.Equal(u.Of)
	case KindOpaque:
		return string(t.Opaque) == string(u.Opaque)
	}
	return false
}

// Contradicts reports whether no value can have both types.
func (t *Type) Contradicts(u *Type) bool {
	if t == nil || u == nil || t.Kind == KindUnknown || u.Kind == KindUnknown {
		return false
	}
	if t.Kind != u.Kind {
		return true
	}
	switch t.Kind {
	case KindTensor, KindSparseTensor:
		return t.Elem != u.Elem && t.Elem != Undefined && u.Elem != Undefined || t.Shape.Contradicts(u.Shape)
	case KindSequence, KindOptional:
		return t.Of.Contradicts(u.Of)
	case KindMap:
		return t.Key != u.Key || t.Of.Contradicts(u.Of)
	}
	return false
}

// String returns the type in the ONNX text form, such as "float[N,3]" or "seq(int64[])".
func (t *Type) String() string {
	if t == nil {
		return "?"
	}
	switch t.Kind {
	case KindTensor:
		if t.Shape == nil {
			return t.Elem.String()
		}
		return t.Elem.String() + t.Shape.String()
	case KindSparseTensor:
		return "sparse_tensor(" + t.Elem.String() + t.Shape.String() + ")"
	case KindSequence:
		return "seq(" + t.Of.String() + ")"
	case KindOptional:
		return "optional(" + t.Of.String() + ")"
	case KindMap:
		return "map(" + t.Key.String() + "," + t.Of.String() + ")"
	case KindOpaque:
		return "opaque"
	}
	return "?"
}
