package profile

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/measure"
)

// summary describes the requests that were served. Of a trial that was stopped
// these are the first ones.
func (t *flight) summary(rate float64, servers int, o *Objective, seed uint64) *LoadTrial {
	n := min(int(t.next.Load()), len(t.due))
	for n > 0 && t.latency[n-1] == 0 { // taken and not served, as the trial was stopped
		n--
	}
	out := &LoadTrial{Rate: rate, Requests: n, Unstable: t.stopped.Load()}
	if n == 0 {
		return out
	}
	latency := t.latency[:n]
	span := 0.0 // from the first arrival to the last result
	for i, v := range latency {
		span = max(span, (t.due[i]-t.due[0]).Seconds()+v)
	}
	if span > 0 {
		out.Served = float64(n) / span
		out.Busy = min(1, float64(t.busy.Load())/1e9/span/float64(servers))
	}
	out.MeanMS, out.WaitMS = 1e3*meanOf(latency), 1e3*meanOf(t.wait[:n])
	out.MaxMS = 1e3 * slices.Max(latency)
	late := slices.Clone(t.late[:n])
	slices.Sort(late)
	out.LateMS = 1e3 * late[(n-1)*99/100]
	q := queueQuantiles(latency, seed, 0.5, 0.9, 0.95, 0.99)
	out.P50, out.P90, out.P95, out.P99 = q[0], q[1], q[2], q[3]
	if o != nil {
		out.judge(latency, o, seed)
	}
	return out
}

// judge compares the quantile's interval with the objective.
func (t *LoadTrial) judge(latency []float64, o *Objective, seed uint64) {
	kept := 0
	for _, v := range latency {
		if 1e3*v <= o.MS {
			kept++
		}
	}
	t.Kept = pointer(float64(kept) / float64(len(latency)))
	q := queueQuantiles(latency, seed, o.Quantile)[0]
	switch {
	case t.Unstable || q != nil && q.CI95[0] > o.MS:
		t.Verdict = verdictFails
	case q != nil && q.CI95[1] <= o.MS:
		t.Verdict = verdictHolds
	default:
		t.Verdict = verdictUnclear
	}
}

// keeps reports whether the share of requests that kept the objective is large enough.
func (t *LoadTrial) keeps(o *Objective) bool {
	return !t.Unstable && t.Kept != nil && *t.Kept >= o.Quantile
}

// queueQuantiles estimates quantiles, ascending, of latencies in the order of
// arrival. Those of one busy period belong together, so each interval is wider
// than one by order statistics alone: it takes in those for as many requests as
// there are independent ones, where these are enough, and a bootstrap of blocks
// of successive requests (Künsch 1989). A quantile is nil where there are too few
// requests for any interval.
func queueQuantiles(latency []float64, seed uint64, ps ...float64) []*Quantile {
	n := len(latency)
	order := make([]int, n) // of the requests by latency
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(latency[i], latency[j]) })
	sorted := make([]float64, n)
	for k, i := range order {
		sorted[k] = latency[i]
	}
	again := resampled(latency, order, seed, ps)
	out := make([]*Quantile, len(ps))
	for k, p := range ps {
		lo, hi, ok := measure.OrderInterval(n, p, 0.95)
		if !ok {
			continue
		}
		low, high := min(sorted[lo-1], again[k][resamples*25/1000]), max(sorted[hi-1], again[k][resamples-1-resamples*25/1000])
		q := rank(sorted, p)
		worth := float64(n) / max(1, correlationTime(above(latency, q)))
		if lo, hi, ok := measure.OrderInterval(int(worth), p, 0.95); ok {
			low = min(low, rank(sorted, (float64(lo)-0.5)/worth))
			high = max(high, rank(sorted, min(1, (float64(hi)-0.5)/worth)))
		}
		out[k] = &Quantile{MS: 1e3 * q, CI95: [2]float64{1e3 * low, 1e3 * high}}
	}
	return out
}

const resamples = 200

// resampled returns the quantiles of resamples, ascending for each quantile. A
// resample is as many blocks, drawn with replacement, as make up the series; it
// is not written out: how often each request is in it is enough.
func resampled(latency []float64, order []int, seed uint64, ps []float64) [][]float64 {
	n := len(latency)
	length := min(n, max(int(math.Sqrt(float64(n))), 2*int(math.Ceil(correlationTime(latency)))))
	blocks := (n + length - 1) / length
	rng := rand.New(rand.NewPCG(seed, 0x626c6f63))
	out := make([][]float64, len(ps))
	times := make([]int, n+1)
	for range resamples {
		clear(times)
		for range blocks {
			at := rng.IntN(n - length + 1)
			times[at]++
			times[at+length]--
		}
		for i := 1; i < n; i++ {
			times[i] += times[i-1]
		}
		k, seen := 0, 0
		for _, i := range order {
			for seen += times[i]; k < len(ps) && float64(seen) >= ps[k]*float64(blocks*length); k++ {
				out[k] = append(out[k], latency[i])
			}
		}
	}
	for _, v := range out {
		slices.Sort(v)
	}
	return out
}

// above marks the values above a limit.
func above(v []float64, limit float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		if x > limit {
			out[i] = 1
		}
	}
	return out
}

// rank interpolates between order statistics.
func rank(sorted []float64, p float64) float64 {
	h := p * float64(len(sorted)-1)
	i := min(int(h), len(sorted)-2)
	if i < 0 {
		return sorted[0]
	}
	return sorted[i] + (h-float64(i))*(sorted[i+1]-sorted[i])
}

