package report

import (
	"fmt"
	"time"
)

// row compares the cold starts.
func (c *ColdStart) row() row {
	if c.Ratio == nil {
		return ratioRow("cold start", UnitMS, c.BaselineMS, c.CandidateMS)
	}
	return row{"cold start", value(UnitMS, c.BaselineMS), value(UnitMS, c.CandidateMS), estimate(UnitRatio, c.Ratio, c.CI95)}
}

// facts splits the cold starts of both models.
func (c *ColdStart) facts() [][2]string {
	if c == nil || c.Baseline == nil || c.Candidate == nil {
		return nil
	}
	var out [][2]string
	for _, p := range []struct {
		name string
		b, c *float64
	}{
		{"reading the file, baseline and candidate", c.Baseline.ReadMS, c.Candidate.ReadMS},
		{"creating the session", c.Baseline.CreateMS, c.Candidate.CreateMS},
		{"first inference", c.Baseline.FirstRunMS, c.Candidate.FirstRunMS},
	} {
		if p.b != nil && p.c != nil {
			out = append(out, [2]string{p.name, FormatValue(UnitMS, *p.b) + ", " + FormatValue(UnitMS, *p.c)})
		}
	}
	return out
}

// row compares the energies.
func (e *Energy) row() row {
	mj := func(v *float64) string {
		if v == nil {
			return "–"
		}
		return significant(*v, 3) + " mJ"
	}
	out := row{"energy per inference", mj(e.BaselineMJ), mj(e.CandidateMJ), "–"}
	switch {
	case e.Ratio != nil:
		out.Change = estimate(UnitRatio, e.Ratio, e.CI95)
	case e.BaselineMJ != nil && e.CandidateMJ != nil:
		out.Change = ratioOf(*e.BaselineMJ, *e.CandidateMJ)
	}
	return out
}

// facts says how energy was measured.
func (e *Energy) facts() [][2]string {
	if e == nil || e.IdleWatts == nil {
		return nil
	}
	text := significant(*e.IdleWatts, 3) + " W by " + clean(e.Counter)
	if e.IdleShare != nil {
		text += ", " + FormatValue(UnitFraction, *e.IdleShare) + " of the power at work"
	}
	return [][2]string{{"idle power, subtracted", text}}
}

// row compares samples per second.
func (t *Throughput) row() row {
	rate := func(v *float64) string {
		if v == nil {
			return "–"
		}
		return significant(*v, 3) + "/s"
	}
	return row{"throughput, " + t.Load(), rate(t.BaselinePerSec), rate(t.CandidatePerSec), estimate(UnitRatio, t.Ratio, t.CI95)}
}

// deltas states by how much the candidate takes more or less, in units.
func (l *Latency) deltas() [][2]string {
	var out [][2]string
	add := func(name, unit string, v *float64, ci *Interval) {
		if v != nil {
			out = append(out, [2]string{name + ", candidate − baseline", signed(unit, v, ci)})
		}
	}
	for _, q := range l.quantiles() {
		if q.q != nil {
			add(q.name, UnitMS, q.q.DeltaMS, q.q.DeltaCI95)
		}
	}
	if m := l.Memory; m != nil {
		add("peak memory", UnitBytes, m.DeltaBytes, m.DeltaCI95)
	}
	return out
}

// measured says how the memory was measured, and how much more or less the candidate takes.
func (m *Memory) measured() string {
	how := "resident memory of the process that ran the model"
	if m.DeltaBytes == nil {
		return how
	}
	return how + "; candidate − baseline, the mean over processes: " + signed(UnitBytes, m.DeltaBytes, m.DeltaCI95)
}

// namedQuantile is a quantile of run times, nil where too few runs support it.
type namedQuantile struct {
	name string
	q    *Quantile
	need int // runs that it takes
}

func (l *Latency) quantiles() []namedQuantile {
	return []namedQuantile{{"median", l.P50, 6}, {"90th percentile", l.P90, 36}, {"95th percentile", l.P95, 72}, {"99th percentile", l.P99, 368}}
}

// tails states the early-stopping bounds.
func (l *Latency) tails() [][2]string {
	var out [][2]string
	for _, q := range []struct {
		name string
		q    *Quantile
	}{{"90th", l.P90}, {"95th", l.P95}, {"99th", l.P99}} {
		if q.q != nil && q.q.EarlyStopping != nil {
			out = append(out, [2]string{q.name + " percentile by early stopping (MLPerf, 99 %), at most", q.q.EarlyStopping.text()})
		}
	}
	return out
}

// text returns both bounds for a reader.
func (b *Bounds) text() string {
	if b == nil {
		return "–"
	}
	return FormatValue(UnitMS, b.BaselineMS) + ", " + FormatValue(UnitMS, b.CandidateMS)
}

// facts says what the self-test found.
func (s *SelfTest) facts() [][2]string {
	if s == nil {
		return nil
	}
	when := "of " + s.Measured.UTC().Format(time.DateOnly)
	if s.Cached {
		when += ", kept from an earlier report"
	}
	out := [][2]string{{"the baseline against a copy of itself", fmt.Sprintf("%s comparisons of %s s %s", FormatCount(s.Repeats), dropZeros(significant(s.BudgetS, 2)), when)}}
	if s.FalseAlarmRate != nil {
		text := fmt.Sprintf("%s of %s, %s", FormatCount(s.FalseAlarms), FormatCount(s.Repeats-s.Inconclusive), estimate(UnitFraction, s.FalseAlarmRate, s.RateCI95))
		out = append(out, [2]string{"false alarms (1 outside of the 95 % interval)", text}, [2]string{"false alarms of more than 1 %", FormatCount(s.Claims)})
	}
	if s.Inconclusive > 0 {
		out = append(out, [2]string{"comparisons that noise left undecided", FormatCount(s.Inconclusive)})
	}
	if s.MinEffect != nil {
		out = append(out, [2]string{"smallest change that is found here in as long", estimate(UnitFraction, s.MinEffect, s.MinEffectCI95)})
	}
	return out
}
