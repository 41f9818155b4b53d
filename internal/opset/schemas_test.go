package opset_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// rowless are the operators of the standard domains that have no row: they came
// after opset 24 or are experimental.
var rowless = []string{"CausalConvWithState", "LinearAttention", "FlexAttention"}

// TestSchemas compares every form of every row with what ONNX, and for
// com.microsoft ONNX Runtime, defines (testdata/schemas.py).
func TestSchemas(t *testing.T) {
	b, err := os.ReadFile("testdata/schemas.tsv")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		version, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		op := opset.Lookup(f[0], f[1], version)
		if op == nil {
			if f[0] != "com.microsoft" && !slices.Contains(rowless, f[1]) {
				t.Errorf("%s.%s %d has no row", f[0], f[1], version)
			}
			continue
		}
		compared++
		got := []string{f[0], f[1], strconv.FormatInt(op.Since, 10), slotText(op.Inputs), slotText(op.Outputs), attrText(op.Attrs)}
		if diff := cmp.Diff(f, got); diff != "" {
			t.Errorf("%s.%s %d (-schema +row):\n%s", f[0], f[1], version, diff)
		}
	}
	if compared < 600 {
		t.Errorf("only %d forms compared", compared)
	}
}

func slotText(slots []opset.Slot) string {
	var out []string
	for _, s := range slots {
		text := s.Name
		switch {
		case s.Variadic && s.AtLeast > 0:
			text += "+"
		case s.Variadic:
			text += "*"
		case s.Optional:
			text += "?"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func attrText(attrs []opset.AttrSpec) string {
	var out []string
	for _, a := range attrs {
		text := a.Name + ":" + a.Type.String()
		if a.Required {
			text += "!"
		}
		if a.Default != nil {
			text += "=" + defaultText(a.Default)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func defaultText(a *onnx.Attr) string {
	switch a.Type {
	case onnx.AttrInt:
		return strconv.FormatInt(a.I, 10)
	case onnx.AttrFloat:
		s := strconv.FormatFloat(float64(a.F), 'g', 7, 32)
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			s = strconv.FormatFloat(f, 'g', -1, 64)
		}
		return s
	case onnx.AttrString:
		return string(a.S)
	case onnx.AttrInts:
		var out []string
		for _, i := range a.Ints {
			out = append(out, strconv.FormatInt(i, 10))
		}
		return strings.Join(out, ",")
	case onnx.AttrStrings:
		var out []string
		for _, s := range a.Strings {
			out = append(out, string(s))
		}
		return strings.Join(out, ",")
	}
	return "?"
}
