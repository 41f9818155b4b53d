package quantize

import (
	"context"
	"fmt"
	"maps"
)

// usable is the SQNR from which on a model is worth recovering: below, rounding
// noise is not what is wrong.
const usable = 10

// mostRuinous bounds how many layers are left in float32 for that.
const mostRuinous = 4

// mostAnchors is the most layers that are tried one by one.
const mostAnchors = 64

// leaveRuinous leaves in float32, while the model is unusable, the layer without
// which it is best: such as the first one where columns of the input differ by
// orders of magnitude, so that one scale for all leaves nothing of most of them.
func leaveRuinous(ctx context.Context, r *recovery, k *stepper) error {
	if r.score.SQNR >= usable {
		k.refuse(fmt.Sprintf("the model is usable at %.1f dB", r.score.SQNR))
		return nil
	}
	var names []string
	for _, l := range linears(r.base) {
		names = append(names, outputName(l.node))
	}
	if len(names) > mostAnchors {
		k.refuse(fmt.Sprintf("%d layers are too many to try one by one", len(names)))
		return nil
	}
	var left []string
	for range mostRuinous {
		var best string
		top, now := r.score, r.score
		for _, name := range names {
			if r.now.float[name] != "" {
				continue
			}
			got, err := r.try(ctx, without(r.now, name, "trial"))
			if err != nil {
				return err
			}
			if got.SQNR > top.SQNR {
				best, top = name, got
			}
		}
		if best == "" {
			break
		}
		why := fmt.Sprintf("in int8 the model has %.1f dB, without it %.1f dB", now.SQNR, top.SQNR)
		kept, err := k.propose(ctx, without(r.now, best, why), append(left, best), why)
		if err != nil || !kept {
			return err
		}
		if left = append(left, best); top.SQNR >= usable {
			break
		}
	}
	return nil
}

// without returns c with one more layer in float32.
func without(c *choices, name, why string) *choices {
	return c.with(func(c *choices) {
		c.float = maps.Clone(c.float)
		if c.float == nil {
			c.float = map[string]string{}
		}
		c.float[name] = why
	})
}
