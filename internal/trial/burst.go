package trial

import (
	"context"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Burst is how long one run takes in the best of some runs, about 10 ms of them; before is
// what an earlier burst took, +Inf for the first.
func Burst(ctx context.Context, s session.Session, in map[string]*onnx.Tensor, before float64) (float64, error) {
	runs := 3
	if !math.IsInf(before, 1) && before > 0 {
		runs = int(min(max(0.01/before, 2), 500))
	}
	t, ok := s.(session.Timer)
	if !ok {
		r, err := s.Run(ctx, in)
		if err != nil {
			return 0, err
		}
		return r.Elapsed.Seconds(), nil
	}
	list, err := t.Time(ctx, in, runs)
	if err != nil || len(list) == 0 {
		return math.Inf(1), err
	}
	// A low quantile, since clocks have a resolution and the very first runs are cold.
	slices.Sort(list)
	return list[len(list)/10].Seconds(), nil
}
