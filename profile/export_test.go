package profile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/report/schematest"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// fullProfile has every part that this package makes, of a hostile name.
func fullProfile(t *testing.T) *Profile {
	t.Helper()
	e := &engine{events: nodeEvents}
	p := New(static(t, residual(), StaticOptions{}), timed(t, e, TimedOptions{Session: session.Options{Threads: 2}}, sample(1)))
	p.Static.File = &File{Name: "a \"b\"\\c/é\x1b\n<script>alert(1)</script>.onnx", Bytes: 1 << 20}
	p.Sweep = exampleSweep()
	p.Load = exampleLoad()
	return p
}

// exampleSweep is two curves over four batches, one of which failed.
func exampleSweep() *Sweep {
	s := &Sweep{Axes: []SweepAxis{{"threads", []string{"1", "2"}}, {"batch", []string{"1", "2", "4", "8"}}}, Processes: 5, Seed: "1", Best: []SweepBest{}}
	for _, set := range combinations(s.Axes) {
		threads, _ := strconv.ParseFloat(set[0].Value, 64)
		batch, _ := strconv.ParseFloat(set[1].Value, 64)
		p := SweepPoint{Settings: set, Batch: int(batch)}
		if threads == 2 && batch == 8 {
			p.Failed = "not enough memory"
		} else {
			p.MS = (1.2 + 1.9*batch) / (0.4 + 0.6*threads)
			p.CI95 = &[2]float64{p.MS * 0.96, p.MS * 1.05}
			p.PerSecond, p.Runs, p.PeakBytes = 1e3*batch/p.MS, 300, 50<<20
			p.Ratio, p.RatioCI95 = pointer(p.MS/batch/3.1), &[2]float64{p.MS / batch / 3.2, p.MS / batch / 3}
		}
		s.Points = append(s.Points, p)
	}
	s.Best = []SweepBest{{For: forLatency, Point: 4, Flags: flags(s.Points[4].Settings), Ratio: pointer(0.62), RatioCI95: &[2]float64{0.6, 0.64}},
		{For: forThroughput, Point: 6, Flags: flags(s.Points[6].Settings), Ratio: pointer(0.42), RatioCI95: &[2]float64{0.4, 0.44}, Within: []int{5}}}
	return s
}

// exampleLoad is the search for a rate with a simulated server.
func exampleLoad() *Load {
	var c simulated
	l, err := drive(context.Background(), []server{c.serving(constant(5 * time.Millisecond))}, &c, LoadOptions{
		Objective: &Objective{MS: 20, Quantile: 0.99}, Duration: 30 * time.Second, Seed: 6, Progress: func(int64, int64) {}})
	if err != nil {
		panic(err)
	}
	return l
}

func TestTraceIsReadBack(t *testing.T) {
	b, err := fullProfile(t).TraceJSON()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Unit   string `json:"displayTimeUnit"`
		Events []struct {
			Name, Ph string
			Ts       *float64
			Dur      float64
			Pid, Tid int
			Args     map[string]any
		} `json:"traceEvents"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	last, nodes, runs, counters := 0.0, 0, 0, 0
	named := map[[2]int]bool{}
	for i, e := range doc.Events {
		switch {
		case e.Ts == nil || *e.Ts < last:
			t.Fatalf("event %d begins at %v, before %v", i, e.Ts, last)
		case e.Dur < 0 || e.Pid == 0:
			t.Errorf("event %d: %+v", i, e)
		case e.Ph == "M":
			named[[2]int{e.Pid, e.Tid}] = true
			continue
		case !named[[2]int{e.Pid, e.Tid}] && e.Ph == "X":
			t.Errorf("event %d is on a thread without a name: %+v", i, e)
		}
		last = *e.Ts
		switch {
		case e.Ph == "C":
			counters++
		case e.Pid == traceNodes:
			nodes++
		case e.Pid == traceLoad:
			runs++
		}
	}
	if nodes != 4 || runs < 300 || counters == 0 || doc.Unit != "ms" {
		t.Errorf("%d nodes, %d runs, %d counters", nodes, runs, counters)
	}
	if again, err := ParseTrace(b); err != nil || again.Skipped > 0 {
		t.Errorf("the trace is not read back: %v", err)
	}
	if _, err := New(nil, nil).TraceJSON(); err == nil {
		t.Error("a trace without runs was written")
	}
}

// TestBenchIsReadBack holds every line to the Go benchmark format.
func TestBenchIsReadBack(t *testing.T) {
	p := fullProfile(t)
	b, err := p.Bench()
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^([a-z][^\sA-Z]*: .*|Unit \S+( \S+=\S+)+|(Benchmark[A-Z]\S*) ([0-9]+)((?: [0-9.]+ \S+)+)|)$`)
	results, sum, runs := map[string]int{}, 0.0, 0.0
	for _, l := range strings.Split(string(b), "\n") {
		m := line.FindStringSubmatch(l)
		if m == nil {
			t.Errorf("not a line of the format: %q", l)
			continue
		}
		if m[3] == "" {
			continue
		}
		results[m[3]]++
		if strings.HasPrefix(m[3], "BenchmarkInference/") {
			n, _ := strconv.ParseFloat(m[4], 64)
			ns, _ := strconv.ParseFloat(strings.Fields(m[5])[0], 64)
			sum, runs = sum+n*ns, runs+n
		}
	}
	if got := results["BenchmarkInference/threads=2/batch=1"]; got != 3*benchLines {
		t.Errorf("%d results, want %d: %v", got, 3*benchLines, results)
	}
	if int(runs) != p.Timed.Latency.Runs || !near(sum/runs/1e6/p.Timed.Latency.MeanMS, 1) && (sum/runs/1e6/p.Timed.Latency.MeanMS-1 > 1e-4) {
		t.Errorf("the lines stand for %v runs of %v ns on average, measured were %d of %v ms", runs, sum/runs, p.Timed.Latency.Runs, p.Timed.Latency.MeanMS)
	}
	if results["BenchmarkOperator/op=FusedConv"] != 1 || results["BenchmarkFirstRun"] != 3 {
		t.Errorf("%v", results)
	}
	if _, err := New(nil, nil).Bench(); err == nil {
		t.Error("a benchmark without runs was written")
	}
}

