package quantize

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// margin is by how many dB a step must be better: less is noise.
const margin = 0.1

// stepper judges what one step proposes, and keeps the best.
type stepper struct {
	r        *recovery
	start    *choices                    // when the step began
	channels map[string]*calibrate.Stats // of the float model then, for the step's own use
	before   score
	best     score // of all that was tried
	last     score // of what was tried last
	kept     bool
	layers   []string
	note     string
}

// propose tries choices and keeps them if they are better by the margin than
// what there is. It reports whether it did.
func (k *stepper) propose(ctx context.Context, c *choices, layers []string, note string) (bool, error) {
	got, err := k.r.try(ctx, c)
	if err != nil {
		return false, err
	}
	k.last = got
	if why := worse(got, k.r.score, likely); why != "" {
		if !k.kept && got.DB > k.best.DB {
			k.best, k.note = got, strings.TrimPrefix(note+": "+why, ": ")
		}
		return false, nil
	}
	k.r.now, k.r.score = c, got
	k.kept, k.layers, k.note, k.best = true, layers, note, got
	return true, nil
}

// How many standard errors the mean gain of single runs must be above zero: for
// one step, and for all that is kept together. Dozens of candidates are tried, of
// which chance makes one look good at two.
const (
	likely = 1.5
	sure   = 2.5
)

// worse says why a is not better than now by the margin; "" if it is: the measure
// that decides must rise, in single runs too, and the others, which few samples
// with much to lose decide, may not fall by more than half as much.
func worse(a, now score, errors float64) string {
	gain := a.DB - now.DB
	mean, deviation := gains(a.Runs, now.Runs)
	switch {
	case a.DB <= -trial.Most:
		return "the model does not run"
	case gain < margin:
		return fmt.Sprintf("%+.2f dB on held-out data, where %.1f dB is the margin", gain, margin)
	case mean < errors*deviation:
		return fmt.Sprintf("%+.2f dB on held-out data, but %.2f ± %.2f dB in single runs, which is chance", gain, mean, deviation)
	case now.SQNR-a.SQNR > gain/2:
		return fmt.Sprintf("%+.2f dB on held-out data, but the signal to noise ratio of the outputs fell from %.2f to %.2f dB", gain, now.SQNR, a.SQNR)
	case now.KL-a.KL > gain/2:
		return fmt.Sprintf("%+.2f dB on held-out data, but by divergence it fell from %.2f to %.2f dB", gain, now.KL, a.KL)
	}
	return ""
}

// gains returns the mean over runs of by how many dB a has less noise than b, and
// its standard error.
func gains(a, b []float64) (mean, deviation float64) {
	const least = 1e-30
	n := float64(min(len(a), len(b)))
	if n < 2 {
		return 0, 0
	}
	var sum, squares float64
	for i := range int(n) {
		g := 10 * math.Log10((b[i]+least)/(a[i]+least))
		sum, squares = sum+g, squares+g*g
	}
	mean = sum / n
	return mean, math.Sqrt(math.Max(squares/n-mean*mean, 0) / (n - 1))
}

// done reports the step.
func (k *stepper) done(name string) Step {
	s := Step{Name: name, Kept: k.kept, Before: k.before.DB, After: k.best.DB, Layers: k.layers, Note: k.note}
	if !k.kept {
		s.Layers = nil
	}
	if k.best.DB <= -trial.Most { // nothing was tried
		s.After = k.before.DB
	}
	if s.Note == "" && !k.kept {
		s.Note = "there is nothing that it applies to"
	}
	return s
}

// pieces is one proposal per layer, which can be made alone or together.
type pieces struct {
	layers []string
	build  func(ctx context.Context, layers []string) (*choices, error)
}

// mostTrials bounds what one proposal may try after it fails as a whole.
const mostTrials = 4

// hopeless is how many dB worse a proposal is as a whole when no half of it is
// worth a trial.
const hopeless = 0.5

// proposeParts tries all layers together, and where that fails each half, and so
// on as long as trials are left.
func (k *stepper) proposeParts(ctx context.Context, p pieces, note string) error {
	if len(p.layers) == 0 {
		return nil
	}
	queue, taken := [][]string{p.layers}, []string(nil)
	for trials := 0; len(queue) > 0 && trials <= mostTrials; trials++ {
		part := queue[0]
		queue = queue[1:]
		try := append(slices.Clip(taken), part...)
		c, err := p.build(ctx, try)
		if err != nil {
			var no *notTried
			if errors.As(err, &no) {
				k.refuse(no.why)
				if n := len(part); n > 1 {
					queue = append(queue, part[:n/2], part[n/2:])
				}
				continue
			}
			return err
		}
		ok, err := k.propose(ctx, c, try, note)
		if err != nil {
			return err
		}
		switch n := len(part); {
		case ok:
			taken = try
		case n > 1 && k.last.DB > k.r.score.DB-hopeless:
			queue = append(queue, part[:n/2], part[n/2:])
		}
	}
	return nil
}

// refuse notes why something was not even tried.
func (k *stepper) refuse(why string) {
	if !k.kept && k.best.DB <= -trial.Most {
		k.note = why
	}
}

// notTried is the error of a proposal that must not be tried.
type notTried struct{ why string }

func (e *notTried) Error() string { return e.why }
