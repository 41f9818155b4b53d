package validate

import (
	"fmt"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// cold is how a fresh process came to its first result.
type cold struct{ read, create, first time.Duration }

func (c cold) total() time.Duration { return c.read + c.create + c.first }

// coldStart describes the cold starts of both models, which were opened in pairs of fresh processes; nil where the engine does
// not tell. Each pair is one observation of the ratio.
func coldStart(starts [2][]cold, severe bool) (*report.ColdStart, error) {
	if len(starts[0]) == 0 {
		return nil, nil
	}
	total := func(arm int) *float64 { return medianMS(starts[arm], cold.total) }
	c := &report.ColdStart{BaselineMS: total(0), CandidateMS: total(1), Baseline: phases(starts[0]), Candidate: phases(starts[1])}
	if len(starts[0]) < 2 {
		return c, nil
	}
	blocks := make([]measure.Block, len(starts[0]))
	for i, b := range starts[0] {
		blocks[i] = measure.Block{Process: i, Runs: 1, Baseline: b.total().Seconds(), Candidate: starts[1][i].total().Seconds()}
	}
	d, err := measure.Compare(blocks, measure.CompareOptions{})
	if err != nil {
		return nil, fmt.Errorf("timing the cold start: %w", err)
	}
	c.Ratio = report.Num(d.Ratio)
	if !severe {
		c.CI95 = report.CI(d.Interval.Low, d.Interval.High)
	}
	return c, nil
}

func phases(starts []cold) *report.ColdPhases {
	return &report.ColdPhases{
		ReadMS:     medianMS(starts, func(c cold) time.Duration { return c.read }),
		CreateMS:   medianMS(starts, func(c cold) time.Duration { return c.create }),
		FirstRunMS: medianMS(starts, func(c cold) time.Duration { return c.first }),
	}
}

// medianMS returns the median of a part of the starts; nil where no start has it.
func medianMS(starts []cold, part func(cold) time.Duration) *float64 {
	var ms []float64
	for _, c := range starts {
		if d := part(c); d > 0 {
			ms = append(ms, 1e3*d.Seconds())
		}
	}
	if len(ms) == 0 {
		return nil
	}
	return report.Num(measure.Median(ms))
}
