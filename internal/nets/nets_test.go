package nets_test

import (
	"math"
	"path/filepath"
	"runtime"
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

// published are the figures of the papers and of the libraries that publish the
// weights: parameters, and multiply-accumulates of one sample (0: not published).
var published = map[string]struct {
	params, macs float64
	dims         map[string]int64
	kinds        map[nets.Kind]int
}{
	"bert":            {109482240, 11.2e9, map[string]int64{"seq": 128}, map[nets.Kind]int{nets.Attention: 12, nets.QKV: 12, nets.LayerNorm: 25, nets.Gelu: 12}},
	"gpt2":            {124439808, 0, nil, map[nets.Kind]int{nets.Attention: 12, nets.LayerNorm: 25, nets.GeluTanh: 12}},
	"gpt2-past":       {124439808, 0, nil, map[nets.Kind]int{nets.Attention: 12, nets.LayerNorm: 25, nets.GeluTanh: 12}},
	"llama":           {15191712, 0, nil, map[nets.Kind]int{nets.Attention: 6, nets.QKV: 6, nets.RMSNorm: 13, nets.Rotary: 12, nets.Swish: 6}},
	"llama-past":      {15191712, 0, nil, map[nets.Kind]int{nets.Attention: 6, nets.QKV: 6, nets.RMSNorm: 13, nets.Rotary: 12, nets.Swish: 6}},
	"transformer":     {18914304, 0, nil, map[nets.Kind]int{nets.Attention: 6, nets.LayerNorm: 12}},
	"llama-7b":        {6738415616, 0, nil, map[nets.Kind]int{nets.Attention: 32, nets.QKV: 32, nets.RMSNorm: 65, nets.Rotary: 64, nets.Swish: 32}},
	"vit":             {86567656, 17.58e9, nil, map[nets.Kind]int{nets.Attention: 12, nets.LayerNorm: 25, nets.Gelu: 12}},
	"whisper-encoder": {8208384, 0, nil, map[nets.Kind]int{nets.Attention: 4, nets.QKV: 4, nets.LayerNorm: 9, nets.Gelu: 6}},
	"resnet50":        {25557032, 4.09e9, nil, map[nets.Kind]int{nets.BatchNorm: 53}},
	"mobilenetv2":     {3504872, 0.30e9, nil, map[nets.Kind]int{nets.BatchNorm: 52}},
	"mobilenetv3":     {5483032, 0.217e9, nil, map[nets.Kind]int{nets.BatchNorm: 46, nets.HardSwish: 21, nets.Sigmoid6: 8}},
	"efficientnet-b0": {5288548, 0.386e9, nil, map[nets.Kind]int{nets.BatchNorm: 49, nets.Swish: 49}},
	"densenet121":     {7978856, 2.83e9, nil, map[nets.Kind]int{nets.BatchNorm: 121}},
	"vgg19":           {143667240, 19.63e9, nil, map[nets.Kind]int{}},
	"yolov8n":         {3157200, 4.37e9, nil, map[nets.Kind]int{nets.BatchNorm: 57, nets.Swish: 57, nets.DotSoftmax: 1}},
	"unet":            {35746307, 0, nil, nil},
}

// TestPublished compares the full sizes with the published figures, without
// computing a weight.
func TestPublished(t *testing.T) {
	for name, want := range published {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m, err := nets.Build(name, nets.Options{Full: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := parameters(m); math.Abs(got-want.params) > 1e-4*want.params {
				t.Errorf("%.0f parameters, published are %.0f", got, want.params)
			}
			if got := macs(t, m, want.dims); want.macs > 0 && math.Abs(got-want.macs) > 0.02*want.macs {
				t.Errorf("%.4g multiply-accumulates, published are %.4g", got, want.macs)
			}
			truth, err := nets.Truth(name, nets.Options{Full: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range nets.Kinds {
				if want.kinds != nil && truth[k] != want.kinds[k] {
					t.Errorf("%d of %s, published are %d", truth[k], k, want.kinds[k])
				}
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 150<<20 {
				t.Errorf("it took %d MiB", took>>20)
			}
		})
	}
}

// parameters counts what training would change.
func parameters(m *onnx.Model) (n float64) {
	for _, v := range m.Graph.Initializers() {
		c := v.Const
		buffer := slices.ContainsFunc([]string{"running_mean", "running_var", "_cached"}, func(s string) bool { return strings.HasSuffix(c.Name, s) })
		if c.DType.IsFloat() && !buffer {
			k, _ := c.Elements()
			n += float64(k)
		}
	}
	return n
}

func macs(t *testing.T, m *onnx.Model, dims map[string]int64) (n float64) {
	d := map[string]int64{}
	if !m.Graph.Inputs()[0].Shape()[0].Known() {
		d["batch"] = 1
	}
	for k, v := range dims {
		d[k] = v
	}
	f, err := opset.Infer(m, opset.Options{Dims: d, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	for node := range m.Graph.Nodes() {
		n += float64(f.Cost(node).MACs)
	}
	return n
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
