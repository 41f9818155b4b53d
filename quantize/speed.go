package quantize

import (
	"errors"
	"fmt"

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
	var last *NotFaster
	for _, f := range factors {
		if tunable {
			fixed.factor, fixed.slower = f, last
		}
		r, err := file(&produce.Guard{Whole: true, Slower: 0.02})
		var slower *produce.Slower
		if !errors.As(err, &slower) {
			return r, err
		}
		if last = (&NotFaster{slower}); !tunable {
			break
		}
	}
	return nil, last
}

// NotFaster is the error of a model that no placement makes faster.
type NotFaster struct {
	Slower *produce.Slower // what was measured last; nil: no operator is faster by itself
}

func (e *NotFaster) Error() string {
	if e.Slower == nil {
		return "not written, since nothing in it is faster in int8 here"
	}
	return fmt.Sprintf("not written, since it would be slower here: %v", e.Slower)
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
