package quantize_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// bodyModels have their products in the bodies of If, Loop and Scan, of which the
// data takes some.
var bodyModels = map[string]struct {
	text   string
	int8   string // outputs of layers in int8
	float  map[string]string
	codes  int // weights coded, each once
	sqnr   float64
	within int // DequantizeLinear nodes in bodies
}{
	// Both branches read h, which the main graph codes, with weights of their own and
	// of the main graph; the names of one are those of the other.
	"if": {header + `g (float[4,16] x) => (float[4,16] y) <` + weights("a", 16, 16) + `, ` + weights("b", 16, 16) + `, float zero = {0}> {
		h = MatMul (x, a)
		m = ReduceMean <keepdims = 0> (x)
		c = Greater (m, zero)
		y = If <then_branch = t () => (float[4,16] p) { u = MatMul (h, b)  r = Relu (u)  p = MatMul (r, a) },
			else_branch = e () => (float[4,16] q) { u = MatMul (h, b)  r = Tanh (u)  q = Add (r, h) }> (c) }`,
		"h p u", nil, 2, 25, 6},
	// The second branch is never taken, nor what is in it.
	"never": {header + `g (float[4,16] x) => (float[4,16] y) <` + weights("a", 16, 16) + `, float far = {1000}> {
		m = ReduceMean <keepdims = 0> (x)
		c = Less (m, far)
		y = If <then_branch = t () => (float[4,16] p) { p = MatMul (x, a) },
			else_branch = e () => (float[4,16] q) { d = Greater (m, far)
				q = If <then_branch = tt () => (float[4,16] v) { v = MatMul (x, a) }, else_branch = ee () => (float[4,16] w) { w = Relu (x) }> (d) }> (c) }`,
		"p", map[string]string{"v": "branch was never taken"}, 1, 30, 2},
	"loop": {header + `g (float[4,16] x, int64 n) => (float[4,16] y, float[T,4,16] all) <` + weights("a", 16, 16) + `, bool go = {1}, int64 turns = {3}> {
		k = Add (n, turns)
		y, all = Loop <body = b (int64 i, bool k1, float[4,16] s) => (bool k2, float[4,16] s2, float[4,16] out) {
			k2 = Identity (k1)  m = MatMul (s, a)  s2 = Tanh (m)  out = MatMul (s2, a) }> (k, go, x) }`,
		"m out", nil, 1, 25, 3},
	// The branch in the loop is taken in some of its turns; shapes differ from turn to turn.
	"loop and if": {header + `g (float[4,16] x) => (float[4,16] y) <` + weights("a", 16, 16) + `, ` + weights("b", 16, 16) + `, bool go = {1}, int64 turns = {4}, int64 two = {2}> {
		y = Loop <body = l (int64 i, bool k1, float[4,16] s) => (bool k2, float[4,16] s2) {
			k2 = Identity (k1)  o = Less (i, two)
			m = If <then_branch = t () => (float[4,16] p) { p = MatMul (s, a) }, else_branch = e () => (float[4,16] q) { q = MatMul (s, b) }> (o)
			s2 = Tanh (m) }> (turns, go, x) }`,
		"p q", nil, 2, 20, 4},
	"loop in loop": {header + `g (float[4,16] x) => (float[4,16] y) <` + weights("a", 16, 16) + `, bool go = {1}, int64 turns = {2}, int64 one = {1}> {
		y = Loop <body = l (int64 i, bool k1, float[4,16] s) => (bool k2, float[4,16] s2) {
			k2 = Identity (k1)  n = Add (i, one)
			s2 = Loop <body = ll (int64 j, bool k3, float[4,16] z) => (bool k4, float[4,16] z2) {
				k4 = Identity (k3)  m = MatMul (z, a)  z2 = Tanh (m) }> (n, go, s) }> (turns, go, x) }`,
		"m", nil, 1, 20, 2},
	"scan": {header + `g (float[5,4,16] x) => (float[4,16] y, float[5,4,16] all) <` + weights("a", 16, 16) + `, float zero = {0}, int64[2] dims = {4, 16}> {
		s0 = Expand (zero, dims)
		y, all = Scan <num_scan_inputs = 1, scan_output_axes = [0], body = b (float[4,16] s, float[4,16] u) => (float[4,16] s2, float[4,16] out) {
			v = Add (s, u)  m = MatMul (v, a)  s2 = Tanh (m)  out = MatMul (s2, a) }> (s0, x) }`,
		"m out", nil, 1, 25, 3},
}

