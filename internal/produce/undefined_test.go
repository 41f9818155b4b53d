package produce

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// nanSession is a runtime that gives NaN for one output, and what x says for another.
type nanSession struct {
	fakeSession
	x float32
}

func (s *nanSession) Outputs() []session.Port {
	return []session.Port{{Name: "y", Type: xType}, {Name: "z", Type: xType}}
}

func (s *nanSession) Run(context.Context, map[string]*onnx.Tensor) (*session.Result, error) {
	nan := float32(math.NaN())
	return &session.Result{Outputs: map[string]*onnx.Tensor{
		"y": onnx.FromFloats("y", []int64{2}, []float32{nan, nan}), "z": onnx.FromFloats("z", []int64{2}, []float32{nan, s.x}),
	}}, nil
}

// TestUndefined: what is NaN in the original is said not to have been compared, where
// all of it is there is nothing to go by, and NaN from the result alone is a mismatch.
func TestUndefined(t *testing.T) {
	open := func(x float32) access {
		return func(context.Context, session.Level) (session.Session, func(), error) {
			return &nanSession{x: x}, func() {}, nil
		}
	}
	nan := float32(math.NaN())
	v := &Verify{}
	ref, err := v.prepare(t.Context(), open(1), false)
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.check(t.Context(), open(1), ref)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Undefined) != 1 || c.Undefined[0] != "y" || len(c.Outputs) != 1 || c.Outputs[0].Name != "z" || !strings.Contains(c.String(), "y not compared: NaN") {
		t.Errorf("%+v: %s", c, c)
	}
	if _, err := v.check(t.Context(), open(nan), ref); err == nil || !strings.Contains(err.Error(), "NaN or infinite on one side only") {
		t.Errorf("a result that is NaN: %v", err)
	}
	if ref, err = v.prepare(t.Context(), open(nan), false); err != nil {
		t.Fatal(err)
	}
	if err := ref.tells(); err == nil || !strings.Contains(err.Error(), "every output is NaN") {
		t.Errorf("an original that is NaN: %v", err)
	}
}

// TestUndefinedSample: one number in one sample is enough.
func TestUndefinedSample(t *testing.T) {
	nan := float32(math.NaN())
	long := make([]float32, 100)
	for i := range long {
		long[i] = nan
	}
	ref := &reference{samples: []*dataset.Sample{{ID: "0"}}, outputs: map[session.Level][]map[string]*onnx.Tensor{
		session.LevelOff: {{}},
	}}
	for _, c := range []struct {
		values []float32
		empty  bool
	}{{long, true}, {append(slices.Clone(long[:99]), 1), false}, {nil, false}} {
		ref.outputs[session.LevelOff][0]["y"] = onnx.FromFloats("y", []int64{int64(len(c.values))}, c.values)
		ref.undefined = nil
		if ref.findUndefined(); ref.empty != c.empty || (ref.undefined != nil) != c.empty {
			t.Errorf("%d values: undefined %v, nothing else %v", len(c.values), ref.undefined, ref.empty)
		}
	}
}
