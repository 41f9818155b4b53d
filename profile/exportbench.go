package profile

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
)

// benchLines is how many results stand for one session: benchstat wants six or
// more of each benchmark.
const benchLines = 7

// Bench returns the timed runs in the Go benchmark format, which benchstat
// reads: each result is the mean over a stretch of successive runs of one
// session. Times of operators, from the profiled run, are benchmarks of their
// own.
func (p *Profile) Bench() ([]byte, error) {
	t := p.Timed
	if t == nil {
		return nil, errors.New("a benchmark file holds times, and the model was not run")
	}
	var b bytes.Buffer
	model := "model"
	if p.Static != nil && p.Static.File != nil {
		model = p.Static.File.Name
	}
	for _, kv := range [][2]string{{"goos", runtime.GOOS}, {"goarch", runtime.GOARCH}, {"pkg", "lapidary"}, {"model", clean(model)}, {"device", t.Device}, {"provider", t.Provider}} {
		if kv[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", kv[0], kv[1])
		}
	}
	b.WriteString("Unit samples/s better=higher\nUnit peak-RSS-B better=lower\n\n")
	name := fmt.Sprintf("BenchmarkInference/threads=%d/batch=%d", t.Threads, t.Batch)
	for i, series := range t.Series {
		for _, part := range stretches(series, benchLines) {
			ns := 1e9 * meanOf(part)
			fmt.Fprintf(&b, "%s %d %s ns/op %s samples/s", name, len(part), plainNumber(ns), plainNumber(1e9*float64(t.Batch)/ns))
			if i < len(t.Sessions) && t.Sessions[i].PeakBytes > 0 {
				fmt.Fprintf(&b, " %d peak-RSS-B", t.Sessions[i].PeakBytes)
			}
			b.WriteByte('\n')
		}
	}
	for _, s := range t.Sessions {
		fmt.Fprintf(&b, "BenchmarkOpen 1 %s ns/op\nBenchmarkFirstRun 1 %s ns/op\n", plainNumber(1e6*s.OpenMS), plainNumber(1e6*s.FirstRunMS))
	}
	if t.Accounting != nil {
		for _, g := range t.Operators {
			fmt.Fprintf(&b, "BenchmarkOperator/op=%s %d %s ns/op\n", benchName(g.Name), t.Accounting.Runs, plainNumber(1e6*g.MS))
		}
	}
	return b.Bytes(), nil
}

// stretches divides a series into at most n parts of equal length, give or take one.
func stretches(series []float64, n int) [][]float64 {
	n = min(n, len(series))
	var out [][]float64
	for i := range n {
		out = append(out, series[i*len(series)/n:(i+1)*len(series)/n])
	}
	return out
}

// benchName makes one part of a benchmark's name.
func benchName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == ' ' || r == '=' {
			return '_'
		}
		return r
	}, clean(s))
}

// plainNumber writes v without an exponent and without needless digits.
func plainNumber(v float64) string {
	s := strconv.FormatFloat(v, 'f', 3, 64)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}
