package onnx_test

import (
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestCheck breaks a valid model in one way at a time.
func TestCheck(t *testing.T) {
	const text = `<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
main (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
  a = Add (x, w)
  b = local.f (a)
  y = If <then_branch = g () => (float[2] p) { q = Neg (b) p = Abs (q) }, else_branch = h () => (float[2] p) { p = Exp (b) }> (c)
}
<domain: "local", opset_import: ["" : 17]>
f (m) => (n) { n = Relu (m) }`
	if err := parse(t, text).Check(); err != nil {
		t.Fatal(err)
	}
	attr := func(m *onnx.Model, a *onnx.Attr) {
		n := value(t, m, "a").Producer()
		n.Attrs = append(n.Attrs, a)
	}
	for name, tc := range map[string]struct {
		breakIt func(m *onnx.Model)
		want    string
	}{
		"no graph":         {func(m *onnx.Model) { m.Graph = nil }, "there is no graph"},
		"no operator":      {func(m *onnx.Model) { value(t, m, "a").Producer().Op = "" }, "it has no operator type"},
		"domain":           {func(m *onnx.Model) { value(t, m, "a").Producer().Domain = "other" }, `domain "other" is not among the opset imports`},
		"order":            {func(m *onnx.Model) { g := m.Graph; g.MoveBefore(value(t, m, "b").Producer(), g.First()) }, `input 0 "a" is computed only later`},
		"order of capture": {func(m *onnx.Model) { g := m.Graph; g.MoveBefore(value(t, m, "y").Producer(), g.First()) }, `input 0 "b" is computed only later`},
		"name taken":       {func(m *onnx.Model) { must(t, value(t, m, "a").Rename("b")) }, `value "b" is defined twice`},
		"no name":          {func(m *onnx.Model) { must(t, value(t, m, "a").Rename("")) }, "a value has no name"},
		"undefined": {func(m *onnx.Model) { value(t, m, "a").Producer().SetInput(0, m.Graph.AddDangling("u")) },
			`input 0 "u" is not defined by any input, constant or node`},
		"inner value outside": {func(m *onnx.Model) { value(t, m, "b").Producer().SetInput(0, value(t, m, "q")) }, "which does not enclose this one"},
		"short content": {func(m *onnx.Model) {
			w := value(t, m, "w")
			w.Const = &onnx.Tensor{Name: "w", DType: onnx.Float, Shape: []int64{3}, Data: w.Const.Data}
		}, "w"},
		"attribute twice":        {func(m *onnx.Model) { attr(m, onnx.IntAttr("k", 1)); attr(m, onnx.IntAttr("k", 1)) }, `attribute "k" is given twice`},
		"attribute without name": {func(m *onnx.Model) { attr(m, onnx.IntAttr("", 1)) }, "an attribute has no name"},
		"attribute without type": {func(m *onnx.Model) { attr(m, &onnx.Attr{Name: "k"}) }, `attribute "k" has no type`},
		"attribute without graph": {func(m *onnx.Model) { attr(m, &onnx.Attr{Name: "k", Type: onnx.AttrGraph}) },
			`attribute "k" has no graph`},
		"recursion": {func(m *onnx.Model) {
			n := value(t, m, "n").Producer()
			n.Op, n.Domain = "f", "local"
		}, "it calls itself"},
		"function without name": {func(m *onnx.Model) { m.Functions[0].Name = "" }, "it has no name"},
		"function without body": {func(m *onnx.Model) { m.Functions[0].Body = nil }, "it has no body"},
	} {
		t.Run(name, func(t *testing.T) {
			m := parse(t, text)
			tc.breakIt(m)
			if err := m.Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
