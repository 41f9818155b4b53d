//go:build cgo

package ort

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestCorpus runs the operator tests of the ONNX project, as far as the
// runtime has the operators, and compares with the outputs that come with
// them: every kind of value goes in and out.
func TestCorpus(t *testing.T) {
	lib := zootest.Library(t)
	files := zootest.Archive(t, "onnx-node")
	var same, refused, skipped int
	for name := range files {
		if path.Base(name) != "model.onnx" {
			continue
		}
		model := filepath.Join(t.TempDir(), "model.onnx")
		if err := os.WriteFile(model, files[name], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Opener(lib)(t.Context(), model, session.Options{Threads: 1})
		if err != nil {
			refused++
			continue
		}
		switch err := runData(t, s, files, path.Join(path.Dir(name), "test_data_set_0")); {
		case err == nil:
			same++
		case strings.HasPrefix(err.Error(), "skip: "):
			skipped++
			t.Logf("%s: %v", path.Dir(name), err)
		case strings.Contains(err.Error(), deviations[path.Dir(name)]) && deviations[path.Dir(name)] != "":
			t.Logf("%s: %v", path.Dir(name), err)
		default:
			t.Errorf("%s: %v", path.Dir(name), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d agree, %d do not load in this runtime, %d were not run", same, refused, skipped)
	if same < 500 {
		t.Errorf("only %d operator tests ran", same)
	}
}

// deviations lists the tests in which release 1.30 is known not to do what the
// data says, with what is seen instead.
var deviations = map[string]string{
	"test_maxunpool_export_with_output_shape":           "element 5 is 5, want 0",
	"test_resize_downsample_scales_cubic_align_corners": "element 1 is 2.5",
	"test_convinteger_with_padding":                     "Non per-tensor quantization is not supported",
}

// random marks operators whose outputs are not what the data says.
var random = []string{"bernoulli", "dropout", "random", "training"}

func runData(t *testing.T, s session.Session, files map[string][]byte, dir string) error {
	in := map[string]*onnx.Tensor{}
	for i, p := range s.Inputs() {
		b, ok := files[fmt.Sprintf("%s/input_%d.pb", dir, i)]
		if !ok {
			return fmt.Errorf("skip: no data for input %q", p.Name)
		}
		if err := decode(in, p, p.Type, b); err != nil {
			return err
		}
	}
	r, err := s.Run(t.Context(), in)
	if err != nil {
		if strings.Contains(err.Error(), "neither absent optionals nor empty sequences") {
			return fmt.Errorf("skip: %v", err)
		}
		return err
	}
	want := map[string]*onnx.Tensor{}
	for i, p := range s.Outputs() {
		b, ok := files[fmt.Sprintf("%s/output_%d.pb", dir, i)]
		if !ok {
			return fmt.Errorf("skip: no data for output %q", p.Name)
		}
		if err := decode(want, p, p.Type, b); err != nil {
			return err
		}
	}
	loose := slices.ContainsFunc(random, func(w string) bool { return strings.Contains(dir, w) })
	if len(r.Outputs) != len(want) {
		return fmt.Errorf("%d tensors, want %d", len(r.Outputs), len(want))
	}
	for name, w := range want {
		if err := agree(r.Outputs[name], w, loose); err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
	}
	return nil
}

// decode adds the tensors of a data file under the names of port p.
func decode(to map[string]*onnx.Tensor, p session.Port, typ *onnx.Type, b []byte) error {
	add := func(list []*onnx.Tensor) {
		for i, e := range list {
			to[session.ElementName(p.Name, i)] = e
		}
	}
	switch typ.Kind {
	case onnx.KindSequence:
		list, err := onnxfile.DecodeSequence(b)
		add(list)
		return err
	case onnx.KindOptional:
		o, err := onnxfile.DecodeOptional(b)
		if o.Tensor != nil {
			to[p.Name] = o.Tensor
		}
		add(o.Sequence)
		return err
	}
	e, err := onnxfile.DecodeTensor(b)
	to[p.Name] = e
	return err
}

func agree(got, want *onnx.Tensor, shapeOnly bool) error {
	if got == nil {
		return fmt.Errorf("is absent")
	}
	if got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) {
		return fmt.Errorf("%v%v, want %v%v", got.DType, got.Shape, want.DType, want.Shape)
	}
	if shapeOnly {
		return nil
	}
	if got.DType == onnx.String {
		if !slices.EqualFunc(got.Str, want.Str, bytes.Equal) {
			return fmt.Errorf("%q, want %q", got.Str, want.Str)
		}
		return nil
	}
	g, err := got.Float64s()
	if err != nil { // complex
		x, _ := got.Bytes()
		y, _ := want.Bytes()
		if !bytes.Equal(x, y) {
			return fmt.Errorf("bytes differ")
		}
		return nil
	}
	w, err := want.Float64s()
	if err != nil {
		return err
	}
	tolerance := 1e-3
	if got.DType.Bits() <= 16 && got.DType.IsFloat() {
		tolerance = 2e-2
	}
	for i := range w {
		if g[i] == w[i] || math.IsNaN(g[i]) && math.IsNaN(w[i]) {
			continue
		}
		if !(math.Abs(g[i]-w[i]) <= tolerance*(1+math.Abs(w[i]))) {
			return fmt.Errorf("element %d is %v, want %v", i, g[i], w[i])
		}
	}
	return nil
}
