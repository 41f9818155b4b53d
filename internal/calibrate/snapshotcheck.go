package calibrate

import (
	"errors"
	"fmt"
	"math"
)

// check refuses statistics of a file that no measurement can have given: the file
// may have been damaged, or written by somebody else.
func (s *snapshot) check(wants []Want) error {
	if s.Group < 0 || s.Batches < 0 || s.Samples < 0 {
		return errors.New("it counts below zero")
	}
	for name, x := range s.Stats {
		if x == nil {
			return fmt.Errorf("there are no statistics of %q", name)
		}
		if err := x.check(); err != nil {
			return fmt.Errorf("the statistics of %q: %w", name, err)
		}
	}
	for _, w := range wants {
		x := s.Stats[w.key()]
		if x == nil || x.Runs == 0 {
			continue
		}
		if w.Channels && x.Channels == nil || !w.Extremes && x.Histogram == nil {
			return fmt.Errorf("the statistics of %q are incomplete", w.key())
		}
	}
	return nil
}

func (s *Stats) check() error {
	if s.Runs < 0 || s.Invalid < 0 || s.Count < 0 {
		return errors.New("they count below zero")
	}
	if !finite(s.Min) || !finite(s.Max) || s.Min > s.Max {
		return fmt.Errorf("they range from %v to %v", s.Min, s.Max)
	}
	if c := s.Channels; c != nil && (c.Count < 0 || len(c.Peak) != len(c.Sum) || len(c.Size) != len(c.Sum) || len(c.Squares) != len(c.Sum)) {
		return errors.New("they have channels of several lengths")
	}
	if s.Histogram != nil {
		return s.Histogram.check(s.Min, s.Max)
	}
	return nil
}

// check holds that the bins lie on the grid of the range [lo, hi], or on a finer
// one, and count something.
func (h *Histogram) check(lo, hi float32) error {
	if len(h.Counts) == 0 || len(h.Counts) > mostBins || h.Exp != gridFor(lo, hi) {
		return fmt.Errorf("%d bins of the width 2^%d are not a histogram of %v to %v", len(h.Counts), h.Exp, lo, hi)
	}
	if h.First < indexOf(lo, h.Exp) || h.First+int64(len(h.Counts))-1 > indexOf(hi, h.Exp) {
		return fmt.Errorf("a histogram lies outside of %v to %v", lo, hi)
	}
	left := int64(math.MaxInt64)
	for _, n := range h.Counts {
		if n < 0 || n > left {
			return errors.New("a histogram counts what cannot be")
		}
		left -= n
	}
	if h.Zeros < 0 || h.Zeros > math.MaxInt64-left {
		return fmt.Errorf("a histogram has %d zeros", h.Zeros)
	}
	return nil
}
