package prune

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Nothing is the error of a model of which nothing was removed: a copy of the
// original is no answer to the wish for a smaller or faster one.
type Nothing struct {
	Pattern string
	Reason  string // what holds most of its layers; "" where there is none that the pattern applies to
}

func (e *Nothing) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("not written, since it has no weights that pattern %s applies to", e.Pattern)
	}
	return fmt.Sprintf("not written, since nothing of it was removed by pattern %s: %s", e.Pattern, e.Reason)
}

// nothing returns the error of a run that was to remove something and did not;
// nil for all others.
func (j *shrinkJob) nothing(l *rewrite.Log, ro rewrite.Options) error {
	if len(l.Fired) > 0 || !ro.Whole() || j.o.Sparsity == 0 && j.o.goals() == 0 {
		return nil
	}
	if g := j.units.goal; g != nil && g.Met {
		return nil
	}
	e := &Nothing{Pattern: string(j.o.Pattern)}
	r := j.result()
	switch {
	case r == nil:
	case len(r.Groups) > 0:
		e.Reason = fmt.Sprintf("the share is less than one unit of any of its %d groups", len(r.Groups))
	case len(r.Reach.Pinned) > 0:
		e.Reason = r.Reach.Pinned[0].Reason
	}
	return e
}
