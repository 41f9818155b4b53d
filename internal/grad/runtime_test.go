package grad

import (
	"math"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/session/sessiontest"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// inFloats is the case in single precision, as runtimes have it.
func (k gradCase) inFloats() gradCase {
	for _, text := range []*string{&k.in, &k.body, &k.consts} {
		*text = strings.NewReplacer("double", "float", "<to=11>", "<to=1>").Replace(*text)
	}
	k.single = true
	return k
}

// TestRuntime runs every gradient in ONNX Runtime with all its optimizations, and compares it with what it is in double
// precision.
func TestRuntime(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	for _, k := range cases {
		if k.noRuntime != "" {
			continue
		}
		k = k.inFloats()
		for _, dynamic := range []bool{false, true} {
			if dynamic && !symbolic.MatchString(k.in) {
				continue
			}
			name := k.name
			if dynamic {
				name += " of sizes known at run time"
			}
			t.Run(name, func(t *testing.T) {
				r, err := Build(k.model(t, k.body, dynamic), Options{})
				if err != nil {
					t.Fatal(err)
				}
				in := k.inputs(t)
				all, _ := seeded(t, in, r.Seed, evaluated(t, k.model(t, k.body, false), in)["y"])
				want := evaluated(t, r.Model, all)
				have := runIn(t, open, r.Model, all)
				for name, out := range r.Gradients {
					sameNumbers(t, "by "+name, elements(t, have[out]), elements(t, want[out]), 2e-5)
				}
			})
		}
	}
}

func runIn(t testing.TB, open session.Opener, m *onnx.Model, in map[string]*onnx.Tensor) map[string]*onnx.Tensor {
	t.Helper()
	s, err := open(t.Context(), sessiontest.Write(t, m), session.Options{})
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

// sameNumbers compares elements to a share of the largest.
func sameNumbers(t testing.TB, what string, have, want []float64, share float64) {
	t.Helper()
	if len(have) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(have), len(want))
	}
	largest := 1e-6
	for _, v := range want {
		largest = max(largest, math.Abs(v))
	}
	for i, v := range want {
		if !(math.Abs(have[i]-v) <= share*largest) {
			t.Errorf("%s at %d: %.7g, want %.7g", what, i, have[i], v)
			return
		}
	}
}

// inHalves is the case in half precision.
func (k gradCase) inHalves() gradCase {
	for _, text := range []*string{&k.in, &k.body, &k.consts} {
		*text = strings.NewReplacer("double", "float16", "<to=11>", "<to=10>").Replace(*text)
	}
	return k
}

// TestRuntimeInHalf: gradients that are added up where elements came from run in half precision too, in which the runtime adds
// up nothing that is scattered.
func TestRuntimeInHalf(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	tried := 0
	for _, k := range cases {
		if k.noRuntime != "" || !strings.Contains(k.body, "MaxPool") && !strings.Contains(k.body, "Gather") {
			continue
		}
		k = k.inHalves()
		if s, err := open(t.Context(), sessiontest.Write(t, k.model(t, k.body, false)), session.Options{}); err != nil {
			t.Logf("%s: the runtime has not even the operator itself: %v", k.name, err)
			continue
		} else {
			s.Close()
		}
		r, err := Build(k.model(t, k.body, false), Options{})
		if err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		in := k.inputs(t)
		all, _ := seeded(t, in, r.Seed, evaluated(t, k.model(t, k.body, false), in)["y"])
		want := evaluated(t, r.Model, all)
		have := runIn(t, open, r.Model, all)
		for name, out := range r.Gradients {
			sameNumbers(t, k.name+" by "+name, elements(t, have[out]), elements(t, want[out]), 1e-2)
		}
		tried++
	}
	if tried == 0 {
		t.Error("no gradient was tried")
	}
	t.Logf("%d gradients", tried)
}
