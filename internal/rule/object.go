package rule

import (
	"errors"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// object is a JSON object as a value of CEL. Its fields are read by the schema's FindStructFieldType.
type object struct {
	of     *structType
	path   string // from the document, "" for the document itself
	fields map[string]any
	absent bool // the document does not have it
}

// at returns the path of a field.
func (o *object) at(field string) string {
	if o.path == "" {
		return field
	}
	return o.path + "." + field
}

// ConvertToNative implements [ref.Val].
func (o *object) ConvertToNative(reflect.Type) (any, error) {
	return nil, errors.New("an object cannot be converted")
}

// ConvertToType implements [ref.Val].
func (o *object) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return o.of.typ
	}
	return types.NewErr("an object cannot be converted to %s", t.TypeName())
}

// Equal implements [ref.Val]: objects are compared by their fields, one by one.
func (o *object) Equal(ref.Val) ref.Val {
	return types.NewErr("objects cannot be compared; compare their fields")
}

// Type implements [ref.Val].
func (o *object) Type() ref.Type { return o.of.typ }

// Value implements [ref.Val].
func (o *object) Value() any { return o }
