package quantize

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// worthMore is how much less time another mixture must take to be chosen before
// the one with the fewest layers in float32.
const worthMore = 0.02

// paying returns float with the layers that do not pay in int8 beside it: what is
// around them stays in float32 now, so that crossing over costs more than it did
// when the times of operators were held against each other. The second result is
// whether there are any, and int8 is left somewhere.
func (s *searcher) paying(ctx context.Context, float []string) ([]string, bool, error) {
	r := s.r
	m, c := r.base.Clone(), s.choice(float)
	if err := apply(m, slices.Concat(c.edits, c.shifts)); err != nil {
		return nil, false, err
	}
	alone := &static{o: r.s.o, factor: r.s.factor, left: map[float64]map[string]string{}, known: r.s.known, decision: decision{choices: c}}
	alone.find()
	out := &outcome{}
	var err error
	if out.log, err = rewrite.Run(ctx, m, []rewrite.Pass{once{alone.pass(out), new(bool)}}, nil, rewrite.Options{Dims: r.s.o.Rewrite.Dims}); err != nil {
		return nil, false, err
	}
	more := slices.Clone(float)
	for _, name := range slices.Sorted(maps.Keys(alone.left[r.s.factor])) {
		if !slices.Contains(more, name) && r.s.left[r.s.factor][name] == "" {
			more = append(more, name)
			s.unpaid[name] = alone.left[r.s.factor][name]
		}
	}
	left := slices.ContainsFunc(out.layers, func(l Layer) bool { return l.Reason == "" && l.Weight != nil })
	return more, left && len(more) > len(float), nil
}

// quickest chooses, where speed is asked for, the mixture that takes the least time
// of those that were tried and keep the budget, and says so where none gains any.
func (s *searcher) quickest(ctx context.Context, chosen []string) ([]string, error) {
	if !s.r.s.o.Speed || !s.out.Met {
		return chosen, nil
	}
	s.r.s.o.progress("searching: what pays")
	if more, some, err := s.paying(ctx, chosen); err != nil {
		return nil, err
	} else if some {
		if _, err := s.try(ctx, more); err != nil {
			return nil, err
		}
	}
	times := map[string]float64{}
	for _, key := range slices.Sorted(maps.Keys(s.known)) {
		if !s.meets(s.known[key]) {
			continue
		}
		t, err := s.time(ctx, splitSet(key))
		if err != nil {
			return nil, err
		}
		times[key] = t
	}
	key := quickestOf(times, setOf(chosen))
	if times[key] >= 1 {
		s.out.Note = fmt.Sprintf("of the mixtures that keep the budget none takes less time than the original here, the quickest %.2f times as much", times[key])
	}
	return splitSet(key), nil
}

// quickestOf returns the mixture that takes the least time; chosen, unless that is
// worth it.
func quickestOf(times map[string]float64, chosen string) string {
	best := chosen
	for _, key := range slices.Sorted(maps.Keys(times)) {
		if times[key] < times[chosen]-worthMore && times[key] < times[best] {
			best = key
		}
	}
	return best
}

// time returns the time of a mixture over that of the original, measured once.
func (s *searcher) time(ctx context.Context, float []string) (float64, error) {
	key := setOf(float)
	if t, known := s.times[key]; known {
		return t, nil
	}
	s.r.s.o.progress("searching: timing")
	m, _, err := s.r.quantized(ctx, s.choice(float))
	if err != nil {
		return 0, err
	}
	t, err := s.r.held.Ratio(ctx, s.r.base, m)
	if err == nil {
		s.times[key] = t
	}
	return t, err
}
