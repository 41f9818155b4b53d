package report

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"golang.org/x/perf/benchfmt"
)

// TestBenchIsReadBack reads bench.txt with the reader of benchstat: every line is understood, and the times are those of the pairs.
func TestBenchIsReadBack(t *testing.T) {
	for name, r := range map[string]*Report{"sample": sample(), "hostile": hostile()} {
		times := map[string][]float64{}
		units := map[string]bool{}
		in := benchfmt.NewReader(bytes.NewReader(r.Bench()), "bench.txt")
		for in.Scan() {
			switch rec := in.Result().(type) {
			case *benchfmt.SyntaxError:
				t.Errorf("%s: %v", name, rec)
			case *benchfmt.UnitMetadata:
				units[rec.Unit+" "+rec.Key+"="+rec.Value] = true
			case *benchfmt.Result:
				seconds, ok := rec.Value("sec/op")
				_, size := rec.Value("model-B")
				if !ok || !size || rec.Iters != r.Latency.Iterations {
					t.Errorf("%s: %s has %d iterations and the values %v", name, rec.Name, rec.Iters, rec.Values)
				}
				times[string(rec.Name)] = append(times[string(rec.Name)], 1e3*seconds)
			}
		}
		if err := in.Err(); err != nil {
			t.Error(err)
		}
		for model, want := range map[string][]float64{"baseline": r.Latency.Series.BaselineMS, "candidate": r.Latency.Series.CandidateMS} {
			got := times["Inference/model="+model+"/batch=1"]
			if len(got) != len(want) {
				t.Fatalf("%s: %d times of the %s, want %d (%v)", name, len(got), model, len(want), times)
			}
			for i := range got {
				if math.Abs(got[i]-want[i]) > 1e-9 {
					t.Errorf("%s: time %d of the %s is %v ms, want %v", name, i, model, got[i], want[i])
				}
			}
		}
		if !units["model-B better=lower"] {
			t.Errorf("%s: the unit of sizes is not declared: %v", name, units)
		}
	}
}

// TestCSVIsPlain holds that cells are numbers or words, and that none of the foreign ones is a formula.
func TestCSVIsPlain(t *testing.T) {
	r := sample()
	r.Gates[0].Name, r.Accuracy.Slices[0].Name, r.Accuracy.Slices[1].Name = "=HYPERLINK(1)", "-1+2", "@x"
	out, err := r.CSV()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"gate,'=HYPERLINK(1),difference,", "slice,'-1+2,", "slice,'@x,", "accuracy,top1,fraction,0.9125,0.908,-0.0045,difference,-0.0105,0.001,,,\n",
		"latency,median,ms,4.213,2.587,0.614,ratio,0.607,0.621,,,\n", "gate,max-bytes-ratio,ratio,,,0.2562,observed,,,<=,0.3,pass\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if strings.Count(line, ",") != 11 {
			t.Errorf("not 12 cells: %q", line)
		}
	}
}
