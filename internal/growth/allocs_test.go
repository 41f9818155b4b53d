package growth

import "testing"

var sink []byte

// TestLinearTellsSquares: work that allocates by the square is told from work that allocates in proportion.
func TestLinearTellsSquares(t *testing.T) {
	for name, c := range map[string]struct {
		work func(n int)
		want bool
	}{
		"proportional": {func(n int) {
			for range n {
				sink = make([]byte, 64)
			}
		}, true},
		"growing slice": {func(n int) {
			var s []byte
			for i := range n * 64 {
				s = append(s, byte(i))
			}
			sink = s
		}, true},
		"a copy for each": {func(n int) {
			for range n {
				sink = make([]byte, n)
			}
		}, false},
		"each with each": {func(n int) {
			for range n * n / 100 {
				sink = make([]byte, 16)
			}
		}, false},
	} {
		small, large := Allocations(func() { c.work(3000) }), Allocations(func() { c.work(6000) })
		if got := small.Linear(large); got != c.want {
			t.Errorf("%s: %+v and %+v are linear: %v", name, small, large, got)
		}
	}
}