// TestPrometheusIsReadBack parses the text as the exposition format says: help
// and type before the samples of a metric, all of one metric together, labels
// escaped, no series twice.
func TestPrometheusIsReadBack(t *testing.T) {
	p := fullProfile(t)
	samples, err := parsePrometheus(p.Prometheus())
	if err != nil {
		t.Fatal(err)
	}
	key := func(name string, labels ...string) string {
		return fmt.Sprint(name, append([]string{"model=" + p.Static.File.Name}, labels...))
	}
	for k, want := range map[string]float64{
		key("lapidary_parameters"):                                              float64(p.Static.Weights.Parameters),
		key("lapidary_latency_seconds", "quantile=0.5"):                         p.Timed.Latency.P50.MS / 1e3,
		key("lapidary_cold_start_seconds", "part=first_run"):                    p.Timed.Cold.FirstRunMS / 1e3,
		key("lapidary_operator_seconds", "operator=FusedConv"):                  p.Timed.Operators[0].MS / 1e3,
		key("lapidary_highest_rate_per_second"):                                 p.Load.Highest.PerSecond,
		key("lapidary_sweep_latency_seconds", "settings=--threads 2 --batch 1"): p.Sweep.Points[4].MS / 1e3,
	} {
		if got, ok := samples[k]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", k, got, ok, want)
		}
	}
	if b := New(nil, nil).Prometheus(); len(b) != 0 {
		t.Errorf("nothing measured gives %s", b)
	}
}

var (
	promSample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([-+0-9.eE]+|NaN|[+-]Inf)$`)
	promLabel  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)`)
)

func parsePrometheus(b []byte) (map[string]float64, error) {
	out, done := map[string]float64{}, map[string]bool{}
	current, typed := "", false
	for i, l := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		if f := strings.SplitN(l, " ", 4); f[0] == "#" && len(f) == 4 {
			if f[1] == "HELP" {
				if done[f[2]] {
					return nil, fmt.Errorf("line %d: metric %s comes up twice", i+1, f[2])
				}
				current, typed, done[f[2]] = f[2], false, true
			} else if f[1] != "TYPE" || f[2] != current || f[3] != "gauge" {
				return nil, fmt.Errorf("line %d: %s", i+1, l)
			}
			typed = typed || f[1] == "TYPE"
			continue
		}
		m := promSample.FindStringSubmatch(l)
		if m == nil || m[1] != current || !typed {
			return nil, fmt.Errorf("line %d: %q is no sample of %s", i+1, l, current)
		}
		var labels []string
		for rest := m[2]; rest != ""; {
			x := promLabel.FindStringSubmatch(rest)
			if x == nil {
				return nil, fmt.Errorf("line %d: labels %q", i+1, rest)
			}
			labels = append(labels, x[1]+"="+strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(x[2]))
			rest = rest[len(x[0]):]
		}
		v, err := strconv.ParseFloat(m[3], 64)
		k := fmt.Sprint(m[1], labels)
		if _, twice := out[k]; twice || err != nil {
			return nil, fmt.Errorf("line %d: %s, %v", i+1, k, err)
		}
		out[k] = v
	}
	return out, nil
}

// TestFullDocument holds sweep and load to the schema, and their tables to the width.
func TestFullDocument(t *testing.T) {
	p := fullProfile(t)
	b, err := p.JSON()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile(publishedSchema)
	if err != nil {
		t.Fatal(err)
	}
	if err := schematest.Validate(schema, b); err != nil {
		t.Errorf("the document: %v", err)
	}
	var table bytes.Buffer
	if err := p.Table(&table, TableOptions{}); err != nil {
		t.Fatal(err)
	}
	checkWidth(t, "full", table.String(), 80)
	for _, want := range []string{"for latency: 1.94 ms [1.86 ms, 2.03 ms], by: --threads 2 --batch 1", "--threads 2 --batch 4", "not enough memory", "p99 within 20.0 ms", "surely kept up to"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, table.String())
		}
	}
}
