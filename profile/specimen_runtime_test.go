package profile

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestSpecimensInRuntime: the runtime has all operators of the table, runs each
// under a name that its time is found by, and 8 bits have the tables of float32.
func TestSpecimensInRuntime(t *testing.T) {
	o := PeakOptions{Open: ort.Opener(zootest.Library(t)), Session: session.Options{Threads: 1}}
	for _, variant := range []string{variantFloat, variantInt8, variantDynamic, variantInt4} {
		s := variants(variant)
		times, err := s.time(t.Context(), o, 1, 1)
		if err != nil {
			t.Errorf("%s: %v", variant, err)
			continue
		}
		for _, g := range s.gauges {
			if times[g.name] == nil || times[g.name].low < 0 {
				t.Errorf("%s: no time of %s (%s)", variant, g.name, g.op)
			}
		}
	}
	for _, h := range askHalf(t.Context(), o) {
		t.Logf("%s in float16: %s", h.Op, h.Answer)
	}
}
