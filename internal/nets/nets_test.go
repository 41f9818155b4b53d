package nets_test

import (
	"bytes"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

func runtimeOpener(t *testing.T) session.Opener { return ort.Opener(zootest.Library(t)) }

// each calls f for every network in every style.
func each(t *testing.T, f func(t *testing.T, name string, style nets.Style)) {
	for _, name := range nets.Names() {
		for _, s := range nets.StylesOf(name) {
			t.Run(name+"/"+string(s), func(t *testing.T) { f(t, name, s) })
		}
	}
}

// TestRuns loads every network in every style with the runtime's optimizations
// off and on: both compute the same, finite and not all alike.
func TestRuns(t *testing.T) {
	open := runtimeOpener(t)
	each(t, func(t *testing.T, name string, style nets.Style) {
		m, err := nets.Build(name, nets.Options{Style: style})
		if err != nil {
			t.Fatal(err)
		}
		in, err := nets.Inputs(m, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "model.onnx")
		if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		want := run(t, open, path, session.LevelOff, in)
		sane(t, want)
		all, err := compare.Outputs(want, run(t, open, path, session.LevelAll, in), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			if !d.OK {
				t.Errorf("output %s with optimizations on: %s", d.Name, d.Reason)
			}
		}
	})
}

func run(t *testing.T, open session.Opener, path string, level session.Level, in map[string]*onnx.Tensor) map[string]*onnx.Tensor {
	t.Helper()
	s, err := open(t.Context(), path, session.Options{Level: level, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return r.Outputs
}

// sane checks that outputs are finite, and vary along their last axis and from
// one sample to the next.
func sane(t *testing.T, out map[string]*onnx.Tensor) {
	t.Helper()
	for name, o := range out {
		x, err := o.Float64s()
		if err != nil {
			t.Fatal(err)
		}
		var largest float64
		for _, v := range x {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Fatalf("output %s has %v", name, v)
			}
			largest = max(largest, math.Abs(v))
		}
		if lo, hi := slices.Min(x), slices.Max(x); hi-lo < 0.01*largest || largest < 1e-3 || largest > 1e4 {
			t.Errorf("output %s lies in [%g, %g]", name, lo, hi)
		}
		if n := int(o.Shape[0]); n > 1 {
			var apart float64
			for i := range x[:len(x)/n] {
				apart = max(apart, math.Abs(x[i]-x[i+len(x)/n]))
			}
			if apart < 1e-3*largest {
				t.Errorf("output %s hardly depends on the sample: %g of %g", name, apart, largest)
			}
		}
	}
}

// TestShapes infers every network in every style: nothing is unknown to the
// operator table, nothing contradicts what the network declares.
func TestShapes(t *testing.T) {
	each(t, func(t *testing.T, name string, style nets.Style) {
		m, err := nets.Build(name, nets.Options{Style: style})
		if err != nil {
			t.Fatal(err)
		}
		f, err := opset.Infer(m, opset.Options{IgnoreValueInfo: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range f.Contradictions {
			t.Errorf("%s is declared %v and is %v", c.Value.Name(), c.Declared, c.Inferred)
		}
		for _, op := range f.Unsupported {
			t.Errorf("operator %s is not known", op)
		}
		for _, o := range m.Graph.Outputs() {
			if !f.Shape(o).Ranked() {
				t.Errorf("the rank of output %s is not known", o.Name())
			}
		}
	})
}

// TestOpsets loads networks at the opsets between which exporters' output differs.
func TestOpsets(t *testing.T) {
	open := runtimeOpener(t)
	for _, version := range []int64{11, 13, 17, 20, 24} {
		for _, name := range nets.Names() {
			for _, s := range nets.StylesOf(name) {
				if s != nets.TorchScript && version < 18 {
					continue
				}
				m, err := nets.Build(name, nets.Options{Style: s, Opset: version})
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(t.TempDir(), "model.onnx")
				if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
					t.Fatal(err)
				}
				e, err := open(t.Context(), path, session.Options{Level: session.LevelOff, Threads: 1})
				if err != nil {
					t.Errorf("%s, %s at opset %d: %v", name, s, version, err)
					continue
				}
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestSameInEveryStyle: the styles are of the same network.
func TestSameInEveryStyle(t *testing.T) {
	for _, name := range nets.Names() {
		want, err := nets.Truth(name, nets.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range nets.StylesOf(name) {
			got, err := nets.Truth(name, nets.Options{Style: s})
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range nets.Kinds {
				if got[k] != want[k] {
					t.Errorf("%s has %d of %s in the style of %s, and %d in that of %s", name, got[k], k, s, want[k], nets.TorchScript)
				}
			}
		}
	}
}

// TestDeterministic: the same options give the same bytes, another seed others;
// a tensor is the same as a whole and in pieces.
func TestDeterministic(t *testing.T) {
	encode := func(seed uint64) string {
		m, err := nets.Build("bert", nets.Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		b, err := onnxfile.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	a := encode(1)
	if a != encode(1) {
		t.Error("two builds differ")
	}
	if a == encode(2) {
		t.Error("the seed makes no difference")
	}
	m, err := nets.Build("whisper-encoder", nets.Options{Full: true, DType: onnx.Float16})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range m.Graph.Initializers() {
		if v.Const.Size() < 1<<18 {
			continue
		}
		whole, err := v.Const.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		var pieces strings.Builder
		if _, err := onnx.WriteData(&pieces, v.Const.Data); err != nil || pieces.String() != string(whole) {
			t.Fatalf("%s differs when written in pieces (%v)", v.Name(), err)
		}
		return
	}
	t.Error("no large tensor")
}

// TestHalf builds networks in float16 and runs them.
func TestHalf(t *testing.T) {
	open := runtimeOpener(t)
	for _, name := range []string{"bert", "gpt2", "llama", "resnet50", "unet"} {
		for _, s := range []nets.Style{nets.TorchScript, nets.Dynamo} {
			m, err := nets.Build(name, nets.Options{Style: s, DType: onnx.Float16})
			if err != nil {
				t.Fatal(err)
			}
			in, err := nets.Inputs(m, 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "model.onnx")
			if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			sane(t, run(t, open, path, session.LevelOff, in))
		}
	}
}

// TestFixed builds with fixed sizes: no Shape is left where a style reads sizes only then.
func TestFixed(t *testing.T) {
	open := runtimeOpener(t)
	for _, name := range []string{"bert", "gpt2", "llama", "vit"} {
		for _, s := range []nets.Style{nets.TorchScript, nets.Dynamo} {
			m, err := nets.Build(name, nets.Options{Style: s, Batch: 2, Seq: 5})
			if err != nil {
				t.Fatal(err)
			}
			in, err := nets.Inputs(m, 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "model.onnx")
			if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			sane(t, run(t, open, path, session.LevelOff, in))
		}
	}
}

// TestSparse writes the 7B shape: 27 GB that take next to nothing on disk.
func TestSparse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := nets.WriteSparse(path, "llama-7b", nets.Options{Full: true}); err != nil {
		t.Fatal(err)
	}
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if n := parameters(m); n < 6.7e9 {
		t.Errorf("%.0f parameters", n)
	}
	heads := map[string]bool{}
	for _, v := range m.Graph.Initializers() {
		if v.Const.External == nil {
			continue
		}
		b, err := v.Const.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if heads[string(b[:8])] || b[len(b)-1] != 0 {
			t.Errorf("%s begins like another weight, or does not end in zeros", v.Name())
		}
		heads[string(b[:8])] = true
	}
	if len(heads) < 200 {
		t.Errorf("only %d weights are outside", len(heads))
	}
}

// TestWrite writes a network with its weights inside and beside it: both are the same model.
func TestWrite(t *testing.T) {
	want, err := nets.Build("llama", nets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, external := range []onnxfile.External{onnxfile.ExternalNever, onnxfile.ExternalAlways} {
		path := filepath.Join(t.TempDir(), "model.onnx")
		if err := nets.Write(path, "llama", nets.Options{}, onnxfile.WriteOptions{External: external}); err != nil {
			t.Fatal(err)
		}
		got, err := onnxfile.Open(path, onnxfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range want.Graph.Initializers() {
			w, err1 := v.Const.Bytes()
			g, err2 := got.Graph.Initializers()[i].Const.Bytes()
			if err1 != nil || err2 != nil || !bytes.Equal(w, g) {
				t.Errorf("%s is not as built (%v, %v)", v.Name(), err1, err2)
			}
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOptions says no to what cannot be built.
func TestOptions(t *testing.T) {
	for want, o := range map[string]nets.Options{
		"cannot be built in the style": {Style: nets.Keras},
		"needs opset 18, not 14":       {Style: nets.Dynamo, Opset: 14},
		"cannot be of type int8":       {DType: onnx.Int8},
	} {
		if _, err := nets.Build("gpt2", o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := nets.Build("alexnet", nets.Options{}); err == nil || !strings.Contains(err.Error(), "there are [bert") {
		t.Errorf("got %v", err)
	}
}
