package profile

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// drawing is a GPU that uses 100 W idle, and 0.5 J more for each run of its session.
type drawing struct {
	began time.Time
	runs  atomic.Int64
}

func (d *drawing) Read() device.GPUReading {
	joules := 100*time.Since(d.began).Seconds() + 0.5*float64(d.runs.Load())
	power := 100.
	return device.GPUReading{At: time.Now(), Power: &power, Energy: &joules, Limiting: []string{"power-cap"}, Others: []device.GPUProcess{{PID: 77}}}
}

func (d *drawing) Close() error { return nil }

type drawn struct{ d *drawing }

func (s drawn) Inputs() []session.Port  { return nil }
func (s drawn) Outputs() []session.Port { return nil }
func (s drawn) Close() error            { return nil }
func (s drawn) Run(context.Context, map[string]*onnx.Tensor) (*session.Result, error) {
	time.Sleep(time.Millisecond)
	s.d.runs.Add(1)
	return &session.Result{Elapsed: time.Millisecond}, nil
}
func (s drawn) Stats() (session.Stats, error) { return session.Stats{PID: 4242}, nil }

func TestWatchGPU(t *testing.T) {
	d := &drawing{began: time.Now()}
	var ours []int
	o := GPUOptions{Session: session.Options{Device: "cuda:0"}, GPU: device.GPU{Name: "H100", ComputeMode: "default"}, Driver: "550",
		Open: func(context.Context, string, session.Options) (session.Session, error) { return drawn{d}, nil },
		Meter: func(_ device.GPU, pids ...int) (device.GPUMeter, error) {
			ours = pids
			return d, nil
		},
		Idle: 30 * time.Millisecond, Time: 60 * time.Millisecond, Period: 2 * time.Millisecond}
	on := func(name, op, provider string, ms float64) NodeTime {
		return NodeTime{Name: name, Op: op, Provider: provider, MS: ms}
	}
	timed := &TimedProfile{Nodes: []NodeTime{on("c", "Conv", "CUDAExecutionProvider", 1), on("m1", "MemcpyFromHost", "CUDAExecutionProvider", 0.25),
		on("m2", "MemcpyToHost", "CUDAExecutionProvider", 0.5), on("odd", "Unique", "CPUExecutionProvider", 0.1)}}
	f, err := WatchGPU(t.Context(), "m.onnx", nil, timed, o)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Available || f.Runs < 10 || f.EnergyBy != "counter" || f.AboveIdleMJ == nil || math.Abs(*f.AboveIdleMJ-500) > 100 || *f.EnergyMJ <= *f.AboveIdleMJ {
		t.Errorf("%+v: %v above idle, want about 500 mJ", f, *f.AboveIdleMJ)
	}
	if *f.ToDeviceMS != 0.25 || *f.ToHostMS != 0.5 || len(f.Fallbacks) != 1 || f.Fallbacks[0] != "odd (Unique)" {
		t.Errorf("copies %v and %v, on the CPU %v", *f.ToDeviceMS, *f.ToHostMS, f.Fallbacks)
	}
	if f.Utilization != nil || f.MemoryPeak != nil || f.Temperature != nil {
		t.Errorf("made up: %+v", f)
	}
	if len(ours) != 1 || ours[0] != 4242 {
		t.Errorf("the process that runs the model is not ours: %v", ours)
	}
	text := strings.Join(f.Warnings, "\n")
	for _, want := range []string{"1 other process", "power-cap", "odd (Unique)"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

func TestNoMeter(t *testing.T) {
	d := &drawing{began: time.Now()}
	f, err := WatchGPU(t.Context(), "m.onnx", nil, nil, GPUOptions{
		Open:  func(context.Context, string, session.Options) (session.Session, error) { return drawn{d}, nil },
		Meter: func(device.GPU, ...int) (device.GPUMeter, error) { return nil, errors.New("no NVML") }})
	if err != nil || f.Available || f.Reason != "no NVML" || f.EnergyMJ != nil {
		t.Errorf("%+v, %v", f, err)
	}
}
