package profile

import (
	"fmt"
	"strings"
)

// sweep writes what the settings take, and the best of them.
func (t *table) sweep(s *Sweep) {
	var names []string
	for _, a := range s.Axes {
		names = append(names, a.Name)
	}
	t.line("")
	t.fact("sweep", "of %s: %d settings in %d fresh processes each, taking turns", strings.Join(names, ", "), len(s.Points), s.Processes)
	longest := 0.0
	for _, p := range s.Points {
		longest = max(longest, p.MS/float64(max(1, p.Batch)))
	}
	best := map[int]string{}
	for _, b := range s.Best {
		best[b.Point] += "*"
	}
	var rows [][]string
	for i, p := range s.Points {
		settings := values(p.Settings)
		if p.Failed != "" {
			rows = append(rows, []string{settings, "failed", "", "", "", ""})
			continue
		}
		ratio := "1"
		if p.Ratio != nil {
			ratio = significant(*p.Ratio)
			if p.RatioCI95 != nil {
				ratio += fmt.Sprintf(" [%s, %s]", significant(p.RatioCI95[0]), significant(p.RatioCI95[1]))
			}
		}
		rows = append(rows, []string{settings, duration(p.MS), significant(p.PerSecond), ratio, best[i], bar(p.MS/float64(p.Batch)/longest, 10)})
	}
	t.grid([]column{{strings.Join(names, " "), false}, {"run", true}, {"samples/s", true}, {"time per sample", false}, {"", false}, {"", false}}, rows)
	for i, p := range s.Points {
		if p.Failed != "" {
			t.fact("failed", "%s: %s", values(s.Points[i].Settings), p.Failed)
		}
	}
	for i := range s.Best {
		t.best(s, &s.Best[i])
	}
	for _, w := range s.Warnings {
		t.fact(w.Severity, "%s", w.Message)
	}
}

// values returns settings by their values alone.
func values(settings []Setting) string {
	var out []string
	for _, s := range settings {
		out = append(out, s.Value)
	}
	return strings.Join(out, " ")
}

// best writes one choice: what it is, how sure, and how to set it.
func (t *table) best(s *Sweep, b *SweepBest) {
	p := &s.Points[b.Point]
	where := ""
	for _, w := range b.Where {
		where += fmt.Sprintf(" with %s=%s", w.Name, w.Value)
	}
	t.fact("best", "for %s: %s%s, by: %s", b.For, b.result(p), where, b.Flags)
	if b.Ratio != nil && b.RatioCI95 != nil {
		t.fact("", "%s times the first setting's time [%s, %s], corrected for the choice", significant(*b.Ratio), significant(b.RatioCI95[0]), significant(b.RatioCI95[1]))
	}
	if len(b.Within) > 0 {
		var list []string
		for _, i := range b.Within {
			list = append(list, values(s.Points[i].Settings))
		}
		t.fact("", "not told apart from it: %s", strings.Join(list, "; "))
	}
}

// result states what the choice reaches, with its interval.
func (b *SweepBest) result(p *SweepPoint) string {
	value, per := duration(p.MS), func(ms float64) string { return duration(ms) }
	if b.For == forThroughput {
		value, per = significant(p.PerSecond)+" samples/s", func(ms float64) string { return significant(1e3 * float64(p.Batch) / ms) }
	}
	if p.CI95 == nil {
		return value
	}
	lo, hi := per(p.CI95[0]), per(p.CI95[1])
	if b.For == forThroughput {
		lo, hi = hi, lo
	}
	return fmt.Sprintf("%s [%s, %s]", value, lo, hi)
}

// load writes what became of the requests.
func (t *table) load(l *Load) {
	t.line("")
	t.fact("load", "Poisson arrivals, seed %s, %d instances; latency from the intended arrival", l.Seed, l.Instances)
	t.fact("", "without a queue a request takes %s, of it %s in the engine: %s a second back to back", duration(l.ServiceMS), duration(l.EngineMS), significant(l.Capacity))
	var rows [][]string
	for _, r := range l.Trials {
		row := []string{significant(r.Rate), fmt.Sprint(r.Requests), fmt.Sprintf("%.0f %%", 100*r.Busy), duration(r.WaitMS)}
		for _, q := range []*Quantile{r.P50, r.P90, r.P99} {
			if q == nil {
				row = append(row, "-")
			} else {
				row = append(row, duration(q.MS))
			}
		}
		verdict := r.Verdict
		if r.Unstable {
			verdict = strings.TrimSpace(verdict + " (no end)")
		}
		rows = append(rows, append(row, duration(r.MaxMS), verdict))
	}
	t.grid([]column{{"rate/s", true}, {"requests", true}, {"busy", true}, {"mean wait", true}, {"p50", true}, {"p90", true}, {"p99", true}, {"slowest", true}, {"", false}}, rows)
	if o := l.Objective; o != nil {
		name := fmt.Sprintf("p%s within %s", trimmed(100*o.Quantile), duration(o.MS))
		switch {
		case l.Highest != nil:
			text := fmt.Sprintf("%s requests a second keep %s: %.0f %% of the capacity", significant(l.Highest.PerSecond), name, 100*l.Highest.ShareOfCapacity)
			t.fact("highest", "%s", text)
			t.fact("", "%s", l.Highest.certainty())
		case l.Impossible != "":
			t.fact("highest", "no rate keeps %s: %s", name, l.Impossible)
		default:
			for _, r := range l.Trials {
				if r.Kept != nil {
					t.fact("objective", "%s: %.4g %% of the requests kept it, verdict: %s", name, 100**r.Kept, r.Verdict)
				}
			}
		}
	}
	for _, w := range l.Warnings {
		t.fact(w.Severity, "%s", w.Message)
	}
}

// certainty says between which rates the truth lies.
func (r *LoadRate) certainty() string {
	holds := "no rate that was tried surely keeps it"
	if r.Holds > 0 {
		holds = "surely kept up to " + significant(r.Holds)
	}
	if r.Fails == nil {
		return holds + "; surely missed at no rate that was tried"
	}
	return holds + ", surely missed from " + significant(*r.Fails) + " on"
}

func trimmed(v float64) string { return plainNumber(v) }
