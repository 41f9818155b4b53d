package validate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/report"
)

const (
	energyPairs = 5 // of windows, one per model
	energyIdle  = 2 // windows in which nothing runs, one before the pairs and one after them
	energyShare = 3 // a third of the budget at most
)

// windows are the times over which energy is measured.
type windows struct{ length time.Duration }

func (w windows) total() time.Duration { return (2*energyPairs + energyIdle) * w.length }

// energyMeter returns what tells the energy, and the windows that fit into the budget; nil where the machine tells none or the
// windows would be too short.
func (v *validation) energyMeter(budget time.Duration) (device.EnergyMeter, windows) {
	open := v.o.Latency.Energy
	if open == nil {
		open = func() (device.EnergyMeter, error) { return device.OpenEnergy(v.o.Choice.GPU, device.Options{}) }
	}
	m, err := open()
	if err != nil {
		v.skip("latency.energy", "%v", err)
		return nil, windows{}
	}
	w := windows{length: min(budget/energyShare/(2*energyPairs+energyIdle), 4*m.Window())}
	if w.length < m.Window() {
		v.skip("latency.energy", "windows of %v, which %s takes, do not fit into a third of the budget of %v for latency", m.Window(), m.Name(), budget)
		m.Close()
		return nil, windows{}
	}
	return m, w
}

// energy measures both models in turns, over windows in which one of them runs without a pause, and takes off what the device
// uses while neither does. It leaves the section out where that difference is nothing.
func (t *timing) energy(ctx context.Context, meter device.EnergyMeter, w windows) error {
	if err := t.start(ctx, 0); err != nil {
		return err
	}
	defer t.stop()
	rng := rand.New(rand.NewPCG(t.v.o.Seed, 0x6a6f756c))
	var used [2][energyPairs]spent
	idle, ok, err := idlePower(ctx, meter, w.length)
	if err != nil {
		return err
	}
	for i := range energyPairs {
		first := measure.Arm(rng.IntN(2))
		for _, arm := range []measure.Arm{first, first.Other()} {
			s, err := t.spend(ctx, arm, meter, w.length)
			if err != nil {
				return err
			}
			ok = ok && s.known
			used[arm][i] = s
		}
	}
	after, known, err := idlePower(ctx, meter, w.length)
	if err != nil {
		return err
	}
	if !ok || !known {
		t.v.skip("latency.energy", "%s stopped to tell the energy", meter.Name())
		return nil
	}
	return t.reportEnergy(meter, w, (idle+after)/2, used)
}

// spent is what one window took.
type spent struct {
	joules  float64
	elapsed time.Duration
	runs    int
	known   bool
}

// perRun is the energy in mJ of one run beyond that of an idle device.
func (s spent) perRun(idleWatts float64) float64 {
	return 1e3 * (s.joules - idleWatts*s.elapsed.Seconds()) / float64(s.runs)
}

// spend lets a model run for at least a window.
func (t *timing) spend(ctx context.Context, arm measure.Arm, meter device.EnergyMeter, window time.Duration) (spent, error) {
	n, warm := 1, time.Duration(0)
	for warm < window/20 { // steady clocks, and the number of runs in one go
		runs, err := t.run(ctx, arm, n)
		if err != nil {
			return spent{}, t.blame(ctx, arm, err)
		}
		warm = 0
		for _, r := range runs {
			warm += r
		}
		if warm < window/20 {
			n *= 2
		}
	}
	var s spent
	began, end := time.Now(), meter.Begin()
	for s.elapsed < window {
		if _, err := t.run(ctx, arm, n); err != nil {
			end()
			return spent{}, t.blame(ctx, arm, err)
		}
		s.runs += n
		s.elapsed = time.Since(began)
	}
	s.joules, s.known = end()
	return s, nil
}

// idlePower is the power in W while nothing runs.
func idlePower(ctx context.Context, meter device.EnergyMeter, window time.Duration) (watts float64, ok bool, err error) {
	began, end := time.Now(), meter.Begin()
	select {
	case <-ctx.Done():
		end()
		return 0, false, ctx.Err()
	case <-time.After(window):
	}
	joules, ok := end()
	return joules / time.Since(began).Seconds(), ok, nil
}

func (t *timing) reportEnergy(meter device.EnergyMeter, w windows, idle float64, used [2][energyPairs]spent) error {
	blocks := make([]measure.Block, energyPairs)
	var mj [2][]float64
	var watts []float64
	for i := range blocks {
		b, c := used[0][i].perRun(idle), used[1][i].perRun(idle)
		if b <= 0 || c <= 0 {
			t.v.skip("latency.energy", "%s tells no difference between a model at work and an idle device", meter.Name())
			return nil
		}
		blocks[i] = measure.Block{Process: i, Runs: 1, Baseline: b, Candidate: c}
		mj[0], mj[1] = append(mj[0], b), append(mj[1], c)
		watts = append(watts, used[0][i].joules/used[0][i].elapsed.Seconds())
	}
	d, err := measure.Compare(blocks, measure.CompareOptions{})
	if err != nil {
		return fmt.Errorf("measuring energy: %w", err)
	}
	l := t.v.r.Latency
	l.Energy = &report.Energy{
		BaselineMJ: report.Num(measure.Median(mj[0])), CandidateMJ: report.Num(measure.Median(mj[1])), Counter: meter.Name(),
		Ratio: report.Num(d.Ratio), Windows: energyPairs, WindowMS: report.Num(1e3 * w.length.Seconds()),
		IdleWatts: report.Num(idle), IdleShare: report.Num(idle / measure.Median(watts)),
	}
	if l.Noise == nil || l.Noise.Severe == "" {
		l.Energy.CI95 = report.CI(d.Interval.Low, d.Interval.High)
	}
	return nil
}
