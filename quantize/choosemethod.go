package quantize

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
)

// autoMethod is the calibration method that is no wish for a certain one.
const autoMethod = "auto"

// trialMethods are those that are tried for all tensors of a model, the plainest
// first. A moving average is the range of the first samples unless there are
// hundreds.
var trialMethods = []string{"minmax", "mean-minmax", "percentile", "kl", "mse"}

// chooseMethod chooses the calibration method by what comes out of the model,
// where none was asked for: the predicted error of each tensor by itself says
// little about that.
func chooseMethod(ctx context.Context, r *recovery, k *stepper) error {
	if r.s.o.Method != autoMethod {
		k.refuse(fmt.Sprintf("the method %s was asked for", r.s.o.Method))
		return nil
	}
	for _, name := range trialMethods {
		m, err := calibrate.ParseMethod(name)
		if err != nil {
			return err
		}
		c := k.start.with(func(c *choices) { c.method = m })
		if _, err := k.propose(ctx, c, nil, name+" for all tensors"); err != nil {
			return err
		}
	}
	return nil
}
