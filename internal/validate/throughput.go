package validate

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// Load is how many samples an engine is given at a time.
type Load struct {
	Batch     int // samples per inference, from 1; 0 is 1
	Instances int // processes per model, all of which run at the same time, from 1; 0 is 1
}

func (l Load) String() string { return fmt.Sprintf("%dx%d", l.Batch, l.Instances) }

// ParseLoads reads loads as in "8x1,1x2": batch × instances. "auto" is a batch of 8, and as many instances with one thread each as
// one instance has threads, where that is more than one.
func ParseLoads(text string, threads int) ([]Load, error) {
	if text == "auto" {
		out := []Load{{Batch: 8, Instances: 1}}
		if threads > 1 {
			out = append(out, Load{Batch: 1, Instances: threads})
		}
		return out, nil
	}
	var out []Load
	for part := range strings.SplitSeq(text, ",") {
		batch, instances, ok := strings.Cut(strings.TrimSpace(part), "x")
		b, err := strconv.Atoi(batch)
		n, also := strconv.Atoi(instances)
		if !ok || err != nil || also != nil || b < 1 || n < 1 || b*n > 1<<16 {
			return nil, fmt.Errorf("load %q is not a batch and a number of instances; write it as in 8x1", part)
		}
		out = append(out, Load{Batch: b, Instances: n})
	}
	return out, nil
}

// throughputBlock is the least time of a block: instances that run side by side do not begin at the very same moment.
const throughputBlock = 50 * time.Millisecond

// throughput compares samples per second under a load. Its plan is that of latency, with half of the budget: a run is one inference
// of every instance.
func (v *validation) throughput(ctx context.Context, l Load) error {
	l.Batch, l.Instances = max(l.Batch, 1), max(l.Instances, 1)
	t, err := v.newTiming(ctx, l.Batch)
	if err != nil {
		return err
	}
	if t.batch != l.Batch {
		v.skip("latency.throughput", "%v: the models, or the number and the shapes of the samples, allow batches of %d", l, t.batch)
		return nil
	}
	t.instances = l.Instances
	if l.Instances > 1 && t.session.Threads > 0 {
		t.session.Threads = max(1, t.session.Threads/l.Instances)
	}
	o := v.o.Latency.plan(v.o.Seed)
	o.Budget /= 2
	o.MinBlock = throughputBlock
	m, err := t.race(ctx, o, func(share float64) { v.o.progress("throughput "+l.String(), int64(1000*share), 1000) })
	if err != nil {
		return err
	}
	v.r.Latency.Throughput = append(v.r.Latency.Throughput, t.rates(m))
	if m.severe != "" {
		v.warn("throughput %v: no conclusion can be drawn, so no interval is stated: %s", l, m.severe)
	}
	return nil
}

// rates turns times per run into samples per second.
func (t *timing) rates(m *measurement) report.Throughput {
	out := report.Throughput{
		Batch: t.batch, Instances: t.instances, Threads: t.session.Threads,
		Ratio: report.Num(1 / m.d.Ratio), Pairs: m.d.Pairs, Processes: m.d.Processes, Severe: m.severe,
	}
	if i := m.interval(m.d.Interval); i != nil {
		out.CI95 = report.CI(1/i[1], 1/i[0])
	}
	var seconds [2][]float64
	for _, b := range m.plan.Blocks() {
		seconds[0], seconds[1] = append(seconds[0], b.Baseline), append(seconds[1], b.Candidate)
	}
	perRun := float64(t.batch * t.instances)
	out.BaselinePerSec, out.CandidatePerSec = report.Num(perRun/measure.Median(seconds[0])), report.Num(perRun/measure.Median(seconds[1]))
	return out
}
