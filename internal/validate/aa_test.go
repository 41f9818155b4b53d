package validate

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/measure/measuretest"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/worker"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

const (
	aaBudget     = 2200 * time.Millisecond // of one validation
	sequentialMS = 300                     // of runs of each model, one after the other
)

// TestAA validates a model LAPIDARY_AA times against a byte copy of itself, each in fresh processes, and in every eighth turn against
// copies that are 3, 5 and 10 % slower, and says how often a difference was claimed. Beside it stands what a sequential benchmark
// makes of the same models: all runs of the one in a process, then of the other, and a Mann-Whitney test. It prints and does
// not judge, for the machine may be busy. LAPIDARY_AA_MODEL and LAPIDARY_AA_DATA name another model and its data.
func TestAA(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("LAPIDARY_AA"))
	if err != nil || n < 1 {
		t.Skip("LAPIDARY_AA=N validates a model N times against its copy, and against slower ones")
	}
	model, data := testdata+"digits-cnn.onnx", testdata+"digits-val.npz"
	if m := os.Getenv("LAPIDARY_AA_MODEL"); m != "" {
		model, data = m, os.Getenv("LAPIDARY_AA_DATA")
	}
	planted := []float64{0, 0.03, 0.05, 0.10}
	tallies := map[float64]*aaTally{}
	for _, p := range planted {
		tallies[p] = &aaTally{planted: p}
	}
	began := time.Now()
	for i := range n {
		for _, p := range planted {
			if p > 0 && i%8 != 0 {
				continue
			}
			h := newAA(t, model, data, p)
			tallies[p].add(h.validate(uint64(i)), h.sequential())
		}
		fmt.Printf("%d: same %s\n", i, ratioText(tallies[0].last))
	}
	fmt.Printf("\n%d validations of %v each against a copy, every eighth against slower ones, in %v\n\n", n, aaBudget, time.Since(began).Round(time.Second))
	fmt.Println("| planted | validations | 1 outside of the interval | claimed | covers the truth | no conclusion | half-width, median | sequential: p < 0.05 |\n|---|---|---|---|---|---|---|---|")
	for _, p := range planted {
		fmt.Println(tallies[p])
	}
}

// aaTally counts what the validations with one planted slow-down said.
type aaTally struct {
	planted                                   float64
	n, excludes, claims, covers, open, theirs int
	halves                                    []float64
	last                                      *report.Latency
}

func (a *aaTally) add(l *report.Latency, p float64) {
	a.n, a.last = a.n+1, l
	if p < 0.05 {
		a.theirs++
	}
	if l.CI95 == nil {
		a.open++
		return
	}
	outside := l.CI95[0] > 1 || l.CI95[1] < 1
	if outside {
		a.excludes++
	}
	if outside && (*l.Ratio > 1+negligible || *l.Ratio < 1/(1+negligible)) {
		a.claims++
	}
	if truth := 1 + a.planted; l.CI95[0] <= truth && truth <= l.CI95[1] {
		a.covers++
	}
	a.halves = append(a.halves, math.Log(l.CI95[1]/l.CI95[0])/2)
}

func (a *aaTally) String() string {
	of := func(k, n int) string {
		return fmt.Sprintf("%d of %d (%.1f %%)", k, n, 100*float64(k)/float64(max(n, 1)))
	}
	judged := a.n - a.open
	return fmt.Sprintf("| %.0f %% | %d | %s | %s | %s | %d | %.2f %% | %s |", 100*a.planted, a.n, of(a.excludes, judged), of(a.claims, judged), of(a.covers, judged),
		a.open, 100*measure.Median(a.halves), of(a.theirs, a.n))
}

func ratioText(l *report.Latency) string {
	if l.CI95 == nil {
		return fmt.Sprintf("%.4f (no interval: %v)", *l.Ratio, l.Noise.Warnings)
	}
	return fmt.Sprintf("%.4f [%.4f, %.4f], %d processes", *l.Ratio, l.CI95[0], l.CI95[1], l.Processes)
}