// TestBodies: products in bodies compute in int8 what they did, to the noise of
// their codes; what is captured is coded once; what no data reached stays as it is.
func TestBodies(t *testing.T) {
	open := opener(t)
	for name, c := range bodyModels {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			src, dst := filepath.Join(dir, "float.onnx"), filepath.Join(dir, "int8.onnx")
			m, err := onnxtext.Parse("model", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := onnxfile.Write(src, m, onnxfile.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			o := dataset.Options{Seed: 1, Synthetic: dataset.Synthetic{MaxInt: 2}}
			calib := openData(t, src, "synthetic:48", o)
			r, err := quantize.File(t.Context(), dst, src, quantize.Options{Open: open, Calibration: calib, Method: "minmax",
				MaxMemory: 1 << 20, Verify: &produce.Verify{Open: open}})
			if err != nil {
				t.Fatal(err)
			}
			var int8 []string
			for _, l := range r.Layers {
				if l.Reason == "" {
					int8 = append(int8, strings.TrimRight(l.Output, "_0123456789"))
				} else if want := c.float[l.Output]; want == "" || !strings.Contains(l.Reason, want) {
					t.Errorf("%s stays in float32: %s", l.Output, l.Reason)
				}
			}
			for _, want := range strings.Fields(c.int8) {
				if !strings.Contains(" "+strings.Join(int8, " ")+" ", " "+want+" ") {
					t.Errorf("%s is not in int8: %v", want, r.Layers)
				}
			}
			if len(r.RolledBack) > 0 {
				t.Errorf("rolled back: %+v", r.RolledBack)
			}
			codes, within := countCodes(t, dst)
			if codes != c.codes || within != c.within {
				t.Errorf("%d weights are coded, want %d; %d nodes take codes back in bodies, want %d", codes, c.codes, within, c.within)
			}
			o.Seed = 2
			if got := signalToNoise(t, open, src, dst, openData(t, src, "synthetic:32", o)); got < c.sqnr {
				t.Errorf("%.1f dB on other data, want %.1f or more", got, c.sqnr)
			}
		})
	}
}

// countCodes returns how many constants of int8 with two axes a model has, and how
// many DequantizeLinear nodes are in bodies.
func countCodes(t *testing.T, path string) (codes, within int) {
	t.Helper()
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			if v.Const.DType == onnx.Int8 && len(v.Const.Shape) > 1 {
				codes++
			}
		}
		for n := range g.Nodes() {
			if g.Owner() != nil && n.Is("DequantizeLinear") {
				within++
			}
		}
	}
	return codes, within
}

// TestBodiesOfVAD: a network that is all in the branches of an If, down to the
// rate that the data has; the other rate stays in float32.
func TestBodiesOfVAD(t *testing.T) {
	open := opener(t)
	src, data := zootest.Path(t, "models/silero-vad.onnx"), zootest.Path(t, "data/silero.npz")
	dst := filepath.Join(t.TempDir(), "int8.onnx")
	r, err := quantize.File(t.Context(), dst, src, quantize.Options{Open: open, Calibration: openData(t, src, data, dataset.Options{Limit: 64}),
		ReduceRange: true, // the spectrum's convolution saturates without VNNI
		Verify:      &produce.Verify{Open: open}})
	if err != nil {
		t.Fatal(err)
	}
	taken, never := 0, 0
	for _, l := range r.Layers {
		switch {
		case l.Op == "Conv" && l.Reason == "":
			taken++
		case l.Op == "Conv" && strings.Contains(l.Reason, "branch was never taken"):
			never++
		default:
			if l.Op == "Conv" {
				t.Errorf("%s: %s", l.Output, l.Reason)
			}
		}
	}
	if taken != 6 || never != 6 || len(r.RolledBack) > 0 {
		t.Errorf("%d convolutions are in int8, %d in a branch that is never taken; rolled back: %v", taken, never, r.RolledBack)
	}
	got := signalToNoise(t, open, src, dst, openData(t, src, data, dataset.Options{Skip: 800, Limit: 300}))
	t.Logf("%d → %d bytes, %.1f dB on other data", r.Input.Bytes, r.Output.Bytes, got)
	if got < 15 {
		t.Errorf("%.1f dB on other data", got)
	}
}
