package opset

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// row is one operator as the table is written.
//
// versions: the versions of its domain that changed it, ascending; "10!" where
// it is deprecated at that version.
//
// in, out: slots separated by spaces; "B?" may be omitted, "xs*" repeats any
// number of times, "xs+" at least once. "data|13:data axes?" gives other slots
// from version 13 on.
//
// attrs: "axis:int=0" with a default, "to:int!" required, "axes:ints" neither;
// "@..12" and "@13" and "@7..12" limit an attribute to versions.
type row struct {
	name     string
	versions string
	in, out  string
	attrs    string
	flags    Flags
	infer    func(*call)
	cost     func(*costing)
}

// forms expands a row into one Op per version. A row that does not parse is a bug.
func (r *row) forms(domain string) []*Op {
	var versions []int64
	deprecated := map[int64]Flags{}
	for f := range strings.FieldsSeq(r.versions) {
		v := must(strconv.ParseInt(strings.TrimSuffix(f, "!"), 10, 64))
		versions = append(versions, v)
		if strings.HasSuffix(f, "!") {
			deprecated[v] = Deprecated
		}
	}
	var out []*Op
	for _, v := range versions {
		op := &Op{Domain: domain, Name: r.name, Since: v, Versions: versions, Flags: r.flags | deprecated[v],
			Inputs: parseSlots(at(r.in, v)), Outputs: parseSlots(at(r.out, v)), infer: r.infer, cost: r.cost}
		for f := range strings.FieldsSeq(r.attrs) {
			spec, in := parseAttr(f, v)
			if in {
				op.Attrs = append(op.Attrs, spec)
			}
		}
		out = append(out, op)
	}
	return out
}

// at returns the alternative of "a|13:b|18:c" in force at version v.
func at(s string, v int64) string {
	parts := strings.Split(s, "|")
	for _, p := range slices.Backward(parts[1:]) {
		from, text, _ := strings.Cut(p, ":")
		if must(strconv.ParseInt(from, 10, 64)) <= v {
			return text
		}
	}
	return parts[0]
}

func parseSlots(s string) []Slot {
	var out []Slot
	for f := range strings.FieldsSeq(s) {
		slot := Slot{Name: strings.TrimRight(f, "?*+")}
		switch f[len(f)-1] {
		case '?':
			slot.Optional = true
		case '*':
			slot.Variadic = true
		case '+':
			slot.Variadic, slot.AtLeast = true, 1
		}
		out = append(out, slot)
	}
	return out
}

// parseAttr reads one attribute and reports whether it exists at version v.
func parseAttr(s string, v int64) (AttrSpec, bool) {
	s, span, limited := strings.Cut(s, "@")
	if limited {
		lo, hi, closed := strings.Cut(span, "..")
		if lo != "" && v < must(strconv.ParseInt(lo, 10, 64)) || closed && v > must(strconv.ParseInt(hi, 10, 64)) {
			return AttrSpec{}, false
		}
	}
	name, rest, _ := strings.Cut(s, ":")
	kind, def, hasDefault := strings.Cut(rest, "=")
	spec := AttrSpec{Name: name, Required: strings.HasSuffix(kind, "!")}
	kind = strings.TrimSuffix(kind, "!")
	for t := onnx.AttrFloat; t <= onnx.AttrTypeProtos; t++ {
		if t.String() == kind {
			spec.Type = t
		}
	}
	if spec.Type == onnx.AttrUndefined {
		panic("opset: unknown attribute type in " + s)
	}
	if hasDefault {
		spec.Default = parseDefault(name, spec.Type, def)
	}
	return spec, true
}

func parseDefault(name string, t onnx.AttrType, s string) *onnx.Attr {
	a := &onnx.Attr{Name: name, Type: t}
	switch t {
	case onnx.AttrInt:
		a.I = must(strconv.ParseInt(s, 10, 64))
	case onnx.AttrFloat:
		a.F = float32(must(strconv.ParseFloat(s, 32)))
	case onnx.AttrString:
		a.S = []byte(s)
	case onnx.AttrInts:
		for f := range strings.SplitSeq(s, ",") {
			a.Ints = append(a.Ints, must(strconv.ParseInt(f, 10, 64)))
		}
	case onnx.AttrFloats:
		for f := range strings.SplitSeq(s, ",") {
			a.Floats = append(a.Floats, float32(must(strconv.ParseFloat(f, 32))))
		}
	case onnx.AttrStrings:
		for f := range strings.SplitSeq(s, ",") {
			a.Strings = append(a.Strings, []byte(f))
		}
	default:
		panic(fmt.Sprintf("opset: default of %s: no notation for %v", name, t))
	}
	return a
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("opset: " + err.Error())
	}
	return v
}
