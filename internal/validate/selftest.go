package validate

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/measured"
	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

// selfTestBudget is the wall time of one comparison of a self-test, where none is given.
const selfTestBudget = 3 * time.Second

// negligible is the relative difference that nobody would act on, as measure takes it.
const negligible = 0.01

// selfTest times the baseline against a byte copy of itself, again and again, as the models were timed against each other: how often a
// difference is found where there is none, and how large it would have to be. Where none is asked for, what was found on
// this kind of machine for this model before is cited.
func (v *validation) selfTest(ctx context.Context) error {
	file := v.selfTestFile()
	if v.o.Latency.SelfTest == 0 {
		known := &report.SelfTest{}
		if ok, err := measured.Read(file, known); err == nil && ok && known.ModelSHA256 == v.r.Baseline.SHA256 {
			known.Cached = true
			v.r.Latency.SelfTest = known
		}
		return nil
	}
	dir, err := os.MkdirTemp("", "lapidary-self-test-*")
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	defer os.RemoveAll(dir)
	twin, err := v.copyBaseline(dir)
	if err != nil {
		return fmt.Errorf("self-test: copying the baseline: %w", err)
	}
	trials, err := v.selfTrials(ctx, twin)
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	s := summarizeTrials(trials)
	s.ModelSHA256, s.Measured, s.BudgetS = v.r.Baseline.SHA256, v.o.now().UTC().Round(0), v.selfBudget().Seconds()
	s.Library, s.Device, s.CPU, s.Threads = v.o.Info.SHA256, v.r.Environment.Device, v.o.Machine.CPU.Model, v.o.Session.Threads
	v.r.Latency.SelfTest = s
	if err := measured.Write(file, s); err != nil {
		v.warn("self-test: it could not be kept for later reports: %v", err)
	}
	return nil
}

func (v *validation) selfBudget() time.Duration {
	if v.o.Latency.SelfTestBudget > 0 {
		return v.o.Latency.SelfTestBudget
	}
	return selfTestBudget
}

// selfTestFile is where the self-test of the baseline on this kind of machine is kept; "" is nowhere.
func (v *validation) selfTestFile() string {
	if len(v.r.Baseline.SHA256) < 16 {
		return ""
	}
	k := measured.Key{
		Library: v.o.Info.SHA256, Device: v.r.Environment.Device, CPU: v.o.Machine.CPU.Model, ISA: v.o.Machine.CPU.ISA, Threads: v.o.Session.Threads,
	}
	return k.File(v.o.CacheDir, filepath.Join("self-test", v.r.Baseline.SHA256[:16]))
}

// copyBaseline copies the baseline's files into dir and returns the path of the model among them.
func (v *validation) copyBaseline(dir string) (string, error) {
	names := []string{filepath.Base(v.o.Baseline)}
	for _, f := range v.r.Baseline.External {
		names = append(names, filepath.FromSlash(f.Path))
	}
	for _, name := range names {
		if err := copyFile(filepath.Join(dir, name), filepath.Join(filepath.Dir(v.o.Baseline), name)); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, names[0]), nil
}

func copyFile(to, from string) (err error) {
	src, _, err := readfile.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := dst.Close(); err == nil {
			err = e
		}
	}()
	_, err = io.Copy(dst, src)
	return err
}

// trial is one comparison of a self-test.
type trial struct {
	ratio, mde float64
	interval   *report.Interval // nil where noise forbids one
}

func (v *validation) selfTrials(ctx context.Context, twin string) ([]trial, error) {
	var out []trial
	for i := range v.o.Latency.SelfTest {
		t, err := v.newTiming(ctx, v.o.Latency.Batch)
		if err != nil {
			return nil, err
		}
		t.paths, t.self, t.in[1] = [2]string{v.o.Baseline, twin}, true, t.in[0]
		if i%2 == 1 { // neither path has a role of its own
			slices.Reverse(t.paths[:])
		}
		o := v.o.Latency.plan(v.o.Seed + uint64(i) + 1)
		o.Budget = v.selfBudget()
		m, err := t.race(ctx, o, func(float64) {})
		if err != nil {
			return nil, err
		}
		out = append(out, trial{ratio: m.d.Ratio, mde: m.d.MDE, interval: m.interval(m.d.Interval)})
		v.o.progress("self-test", int64(i+1), int64(v.o.Latency.SelfTest))
	}
	return out, nil
}

// summarizeTrials says how often the trials were wrong, and what they would have found.
func summarizeTrials(trials []trial) *report.SelfTest {
	s := &report.SelfTest{Repeats: len(trials)}
	var effects []float64
	sum, squares, largest := 0.0, 0.0, 0.0
	for _, t := range trials {
		effects = append(effects, t.mde)
		x := math.Log(t.ratio)
		sum, squares, largest = sum+x, squares+x*x, max(largest, math.Expm1(math.Abs(x)))
		switch {
		case t.interval == nil:
			s.Inconclusive++
		case t.interval[0] > 1 || t.interval[1] < 1:
			s.FalseAlarms++
			if t.ratio > 1+negligible || t.ratio < 1/(1+negligible) {
				s.Claims++
			}
		}
	}
	s.LargestError = report.Num(largest)
	if n := float64(len(trials)); n > 1 {
		s.Spread = report.Num(math.Expm1(math.Sqrt(max(0, squares-sum*sum/n) / (n - 1))))
	}
	if judged := s.Repeats - s.Inconclusive; judged > 0 {
		low, high := score.ClopperPearson(s.FalseAlarms, judged, 0.95)
		s.FalseAlarmRate, s.RateCI95 = report.Num(float64(s.FalseAlarms)/float64(judged)), report.CI(low, high)
	}
	slices.Sort(effects)
	s.MinEffect = report.Num(measure.Median(effects))
	if lo, hi, ok := measure.OrderInterval(len(effects), 0.5, 0.95); ok {
		s.MinEffectCI95 = report.CI(effects[lo-1], effects[hi-1])
	}
	return s
}
