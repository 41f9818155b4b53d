package fuse_test

import (
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

const dynamicModel = `<ir_version: 8, opset_import: ["" : 17]>
main (float[N,?,3] x, float[N,M] z) => (float[N,A,3] y, int64[2,K] w) {
  s = Shape (x)
  r = Reshape (x, s)
  y = Relu (r)
  w = NonZero (z)
}`

func specialize(t *testing.T, o fuse.Options) (*onnx.Model, string, error) {
	t.Helper()
	m, err := onnxtext.Parse("model", []byte(dynamicModel))
	if err != nil {
		t.Fatal(err)
	}
	log, err := fuse.Model(t.Context(), m, o)
	if err != nil {
		return nil, "", err
	}
	return m, strings.Join(log.Notices, "\n"), nil
}

// TestInputShape gives an input its whole shape: a symbol that this settles is
// settled everywhere, and what stays dynamic is said with the reason.
func TestInputShape(t *testing.T) {
	m, notices, err := specialize(t, fuse.Options{InputShapes: map[string][]int64{"x": {2, 5, 3}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{
		{m.Graph.Inputs()[0].Type.String(), "float[2,5,3]"},
		{m.Graph.Inputs()[1].Type.String(), "float[2,M]"},
		{m.Graph.Outputs()[0].Type.Shape[0].String(), "2"},
	} {
		if c.got != c.want {
			t.Errorf("have %s, want %s", c.got, c.want)
		}
	}
	for _, want := range []string{`input "z" keeps the shape [2,M]`} {
		if !strings.Contains(notices, want) {
			t.Errorf("notices %q, want %q", notices, want)
		}
	}
	_, notices, err = specialize(t, fuse.Options{InputShapes: map[string][]int64{"x": {2, 5, 3}, "z": {-1, 4}}})
	if err != nil || !strings.Contains(notices, "(NonZero)") || !strings.Contains(notices, "it depends on data") {
		t.Errorf("notices %q, error %v", notices, err)
	}
}

func TestInputShapeRefused(t *testing.T) {
	for _, c := range []struct {
		shapes map[string][]int64
		want   string
	}{
		{map[string][]int64{"q": {1}}, "no input of that name; there are: x, z"},
		{map[string][]int64{"x": {1, 2}}, "2 sizes for the 3 dimensions"},
		{map[string][]int64{"x": {1, 2, 4}}, "is 3 already, not 4"},
		{map[string][]int64{"x": {0, 2, 3}}, "cannot be 0"},
		{map[string][]int64{"x": {1, 2, 3}, "z": {2, 2}}, `"N" cannot be both 1 and 2`},
	} {
		if _, _, err := specialize(t, fuse.Options{InputShapes: c.shapes}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v, want %q", c.shapes, err, c.want)
		}
	}
}
