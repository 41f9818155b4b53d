package produce

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// moved gives one fixed output at every level.
type moved struct {
	fakeSession
	values []float32
}

func (s *moved) Run(context.Context, map[string]*onnx.Tensor) (*session.Result, error) {
	return &session.Result{Outputs: map[string]*onnx.Tensor{"y": onnx.FromFloats("y", []int64{int64(len(s.values))}, s.values)}}, nil
}

// TestEngineNoise: what the engine's own optimizations add may be noise where the
// class is met without them; an element that is wrong alone may not be there, and
// without the optimizations not even noise.
func TestEngineNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	original := make([]float32, 4096)
	noisy := make([]float32, len(original))
	for i := range original {
		original[i] = float32(rng.NormFloat64())
		noisy[i] = original[i] + 2e-5*float32(rng.NormFloat64()) // 94 dB: beyond 1e-5 of the largest value in many small elements
	}
	spot := append([]float32(nil), original...)
	spot[7] += 1e-3 // 96 dB, in one place
	for _, c := range []struct {
		name     string
		off, all []float32
		wrong    string
	}{
		{"noise with optimizations", original, noisy, ""},
		{"noise without them", noisy, noisy, "off"},
		{"one element with optimizations", original, spot, "on"},
	} {
		ref := &reference{samples: []*dataset.Sample{{ID: "0"}}, outputs: map[session.Level][]map[string]*onnx.Tensor{}}
		for _, level := range []session.Level{session.LevelOff, session.LevelAll} {
			y := onnx.FromFloats("y", []int64{int64(len(original))}, original)
			ref.outputs[level] = []map[string]*onnx.Tensor{{"y": y}}
		}
		open := func(_ context.Context, level session.Level) (session.Session, func(), error) {
			s := &moved{values: c.all}
			if level == session.LevelOff {
				s.values = c.off
			}
			return s, func() {}, nil
		}
		got, err := new(Verify).check(t.Context(), open, ref)
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.wrong == "" && (len(got.Outputs) == 0 || got.Outputs[0].Class != "float32 as noise"):
			t.Errorf("%s: it is reported as %+v", c.name, got.Outputs)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), "optimizations "+c.wrong)):
			t.Errorf("%s: %v, want a mismatch with optimizations %s", c.name, err, c.wrong)
		}
	}
}
