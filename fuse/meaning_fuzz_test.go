package fuse

import (
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/meaning"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// meantWays are the options under which a model must keep its meaning.
var meantWays = []Options{
	{},
	{InlineFunctions: true, Unroll: 8, Reorder: true, Enable: []string{"conv-merge", "matmul-merge", "norm-matmul"}},
	{Target: Target{Name: "ort-cpu", Kernel: every}, Opset: 21},
	{Opset: 23, KeepInputs: true},
	{Target: Target{Name: "ort-cuda", Kernel: every}, InlineFunctions: true},
	{Target: Target{Name: "ort-cpu", Kernel: every}},
}

// every is an engine that has all kernels.
func every(string, string, int64, onnx.DType) bool { return true }

// FuzzMeaning changes the models of the tests of the rules a little, and computes what is still a model before fusing and after: the results are the same.
func FuzzMeaning(f *testing.F) {
	meaning.NewBases(f, "testdata/*.txtar", "testdata/*/*.txtar").Fuzz(f, func(t *testing.T, m *onnx.Model, how uint8) {
		sameMeaning(t, m, meantWays[int(how)%len(meantWays)], uint64(how))
	})
}

// sameMeaning fuses m and compares what it and the result compute, where m can be run.
func sameMeaning(t *testing.T, m *onnx.Model, o Options, seed uint64) {
	t.Helper()
	want, ok := meaning.Of(t.Context(), m, seed)
	if !ok {
		return
	}
	after := meaning.Reread(t, m)
	log, err := Model(t.Context(), after, o)
	if err != nil {
		if strings.Contains(err.Error(), "cannot be raised") {
			return // with a reason
		}
		t.Fatalf("it can be run, and fusing says %v\n%s", err, text(m))
	}
	if err := after.Check(); err != nil {
		t.Fatalf("the result is not valid: %v\n%s", err, text(m))
	}
	if err := want.Differs(t.Context(), after); err != nil {
		t.Fatalf("%v\n%s\n%v\n%s", err, text(m), keys(log), text(after))
	}
}

// keys are the rewrites that were made.
func keys(log *rewrite.Log) []string {
	var out []string
	for _, f := range log.Fired {
		out = append(out, f.Key)
	}
	return out
}