// correlationTime is the sum of the autocorrelations up to the first that is
// below 0.05: how many requests behave as one.
func correlationTime(v []float64) float64 {
	m, variance := meanOf(v), 0.0
	for _, x := range v {
		variance += (x - m) * (x - m)
	}
	total := 1.0
	if variance == 0 {
		return total
	}
	for lag := 1; lag < len(v)/10; lag++ {
		c := 0.0
		for i := lag; i < len(v); i++ {
			c += (v[i] - m) * (v[i-lag] - m)
		}
		if c /= variance; c < 0.05 {
			break
		}
		total += 2 * c
	}
	return total
}

func meanOf(v []float64) float64 {
	total := 0.0
	for _, x := range v {
		total += x
	}
	return total / float64(len(v))
}

// search finds the highest rate that keeps the objective by bisection between a
// rate that keeps it and one that does not. At the capacity itself a queue grows
// without end, so no trial is needed there.
func (d *driver) search(ctx context.Context) error {
	o := d.o.Objective
	if d.l.ServiceMS > o.MS {
		d.l.Impossible = fmt.Sprintf("a request without a queue takes %s", duration(d.l.ServiceMS))
		return nil
	}
	low, high, missed := 0.0, d.l.Capacity, false
	rate := high / 2
	for i := range maxTrials {
		t, err := d.trial(ctx, rate)
		if err != nil {
			return err
		}
		d.o.Progress(int64(i+1), maxTrials)
		if t.keeps(o) {
			low = rate
		} else {
			high, missed = rate, true
		}
		if low > 0 && high/low-1 < rateStep {
			if missed {
				break
			}
			high *= 1.25 // the capacity was measured too low
		}
		if low == 0 && high < d.l.Capacity/10 {
			break
		}
		if rate = (low + high) / 2; low == 0 {
			rate = high / 3
		} else if i == 0 {
			rate = 0.8 * high
		}
	}
	if low == 0 {
		d.l.Impossible = fmt.Sprintf("at %s requests a second, %.0f %% of the capacity, it is missed, and a request without a queue takes %s",
			significant(high), 100*high/d.l.Capacity, duration(d.l.ServiceMS))
		return nil
	}
	d.l.Highest = &LoadRate{PerSecond: low, ShareOfCapacity: low / d.l.Capacity}
	return d.surround(ctx, low, high)
}

// surround tries rates farther out until one surely keeps the objective and
// another surely misses it, or too many were tried.
func (d *driver) surround(ctx context.Context, low, high float64) error {
	r := d.l.Highest
	r.bound(d.l.Trials)
	const more = 2
	for range more {
		if r.Holds > 0 {
			break
		}
		low *= 0.75
		if _, err := d.trial(ctx, low); err != nil {
			return err
		}
		r.bound(d.l.Trials)
	}
	for range more {
		if r.Fails != nil {
			break
		}
		high = (high + max(high, d.l.Capacity)) / 2
		if _, err := d.trial(ctx, high); err != nil {
			return err
		}
		r.bound(d.l.Trials)
	}
	return nil
}

// bound fills in between which rates the truth lies, by the trials' verdicts.
func (r *LoadRate) bound(trials []LoadTrial) {
	for i := range trials {
		t := &trials[i]
		switch {
		case t.Verdict == verdictFails && (r.Fails == nil || t.Rate < *r.Fails):
			r.Fails = pointer(t.Rate)
		case t.Verdict == verdictHolds && t.Rate > r.Holds:
			r.Holds = t.Rate
		}
	}
	if r.Fails != nil && r.Holds > *r.Fails { // noise: a higher rate held where a lower one failed
		r.Holds = 0
		for i := range trials {
			if t := &trials[i]; t.Verdict == verdictHolds && t.Rate < *r.Fails {
				r.Holds = max(r.Holds, t.Rate)
			}
		}
	}
}

// doubts warns where the generator, not the model, may be what was measured.
func (d *driver) doubts() {
	warn := func(code, format string, args ...any) {
		d.l.Warnings = append(d.l.Warnings, Warning{Code: code, Severity: measure.Warn.String(), Message: fmt.Sprintf(format, args...)})
	}
	if over := d.l.ServiceMS - d.l.EngineMS; d.l.EngineMS > 0 && over > 0.2*d.l.ServiceMS {
		warn("handing-over", "of the %s that a request takes, %s are for handing inputs and outputs to the model's process", duration(d.l.ServiceMS), duration(over))
	}
	for _, t := range d.l.Trials {
		if t.P50 != nil && t.LateMS > 0.2*t.P50.MS && !t.Unstable {
			warn("generator-late", "at %s requests a second the generator itself was up to %s late: other work is on this machine's processors", significant(t.Rate), duration(t.LateMS))
			break
		}
	}
	if r := d.l.Highest; r != nil && r.Fails != nil && *r.Fails < r.PerSecond {
		warn("unsteady", "a rate of %s missed the objective and a higher one kept it: the machine was not in one state", significant(*r.Fails))
	}
	for _, t := range d.l.Trials {
		if t.Unstable && d.o.Rate > 0 {
			warn("unstable", "the queue grew without end at %s requests a second: more than the capacity of %s", significant(t.Rate), significant(d.l.Capacity))
		}
	}
}
