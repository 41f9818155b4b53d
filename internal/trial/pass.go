package trial

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Pass is the pass over the runs of n samples that keep chooses; all where it is nil.
func Pass(ctx context.Context, set *dataset.Set, n int, keep func(k, at int64) bool) calibrate.Pass {
	all := passOver(ctx, set, n)
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

// passOver is the pass over all of a data set, in runs of n samples.
func passOver(ctx context.Context, set *dataset.Set, n int) calibrate.Pass {
	carrier := set.Carrier()
	p := calibrate.Pass{Batches: func(yield func(*calibrate.Batch, error) bool) {
		for b, err := range set.Batches(ctx, n) {
			if err != nil {
				yield(nil, err)
				return
			}
			sample := *b.Samples[0]
			sample.Inputs = b.Inputs
			out := &calibrate.Batch{ID: sample.ID, Samples: int64(len(b.Samples)),
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
