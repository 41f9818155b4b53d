package quantize

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
)

// chooseMethod tries every calibration method for the whole model, where none was
// asked for: the predicted error of each tensor alone says little about what
// clipping costs at the outputs.
func chooseMethod(ctx context.Context, r *recovery, k *stepper) error {
	if r.s.o.Method != autoMethod {
		k.refuse(fmt.Sprintf("the method %s was asked for", r.s.o.Method))
		return nil
	}
	for _, name := range calibrate.Methods() {
		if name == autoMethod {
			continue
		}
		m, err := calibrate.ParseMethod(name)
		if err != nil {
			return err
		}
		if _, err := k.propose(ctx, k.start.with(func(c *choices) { c.method = m }), nil, name+" for all tensors"); err != nil {
			return err
		}
	}
	return nil
}

// autoMethod is the calibration method that is no wish for a certain one.
const autoMethod = "auto"
