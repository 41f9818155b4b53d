package trial

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/dataset"
)

// Pass is the pass over the runs of n samples that keep chooses; all where it is nil.
func Pass(ctx context.Context, set *dataset.Set, n int, keep func(k, at int64) bool) calibrate.Pass {
	all := calibrate.Over(ctx, set, n)
	return calibrate.Pass{Keep: all.Keep, Batches: func(yield func(*calibrate.Batch, error) bool) {
		k, at := int64(0), int64(0)
		for b, err := range all.Batches {
			if err != nil {
				yield(nil, err)
				return
			}
			chosen := keep == nil || keep(k, at)
			k, at = k+1, at+b.Samples
			if chosen && !yield(b, nil) {
				return
			}
		}
	}}
}
