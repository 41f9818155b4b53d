package report

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Bench returns the measured times in the Go benchmark format, one line per element of every pair, so that
//
//	benchstat -col /model bench.txt
//
// compares the two models. Without a latency section it holds the configuration lines alone. The paired interval of the report
// is narrower than benchstat's, which knows nothing of the pairs.
func (r *Report) Bench() []byte {
	var b bytes.Buffer
	for _, kv := range [][2]string{
		{"tool", r.Environment.Tool}, {"runtime", r.Environment.Runtime.Name + " " + r.Environment.Runtime.Version}, {"device", r.Environment.Device},
		{"cpu", r.Environment.CPU}, {"baseline", r.Baseline.Name}, {"candidate", r.Candidate.Name},
	} {
		if v := strings.TrimSpace(clean(kv[1])); v != "" {
			fmt.Fprintf(&b, "%s: %s\n", kv[0], v)
		}
	}
	b.WriteString("Unit model-B assume=exact better=lower\nUnit peak-RSS-B assume=exact better=lower\n\n")
	l := r.Latency
	if l == nil {
		return b.Bytes()
	}
	baseline, candidate := l.times()
	var basePeak, candPeak int64
	if l.Memory != nil {
		basePeak, candPeak = l.Memory.BaselinePeakBytes, l.Memory.CandidatePeakBytes
	}
	write := func(model string, ms []float64, i int, bytes, peak int64) {
		if i >= len(ms) {
			return
		}
		fmt.Fprintf(&b, "BenchmarkInference/model=%s/batch=%d %d %s ns/op %d model-B", model, max(l.Batch, 1), max(l.Iterations, 1), strconv.FormatFloat(ms[i]*1e6, 'f', -1, 64), bytes)
		if peak > 0 {
			fmt.Fprintf(&b, " %d peak-RSS-B", peak)
		}
		b.WriteByte('\n')
	}
	for i := range max(len(baseline), len(candidate)) {
		write("baseline", baseline, i, r.Baseline.TotalBytes(), basePeak)
		write("candidate", candidate, i, r.Candidate.TotalBytes(), candPeak)
	}
	return b.Bytes()
}

// times returns the measured pairs, or the medians where the pairs themselves are not in the report.
func (l *Latency) times() (baseline, candidate []float64) {
	if l.Series != nil {
		return l.Series.BaselineMS, l.Series.CandidateMS
	}
	if l.BaselineMS != nil && l.CandidateMS != nil {
		return []float64{*l.BaselineMS}, []float64{*l.CandidateMS}
	}
	return nil, nil
}
