package produce

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/dataset"
)

// takeBatches appends count batches of the size that the model or --dim fixes,
// each as one sample.
func takeBatches(ctx context.Context, set *dataset.Set, count int, out *[]*dataset.Sample) error {
	for b, err := range set.Batches(ctx, set.BatchSize()) {
		if err != nil {
			return err
		}
		s := *b.Samples[0]
		s.Inputs, s.Expected = b.Inputs, nil
		if last := b.Samples[len(b.Samples)-1]; last != b.Samples[0] {
			s.ID = fmt.Sprintf("%s … %s", s.ID, last.ID)
		}
		if *out = append(*out, &s); len(*out) == count {
			break
		}
	}
	if len(*out) == 0 {
		return fmt.Errorf("the data has no samples")
	}
	return nil
}