// aa holds a model against a copy that is slower by a known share.
type aa struct {
	t testing.TB
	o Options
}

func newAA(t testing.TB, model, data string, planted float64) *aa {
	t.Helper()
	twin := filepath.Join(t.TempDir(), filepath.Base(model))
	if err := copyFile(twin, model); err != nil {
		t.Fatal(err)
	}
	o := runtimeOptions(t, model, twin, data)
	o.Accuracy.Off, o.Explain.Off, o.Dataset.Limit = true, true, 4
	o.Latency.Budget = aaBudget
	plain, slow := slowedOpener(t, 0), slowedOpener(t, planted)
	o.Open = func(ctx context.Context, path string, so session.Options) (session.Session, error) {
		if path == twin {
			return slow(ctx, path, so)
		}
		return plain(ctx, path, so)
	}
	if err := o.check(); err != nil { // the number of threads, which sequential needs too
		t.Fatal(err)
	}
	return &aa{t, o}
}

// validate is one validation.
func (h *aa) validate(seed uint64) *report.Latency {
	h.t.Helper()
	o := h.o
	o.Seed = seed
	r, err := Run(h.t.Context(), o)
	if err != nil {
		h.t.Fatal(err)
	}
	return r.Latency
}

// sequential times the baseline in a fresh process, then the candidate in another, and returns the p value of their difference.
func (h *aa) sequential() float64 {
	h.t.Helper()
	ctx := h.t.Context()
	v := &validation{o: h.o, r: newReport(h.o)}
	if err := v.pair(ctx); err != nil {
		h.t.Fatal(err)
	}
	defer v.set.Close()
	v.release()
	tm, err := v.newTiming(ctx, 1)
	if err != nil {
		h.t.Fatal(err)
	}
	var times [2][]float64
	for arm, path := range tm.paths {
		s, err := h.o.Open(ctx, path, tm.session)
		if err != nil {
			h.t.Fatal(err)
		}
		if _, err := timeRuns(ctx, s, tm.in[arm], 10); err != nil {
			h.t.Fatal(err)
		}
		for began := time.Now(); time.Since(began) < sequentialMS*time.Millisecond; {
			runs, err := timeRuns(ctx, s, tm.in[arm], 20)
			if err != nil {
				h.t.Fatal(err)
			}
			for _, d := range runs {
				times[arm] = append(times[arm], d.Seconds())
			}
		}
		s.Close()
	}
	return measuretest.MannWhitney(times[0], times[1])
}

// slowedOpener runs models in workers whose timed runs take longer by a share.
func slowedOpener(t testing.TB, share float64) session.Opener {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lib := zootest.Library(t)
	return worker.Opener(worker.Options{
		Command: []string{self, worker.Argument, lib, strconv.FormatFloat(share, 'g', -1, 64)}, ReadOnly: []string{filepath.Dir(lib)},
	})
}

// slowed is a session whose timed runs are each followed by a busy wait of a share of their time, which counts as theirs: a model
// that is slower by exactly that share.
type slowed struct {
	session.Session
	share float64
}

// slowing wraps what open opens.
func slowing(open session.Opener, share float64) session.Opener {
	return func(ctx context.Context, path string, o session.Options) (session.Session, error) {
		s, err := open(ctx, path, o)
		if err != nil {
			return nil, err
		}
		return &slowed{s, share}, nil
	}
}

func (s *slowed) Stats() (session.Stats, error) { return s.Session.(session.Meter).Stats() }

func (s *slowed) Time(ctx context.Context, in map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	out := make([]time.Duration, n)
	for i := range out {
		runs, err := s.Session.(session.Timer).Time(ctx, in, 1)
		if err != nil {
			return nil, err
		}
		extra := time.Duration(s.share * float64(runs[0]))
		for began := time.Now(); time.Since(began) < extra; {
		}
		out[i] = runs[0] + extra
	}
	return out, nil
}
