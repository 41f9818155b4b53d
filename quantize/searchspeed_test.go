package quantize

import "testing"

// TestQuickestOf: the mixture with the fewest layers in float32 stays unless another
// one is faster by more than noise.
func TestQuickestOf(t *testing.T) {
	for _, c := range []struct {
		name  string
		times map[string]float64
		want  string
	}{
		{"the chosen one", map[string]float64{"a": 0.8, "a\nb": 0.9, "b": 0.81}, "a"},
		{"hardly faster", map[string]float64{"a": 0.8, "a\nb": 0.79}, "a"},
		{"faster", map[string]float64{"a": 1.1, "a\nb": 0.9, "a\nc": 0.85, "c": 1}, "a\nc"},
		{"as fast", map[string]float64{"a": 1.1, "b": 0.9, "c": 0.9}, "b"},
	} {
		if got := quickestOf(c.times, "a"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
