package rule

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// schema is CEL's view of the Go types: its type provider and adapter. Only these types exist by name, so that an expression cannot make
// values of the types that the library brings along.
type schema struct {
	types.Adapter
	root    *structType
	structs map[string]*structType // by CEL name
}

// structType is a struct with its fields by JSON name.
type structType struct {
	typ    *types.Type
	fields map[string]*fieldType
}

// fieldType is what a field or an element holds.
type fieldType struct {
	typ  *types.Type
	of   *structType // of an object
	elem *fieldType  // of a list
}

var timeType = reflect.TypeFor[time.Time]()

func schemaOf(name string, t reflect.Type, hidden []string) (*schema, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	s := &schema{Adapter: registry, structs: map[string]*structType{}}
	if s.root, err = s.object(t); err != nil {
		return nil, fmt.Errorf("the type of %s: %v", name, err)
	}
	for _, field := range hidden {
		if s.root.fields[field] == nil {
			return nil, fmt.Errorf("the type of %s has no field %q to hide", name, field)
		}
		delete(s.root.fields, field)
	}
	return s, nil
}

// object adds a struct type.
func (s *schema) object(t reflect.Type) (*structType, error) {
	name := "lapidary." + t.Name()
	if known := s.structs[name]; known != nil {
		return known, nil
	}
	if t.Kind() != reflect.Struct || t.Name() == "" {
		return nil, fmt.Errorf("%v is not a named struct", t)
	}
	out := &structType{typ: types.NewObjectType(name), fields: map[string]*fieldType{}}
	s.structs[name] = out
	for i := range t.NumField() {
		f := t.Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key == "" || key == "-" {
			continue
		}
		ft, err := s.field(f.Type)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %v", t.Name(), f.Name, err)
		}
		out.fields[key] = ft
	}
	return out, nil
}

func (s *schema) field(t reflect.Type) (*fieldType, error) {
	switch {
	case t == timeType:
		return &fieldType{typ: types.StringType}, nil
	case t.Kind() == reflect.Pointer:
		return s.field(t.Elem())
	case t.Kind() == reflect.String:
		return &fieldType{typ: types.StringType}, nil
	case t.Kind() == reflect.Bool:
		return &fieldType{typ: types.BoolType}, nil
	case t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32:
		return &fieldType{typ: types.DoubleType}, nil
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		return &fieldType{typ: types.IntType}, nil
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Array:
		elem, err := s.field(t.Elem())
		if err != nil {
			return nil, err
		}
		return &fieldType{typ: types.NewListType(elem.typ), elem: elem}, nil
	case t.Kind() == reflect.Struct:
		of, err := s.object(t)
		if err != nil {
			return nil, err
		}
		return &fieldType{typ: of.typ, of: of}, nil
	}
	return nil, fmt.Errorf("a field of type %v has no counterpart in CEL", t)
}

// value returns the JSON value v, found at path, as CEL sees it.
func (s *schema) value(t *fieldType, v any, path string) (ref.Val, error) {
	switch v := v.(type) {
	case string:
		if t.typ == types.StringType {
			return types.String(v), nil
		}
	case bool:
		if t.typ == types.BoolType {
			return types.Bool(v), nil
		}
	case json.Number:
		return number(t, v, path)
	case map[string]any:
		if t.of != nil {
			return &object{of: t.of, path: path, fields: v}, nil
		}
	case []any:
		if t.elem == nil {
			break
		}
		elems := make([]ref.Val, len(v))
		for i, e := range v {
			var err error
			if elems[i], err = s.value(t.elem, e, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return nil, err
			}
		}
		return types.NewRefValList(s, elems), nil
	}
	return nil, fmt.Errorf("%s is not of the type %s", path, t.typ)
}

func number(t *fieldType, v json.Number, path string) (ref.Val, error) {
	switch t.typ {
	case types.DoubleType:
		f, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("%s: %v is not a number that can be held", path, v)
		}
		return types.Double(f), nil
	case types.IntType:
		i, err := v.Int64()
		if err != nil {
			return nil, fmt.Errorf("%s: %v is not a whole number that can be held", path, v)
		}
		return types.Int(i), nil
	}
	return nil, fmt.Errorf("%s is not of the type %s", path, t.typ)
}

// FindStructFieldType implements [types.Provider].
func (s *schema) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	t := s.structs[name]
	if t == nil || t.fields[field] == nil {
		return nil, false
	}
	return &types.FieldType{
		Type:    t.fields[field].typ,
		IsSet:   func(v any) bool { o, ok := v.(*object); return ok && o.fields[field] != nil },
		GetFrom: func(v any) (any, error) { return s.get(v, field) },
	}, true
}

// get returns a field of an object. An object that is absent is found to be so by whoever asks for its fields, so that has() can be
// asked of them.
func (s *schema) get(v any, field string) (any, error) {
	o, ok := v.(*object)
	if !ok {
		return nil, fmt.Errorf("a value of type %T has no fields", v)
	}
	if o.absent {
		return nil, &AbsentError{o.path}
	}
	path, t := o.at(field), o.of.fields[field]
	switch x := o.fields[field]; {
	case x != nil:
		return s.value(t, x, path)
	case t.of != nil:
		return &object{of: t.of, path: path, absent: true}, nil
	}
	return nil, &AbsentError{path}
}

// FindStructType implements [types.Provider].
func (s *schema) FindStructType(name string) (*types.Type, bool) {
	if t := s.structs[name]; t != nil {
		return types.NewTypeTypeWithParam(t.typ), true
	}
	return nil, false
}

// FindStructFieldNames implements [types.Provider].
func (s *schema) FindStructFieldNames(name string) ([]string, bool) {
	t := s.structs[name]
	if t == nil {
		return nil, false
	}
	var names []string
	for n := range t.fields {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, true
}

// EnumValue implements [types.Provider]: there are none.
func (s *schema) EnumValue(name string) ref.Val { return types.NewErr("there is no constant %q", name) }

// FindIdent implements [types.Provider]: nothing but the variable has a name.
func (s *schema) FindIdent(string) (ref.Val, bool) { return nil, false }

// NewValue implements [types.Provider]: an expression reads what was measured and makes none of it.
func (s *schema) NewValue(name string, _ map[string]ref.Val) ref.Val {
	return types.NewErr("a %s cannot be made here", name)
}
