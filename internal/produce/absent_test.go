package produce

import (
	"context"
	"errors"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// sometimes gives the second element of a sequence in every other run only.
type sometimes struct {
	fakeSession
	runs int
}

func (s *sometimes) Run(context.Context, map[string]*onnx.Tensor) (*session.Result, error) {
	s.runs++
	one := onnx.FromFloats("one", []int64{1}, []float32{1})
	out := map[string]*onnx.Tensor{"y": one, "z[0]": one}
	if s.runs%2 == 1 {
		out["z[1]"] = one
	}
	return &session.Result{Outputs: out}, nil
}

// TestAbsentElement: an output that is in one run and not in another is random,
// and one that the original has at one level only differs there.
func TestAbsentElement(t *testing.T) {
	s := &sometimes{}
	v := &Verify{}
	ref := &reference{samples: []*dataset.Sample{{ID: "0"}}, outputs: map[session.Level][]map[string]*onnx.Tensor{}}
	for _, level := range v.levels() {
		var err error
		if ref.outputs[level], err = runAll(t.Context(), s, ref.samples); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.findRandom(t.Context(), s, session.LevelOff, ref); err != nil {
		t.Fatal(err)
	}
	if len(ref.random) != 1 || ref.random[0] != "z[1]" {
		t.Errorf("%q differ from run to run, want z[1]", ref.random)
	}
	ref.random = nil
	changed := &reference{samples: ref.samples, outputs: map[session.Level][]map[string]*onnx.Tensor{
		session.LevelOff: {{}}, session.LevelAll: {{"y": onnx.FromFloats("y", []int64{1}, []float32{2})}}}}
	var m *Mismatch
	if err := v.compare(t.Context(), s, session.LevelAll, changed, map[string]*CheckedOutput{}); !errors.As(err, &m) {
		t.Errorf("the comparison says %v, want a mismatch", err)
	}
}
