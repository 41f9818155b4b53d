package calibrate

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Over is one pass over a data set, a batch of n samples at a time.
func Over(ctx context.Context, set *dataset.Set, n int) Pass {
	carrier := set.Carrier()
	p := Pass{Batches: func(yield func(*Batch, error) bool) {
		for b, err := range set.Batches(ctx, n) {
			if err != nil {
				yield(nil, err)
				return
			}
			sample := *b.Samples[0]
			sample.Inputs = b.Inputs
			out := &Batch{ID: sample.ID, Samples: int64(len(b.Samples)),
				Inputs: func() (map[string]*onnx.Tensor, error) { return carrier.Feed(&sample) }}
			for _, s := range b.Samples {
				if s.Label != nil {
					out.Labels = append(out.Labels, s.Label)
				}
			}
			if !yield(out, nil) {
				return
			}
		}
	}}
	if set.Stateful() {
		p.Keep = carrier.Keep
	}
	return p
}
