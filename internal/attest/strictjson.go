package attest

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// JSONOptions bounds [UnmarshalStrict]. The zero value is the strictest.
type JSONOptions struct {
	MaxBytes     int  // largest document in bytes; 0 means 64 MiB
	MaxDepth     int  // most nested objects and arrays; 0 means 64
	AllowUnknown bool // ignore fields that the target does not have
}

// UnmarshalStrict is json.Unmarshal for documents that must mean the same to every
// reader. encoding/json keeps the last of several fields with the same name, takes
// "Verdict" for "verdict", and replaces invalid UTF-8; another reader may see
// another document. Here these are errors, as are fields that v does not have
// (unless allowed), anything after the document, and one that is too large or too
// deep. v should point to a zero value.
//
// Repeated fields are refused everywhere, misspelt and unknown ones where v says
// which fields there are: in structs, however nested, but not below maps of raw
// messages or types that decode themselves.
func UnmarshalStrict(data []byte, v any, o JSONOptions) error {
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxDepth == 0 {
		o.MaxDepth = 64
	}
	if len(data) > o.MaxBytes {
		return fmt.Errorf("%d bytes of JSON, at most %d are accepted", len(data), o.MaxBytes)
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("not valid UTF-8")
	}
	if !json.Valid(data) {
		var raw json.RawMessage
		return fmt.Errorf("not valid JSON: %v", json.Unmarshal(data, &raw))
	}
	w := jsonWalker{
		dec:    json.NewDecoder(bytes.NewReader(data)),
		opts:   o,
		fields: map[reflect.Type]map[string]reflect.Type{},
	}
	w.dec.UseNumber()
	if err := w.value(reflect.TypeOf(v), 0); err != nil {
		return err // not returned as it is: a nil *jsonError is no nil error
	}
	err := json.Unmarshal(data, v)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return &jsonError{path: mismatch.Field, msg: fmt.Sprintf("have %s, want %s", mismatch.Value, wanted(mismatch.Type))}
	}
	return err
}

// wanted says in JSON's words what a Go type is decoded from.
func wanted(t reflect.Type) string {
	switch k := t.Kind(); {
	case k == reflect.String:
		return "a text"
	case k == reflect.Bool:
		return "true or false"
	case k == reflect.Float64, k == reflect.Float32:
		return "a number that 64 bits hold"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "a whole number that 64 bits hold"
	case k == reflect.Slice, k == reflect.Array:
		return "a list"
	}
	return "an object"
}

// maxPath bounds a place in a message, in bytes.
const maxPath = 100

// jsonError is a fault at a place in the document, such as "subject[1].name".
type jsonError struct {
	path, msg string
}

func (e *jsonError) Error() string {
	if e.path == "" {
		return e.msg
	}
	if len(e.path) > maxPath {
		return e.path[:maxPath] + "…: " + e.msg
	}
	return e.path + ": " + e.msg
}

// under puts the place of the surrounding value before the error's own.
func (e *jsonError) under(place string) *jsonError {
	if e == nil {
		return nil
	}
	switch {
	case e.path == "" || strings.HasPrefix(e.path, "["):
		e.path = place + e.path
	default:
		e.path = place + "." + e.path
	}
	return e
}

// jsonWalker reads a valid document token by token beside the type it will be
// decoded into.
type jsonWalker struct {
	dec    *json.Decoder
	opts   JSONOptions
	fields map[reflect.Type]map[string]reflect.Type // of the structs met so far
}

// value checks the next value, which is meant for a t; nil stands for any type.
func (w *jsonWalker) value(t reflect.Type, depth int) *jsonError {
	tok, err := w.dec.Token()
	if err != nil {
		return &jsonError{msg: err.Error()}
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	if depth == w.opts.MaxDepth {
		return &jsonError{msg: fmt.Sprintf("nested more than %d deep", w.opts.MaxDepth)}
	}
	if delim == '[' {
		return w.array(elemOf(t, reflect.Slice, reflect.Array), depth)
	}
	fields, ok := w.fields[t]
	if !ok {
		fields = fieldsOf(t)
		w.fields[t] = fields
	}
	return w.object(fields, elemOf(t, reflect.Map), depth)
}

func (w *jsonWalker) array(elem reflect.Type, depth int) *jsonError {
	for i := 0; w.dec.More(); i++ {
		if err := w.value(elem, depth+1); err != nil {
			return err.under(fmt.Sprintf("[%d]", i))
		}
	}
	return w.end()
}

func (w *jsonWalker) object(fields map[string]reflect.Type, elem reflect.Type, depth int) *jsonError {
	seen := map[string]bool{}
	for w.dec.More() {
		tok, err := w.dec.Token()
		if err != nil {
			return &jsonError{msg: err.Error()}
		}
		key := tok.(string)
		if seen[key] {
			return &jsonError{msg: fmt.Sprintf("field %q appears twice", key)}
		}
		seen[key] = true
		t := elem
		if fields != nil {
			if t, err = w.field(fields, key); err != nil {
				return &jsonError{msg: err.Error()}
			}
		}
		if err := w.value(t, depth+1); err != nil {
			return err.under(key)
		}
	}
	return w.end()
}

// end reads the closing delimiter.
func (w *jsonWalker) end() *jsonError {
	if _, err := w.dec.Token(); err != nil {
		return &jsonError{msg: err.Error()}
	}
	return nil
}

func (w *jsonWalker) field(fields map[string]reflect.Type, key string) (reflect.Type, error) {
	if t, ok := fields[key]; ok {
		return t, nil
	}
	for name := range fields {
		if strings.EqualFold(name, key) {
			return nil, fmt.Errorf("field %q must be spelt %q", key, name)
		}
	}
	if !w.opts.AllowUnknown {
		return nil, fmt.Errorf("unknown field %q", key)
	}
	return nil, nil
}

// elemOf returns the element type of t if t is of one of the kinds, else nil.
func elemOf(t reflect.Type, kinds ...reflect.Kind) reflect.Type {
	t = plain(t)
	for _, k := range kinds {
		if t != nil && t.Kind() == k {
			return t.Elem()
		}
	}
	return nil
}

// fieldsOf returns the JSON names of a struct's fields with their types, and nil
// for any other type.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	t = plain(t)
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		if tag == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if embedded := fieldsOf(f.Type); f.Anonymous && name == "" && embedded != nil {
			for n, et := range embedded {
				if _, shadowed := fields[n]; !shadowed {
					fields[n] = et
				}
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields[name] = f.Type
	}
	return fields
}

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// plain follows pointers, and returns nil for a type that decodes itself.
func plain(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return nil
	}
	if p := reflect.PointerTo(t); p.Implements(jsonUnmarshaler) || p.Implements(textUnmarshaler) {
		return nil
	}
	return t
}
