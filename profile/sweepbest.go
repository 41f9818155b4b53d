package profile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/measure"
)

// What a setting may be best for.
const (
	forLatency    = "latency"
	forThroughput = "throughput"
)

// conclude turns the turns into times, ratios and the best settings.
func (w *sweeper) conclude() error {
	groups := map[int][]int{} // the points that were timed, by their dimensions
	var order []int
	for i, r := range w.runs {
		if r.point.Failed != "" {
			continue
		}
		if err := r.summarizePoint(); err != nil {
			return err
		}
		if groups[r.group] == nil {
			order = append(order, r.group)
		}
		groups[r.group] = append(groups[r.group], i)
	}
	if len(order) == 0 {
		return fmt.Errorf("no setting could be timed; with %s: %s", flags(w.runs[0].point.Settings), w.runs[0].point.Failed)
	}
	for _, g := range order {
		points := groups[g]
		for _, i := range points[1:] {
			if err := w.relate(i, points[0]); err != nil {
				return err
			}
		}
		for _, goal := range w.goals() {
			b, err := w.best(goal, points)
			if err != nil {
				return err
			}
			w.s.Best = append(w.s.Best, *b)
		}
	}
	return nil
}

// goals returns what settings are best for: throughput is another question than
// latency only where the batch varies.
func (w *sweeper) goals() []string {
	if slices.ContainsFunc(w.o.Axes, func(a SweepAxis) bool { return a.Name == "batch" && len(a.Values) > 1 }) {
		return []string{forLatency, forThroughput}
	}
	return []string{forLatency}
}

// summarizePoint fills in the time of a setting: the geometric mean over
// processes of their medians, with Student's t interval. It is the ratio to a
// model that takes a second.
func (r *sweepRun) summarizePoint() error {
	blocks := make([]measure.Block, len(r.times))
	for i, t := range r.times {
		blocks[i] = measure.Block{Process: t.process, Runs: t.runs, Baseline: 1, Candidate: t.perSample * float64(r.batch)}
		r.point.Runs += t.runs
	}
	d, err := measure.Compare(byProcessOrder(blocks), measure.CompareOptions{})
	if err != nil {
		return fmt.Errorf("with %s: %w", flags(r.point.Settings), err)
	}
	r.point.MS, r.point.CI95 = 1e3*d.Ratio, &[2]float64{1e3 * d.Interval.Low, 1e3 * d.Interval.High}
	r.point.PerSecond = float64(r.batch) / d.Ratio
	if len(r.peaks) > 0 {
		r.point.PeakBytes = int64(measure.Median(r.peaks))
	}
	return nil
}

// byProcessOrder sorts blocks by process, keeping their order within one.
func byProcessOrder(blocks []measure.Block) []measure.Block {
	slices.SortStableFunc(blocks, func(a, b measure.Block) int { return cmp.Compare(a.Process, b.Process) })
	return blocks
}

var errNoPairs = errors.New("the two settings were never timed in one round")

// ratio compares point i with point j by the rounds in which both had a turn:
// per sample, or per run.
func (w *sweeper) ratio(i, j int, perRun bool, confidence float64) (*measure.Difference, error) {
	type key struct{ process, round int }
	of := func(r *sweepRun, t sweepTurn) float64 {
		if perRun {
			return t.perSample * float64(r.batch)
		}
		return t.perSample
	}
	other := map[key]float64{}
	for _, t := range w.runs[j].times {
		other[key{t.process, t.round}] = of(w.runs[j], t)
	}
	var blocks []measure.Block
	for _, t := range w.runs[i].times {
		if base := other[key{t.process, t.round}]; base > 0 {
			blocks = append(blocks, measure.Block{Process: t.process, Runs: t.runs, Baseline: base, Candidate: of(w.runs[i], t)})
		}
	}
	if len(blocks) < 2 {
		return nil, errNoPairs
	}
	return measure.Compare(byProcessOrder(blocks), measure.CompareOptions{Confidence: confidence})
}

// relate states the ratio of point i to the first of its group.
func (w *sweeper) relate(i, first int) error {
	d, err := w.ratio(i, first, false, 0)
	if errors.Is(err, errNoPairs) {
		return nil
	}
	if err != nil {
		return err
	}
	w.s.Points[i].Ratio, w.s.Points[i].RatioCI95 = pointer(d.Ratio), &[2]float64{d.Interval.Low, d.Interval.High}
	return nil
}

// best chooses among points for a goal.
func (w *sweeper) best(goal string, points []int) (*SweepBest, error) {
	perRun := goal == forLatency
	cost := func(i int) float64 {
		if perRun {
			return w.s.Points[i].MS
		}
		return w.s.Points[i].MS / float64(w.s.Points[i].Batch)
	}
	chosen := slices.MinFunc(points, func(i, j int) int { return cmp.Compare(cost(i), cost(j)) })
	b := &SweepBest{For: goal, Point: chosen, Where: dimensions(w.s.Points[chosen].Settings), Flags: flags(w.s.Points[chosen].Settings)}
	if first := points[0]; chosen != first {
		d, err := w.ratio(chosen, first, perRun, 1-0.05/float64(len(points)-1))
		if err == nil {
			b.Ratio, b.RatioCI95 = pointer(d.Ratio), &[2]float64{d.Interval.Low, d.Interval.High}
		} else if !errors.Is(err, errNoPairs) {
			return nil, err
		}
	}
	for _, i := range points {
		if i == chosen {
			continue
		}
		d, err := w.ratio(i, chosen, perRun, 0)
		if errors.Is(err, errNoPairs) { // other lots: by their intervals
			if p, q := w.s.Points[i], w.s.Points[chosen]; p.CI95 != nil && q.CI95 != nil && p.CI95[0] <= q.CI95[1] && perRun {
				b.Within = append(b.Within, i)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if d.Interval.Low <= 1 {
			b.Within = append(b.Within, i)
		}
	}
	return b, nil
}
