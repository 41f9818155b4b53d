package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestLedgerSees: what the ledger is for is found by the checks that it makes.
func TestLedgerSees(t *testing.T) {
	const original = "(float[3] y) <float[3] w = {2, 4, 8}> { y = Mul(x, w) }"
	tests := []struct {
		name, result string
		bound        ledgerBound
		want         string // part of the fault; "" for none
	}{
		{"equal", "(float[3] y) <float[3] w = {2, 4, 8}> { y = Mul(w, x) }", boundExact, ""},
		{"a wrong weight", "(float[3] y) <float[3] w = {2, 4, 8.01}> { y = Mul(x, w) }", boundExact, "outside float32"},
		{"a wrong weight that is noise to int8", "(float[3] y) <float[3] w = {2, 4, 8.01}> { y = Mul(x, w) }", boundStatic, ""},
		{"a wrong scale", "(float[3] y) <float[3] w = {4, 8, 16}> { y = Mul(x, w) }", boundStatic, "an SQNR of 0.0 dB"},
		{"a wrong scale that is small", "(float[3] y) <float[3] w = {2.1, 4.2, 8.4}> { y = Mul(x, w) }", boundFP16, "an SQNR of 26.0 dB"},
		{"NaN", "(float[3] y) <float[3] w = {0, 4, 8}> { z = Mul(x, w) y = Div(z, z) }", boundForm, "NaN"},
		{"a wrong shape", "(float[2,3] y) <int64[2] s = {2, 3}> { y = Expand(x, s) }", boundForm, "[2 3], want"},
		{"a wrong type", "(double[3] y) { y = Cast<to = 11>(x) }", boundForm, "it is double"},
		{"another output", "(float[3] z) { z = Relu(x) }", boundForm, "is new"},
		{"no such operator", "(float[3] y) { y = Nonesuch(x) }", boundForm, "does not load"},
		{"weights in other places", "(float[3] y) <float[3] w = {2, 0, 7}> { y = Mul(x, w) }", boundForm, "was 8 and is 7"},
		{"zeroed weights", "(float[3] y) <float[3] w = {0, 0, 8}> { y = Mul(x, w) }", boundForm, ""},
	}
	g := &ledgerGraph{engine: ledgerEngine(zootest.Library(t), false), ledgerTask: ledgerTask{Dir: t.TempDir()}, runs: map[string]*ledgerRuns{}}
	in := writeText(t, original)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := ledgerCommand{bound: tt.bound}
			if strings.Contains(tt.name, "weights") {
				c.check = onlyZeros
			}
			err := g.hold(c, in, writeText(t, tt.result))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("found %v, want %q", err, tt.want)
			}
		})
	}
}

// TestLedgerSeesZero: an output that is to be all zero, of which there is no SQNR,
// hides neither its own faults nor those of other samples.
func TestLedgerSeesZero(t *testing.T) {
	zero, one := onnx.FromFloats("y", []int64{2}, []float32{0, 0}), onnx.FromFloats("y", []int64{2}, []float32{1, 1})
	tests := []struct {
		name      string
		want, got []*onnx.Tensor
		fault     string // part of it; "" for none
	}{
		{"zero", []*onnx.Tensor{zero}, []*onnx.Tensor{zero}, ""},
		{"one for zero", []*onnx.Tensor{zero}, []*onnx.Tensor{one}, "an SQNR of -Inf dB"},
		{"one for zero beside what is right", []*onnx.Tensor{zero, one}, []*onnx.Tensor{one, one}, "an SQNR of 0.0 dB"},
		{"zero for one beside one for zero", []*onnx.Tensor{zero, one}, []*onnx.Tensor{one, zero}, "an SQNR of -3.0 dB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &ledgerRuns{samples: make([]ledgerSample, len(tt.want)), outputs: map[session.Level][]map[string]*onnx.Tensor{}}
			var got []map[string]*onnx.Tensor
			for i := range tt.want {
				r.outputs[session.LevelOff] = append(r.outputs[session.LevelOff], map[string]*onnx.Tensor{"y": tt.want[i]})
				got = append(got, map[string]*onnx.Tensor{"y": tt.got[i]})
			}
			err := r.near(session.LevelOff, got, boundInt4)
			if tt.fault == "" && err != nil || tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault)) {
				t.Errorf("found %v, want %q", err, tt.fault)
			}
		})
	}
}

// writeText writes the model of input x with the given rest.
func writeText(t *testing.T, rest string) string {
	t.Helper()
	m, err := onnxtext.Parse(t.Name(), []byte(`<ir_version: 8, opset_import: ["" : 17]> main (float[3] x) => `+rest))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRefusals: the golden list reads back as what was written.
func TestRefusals(t *testing.T) {
	want := refusals{}
	want.add("a/b", "fuse", "it does not load")
	want.add("a/b", "diff", "it does not load")
	want.add("a/c", "diff", "it does not load")
	want.add("a/c", "quantize static", "not written")
	if diff := cmp.Diff(want, parseRefusals(want.format())); diff != "" {
		t.Error(diff)
	}
}

// TestShardDies: a shard that dies over a graph is an entry, and the rest of the graph is done.
func TestShardDies(t *testing.T) {
	w := &ledgerWorker{t: t, library: zootest.Library(t)}
	defer w.stop()
	model := writeText(t, "(float[3] y) { y = Relu(x) }")
	t.Setenv(dieAt, "quantize fp16")
	got := map[string]string{}
	for _, e := range w.graph(ledgerTask{Graph: "g", Model: model, Dir: filepath.Join(t.TempDir(), "work")}) {
		got[e.Command] = e.Status
	}
	if len(got) != len(ledgerCommands) || got["quantize fp16"] != ledgerCrashed || got["fuse"] != ledgerEqual || got["diff"] != ledgerEqual {
		t.Errorf("%v", got)
	}
}
