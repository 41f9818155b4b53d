package quantize

import (
	"errors"
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/produce"
)

// factors are by how much an operator must be faster in int8 by itself, one
// after the other until the model as a whole is: what operators take by
// themselves and what they take in their places is not the same.
var factors = []float64{1, 1.5, 2.5, 5}

// fastest makes a model, and where that is to be fast, another one with fewer
// nodes in int8 as long as it is slower than the original. It fails with a
// [NotFaster] where none is left to try.
func fastest(s scheme, file func(*produce.Guard) (*produce.Result, error), o *Options) (*produce.Result, error) {
	if !o.Speed || o.weightOnly() {
		return file(nil)
	}
	fixed, tunable := s.(*static)
	attempt := func(factor float64, before *NotFaster) (*produce.Result, *NotFaster, error) {
		if tunable {
			fixed.factor, fixed.slower = factor, before
		}
		r, err := file(&produce.Guard{Whole: true, Slower: 0.02})
		var slower *produce.Slower
		if errors.As(err, &slower) {
			return nil, &NotFaster{slower, o.SearchOptions.String()}, nil
		}
		return r, nil, err
	}
	r, slow, err := attempt(1, nil)
	if err != nil || !tunable || !fixed.unpaid || o.InPlace && slow == nil {
		if slow != nil {
			return nil, slow
		}
		return r, err
	}
	return faster(r, slow, attempt)
}

// faster holds r, in which times of single operators left some in float32,
// against the model with all of them in int8: what engines do between operators
// no single one tells. The model that took less time is the one that is written;
// where both are slower than the original, it goes on with less in int8. r is nil
// where it was slower, and then slow says by how much.
func faster(r *produce.Result, slow *NotFaster, attempt func(float64, *NotFaster) (*produce.Result, *NotFaster, error)) (*produce.Result, error) {
	all, _, err := attempt(0, nil)
	switch {
	case err != nil:
		return nil, err
	case all != nil && (r == nil || ratioOf(all) <= ratioOf(r)):
		return all, nil
	case all == nil && r != nil:
		return r, nil // nothing was written in its place
	}
	for _, f := range factors {
		if f == 1 && r == nil {
			continue
		}
		again, slower, err := attempt(f, slow)
		if err != nil || again != nil {
			return again, err
		}
		slow = slower
	}
	return nil, slow
}

// ratioOf is the time of a result over that of the original, infinite where it
// was not measured.
func ratioOf(r *produce.Result) float64 {
	if r.Guarded == nil || r.Guarded.Latency == nil {
		return math.Inf(1)
	}
	return r.Guarded.Latency.Ratio
}

// NotFaster is the error of a model that no placement makes faster.
type NotFaster struct {
	Slower *produce.Slower // what was measured last; nil: no operator is faster by itself
	Budget string          // that was kept; "" is none
}

func (e *NotFaster) Error() string {
	if e.Slower == nil {
		return "not written, since nothing in it is faster in int8 here"
	}
	with := ""
	if e.Budget != "" {
		with = fmt.Sprintf("with a budget of %s ", e.Budget)
	}
	return fmt.Sprintf("not written, since %sit would be slower here: %v", with, e.Slower)
}

// paid fails where all that could be quantized was left out because it does not
// pay: a copy of the original is no answer to a wish for speed.
func (s *static) paid(r *outcome) error {
	if !s.o.Speed || len(r.log.Fired) > 0 || !s.unpaid {
		return nil
	}
	if s.slower != nil {
		return s.slower
	}
	return &NotFaster{}
}
