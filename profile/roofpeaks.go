package profile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Peaks is what a machine reached at most, measured once through the engine
// that runs models and with its own time of nodes.
type Peaks struct {
	Version    int         `json:"version" schema:"count"` // of the measurement: another one is measured anew
	Threads    int         `json:"threads" schema:"count"` // "all threads" below
	CPU        string      `json:"cpu,omitempty"`          // model of the processor
	ClockGHz   float64     `json:"clock_ghz,omitempty"`    // of one busy core, by operations that wait for each other; absent where it could not be told
	Float32    *PeakRate   `json:"float32,omitempty"`      // matrix products in float32, 2 operations per multiply-accumulate
	Int8       *PeakRate   `json:"int8,omitempty"`         // matrix products of 8-bit codes; absent where the engine has none
	Memory     []Bandwidth `json:"memory"`                 // by footprint, smallest first; the last is of main memory
	OverheadUS float64     `json:"overhead_us"`            // time of a node that has nothing to do
	Operators  []OpRate    `json:"operators"`              // times of single operators, which predictions rest on
	Half       []Half      `json:"half,omitempty"`         // what the engine makes of operators in float16
	Busy       *float64    `json:"busy,omitempty"`         // share of processor time that others used just before, 0 to 1; absent where it is not known
}

// mostBusy is the share of processor time in other hands beyond which a
// measurement says less of the machine than of them.
const mostBusy = 0.2

// Disturbed reports whether the machine was busy with something else when it was measured.
func (p *Peaks) Disturbed() bool { return p.Busy != nil && *p.Busy > mostBusy }

// BusyNow returns the share of processor time that is in use while this process
// waits for a moment, 0 to 1; nil where it is not known.
func BusyNow(ctx context.Context) *float64 {
	before := device.Snapshot(device.Options{})
	if pause(ctx, 250*time.Millisecond) != nil {
		return nil
	}
	return device.Snapshot(device.Options{}).Since(before).Used
}

// peaksVersion changes when what is measured does.
const peaksVersion = 3

// PeakRate is a peak rate in 10^9 operations per second.
type PeakRate struct {
	One    float64    `json:"one_thread"`       // best of all sizes on one thread
	All    float64    `json:"all_threads"`      // best of all sizes on all threads
	Theory *float64   `json:"theory,omitempty"` // all threads, by instruction set and clock; absent where the instruction set is not known
	Basis  string     `json:"basis,omitempty"`  // what theory rests on
	Sizes  []SizeRate `json:"sizes"`            // each measurement
}

// SizeRate is the rate of one square matrix product.
type SizeRate struct {
	Op  string  `json:"op"`               // operator
	N   int64   `json:"n" schema:"count"` // rows and columns
	One float64 `json:"one_thread"`       // 10^9 operations per second
	All float64 `json:"all_threads"`      // 10^9 operations per second
}

// Bandwidth is the rate of moving data within a footprint, counted as STREAM
// does: bytes that the program reads and writes.
type Bandwidth struct {
	Bytes int64   `json:"bytes" schema:"count"` // of all arrays together
	One   Streams `json:"one_thread"`           // on one thread
	All   Streams `json:"all_threads"`          // on all threads
}

// Streams are rates in 10^9 bytes per second.
type Streams struct {
	Read  float64 `json:"read"`  // sequential reading
	Copy  float64 `json:"copy"`  // a[i] = b[i]
	Triad float64 `json:"triad"` // a[i] = b[i] + q·c[i], in scalar code: below the others where data is in a cache
}

// best is the roof: the highest rate of any stream.
func (s Streams) best() float64 { return max(s.Read, s.Copy, s.Triad) }

// PeakOptions say what to measure with; the zero value is the default of every
// field but Open.
type PeakOptions struct {
	Open     session.Opener
	Session  session.Options // Threads is "all threads"; Profile and SaveModel are ignored
	Machine  device.Machine  // for theory and the size of arrays
	TempDir  string          // for models and the engine's traces; "" is the system's
	Progress func(stage string)
}

// MeasurePeaks measures a machine's peaks on the CPU. It takes some seconds,
// of which about half is spent on all threads.
func MeasurePeaks(ctx context.Context, o PeakOptions) (*Peaks, error) {
	if d := o.Session.Device; d != "" && d != "cpu" {
		return nil, fmt.Errorf("peaks are measured on the CPU only, by times of nodes, and on %s those are of launching them", d)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	p := &Peaks{Version: peaksVersion, Threads: max(1, o.Session.Threads), CPU: o.Machine.CPU.Model}
	o.Progress("measuring this machine: clock and memory")
	p.Busy = BusyNow(ctx)
	p.ClockGHz = clockGHz()
	p.Memory = measureBandwidth(ctx, p.Threads, o.Machine)
	o.Progress("measuring this machine: arithmetic")
	var err error
	if p.Float32, err = o.arithmetic(ctx, p, productsFloat32); err != nil {
		return nil, err
	}
	if p.Int8, err = o.arithmetic(ctx, p, productsInt8); err != nil && ctx.Err() != nil {
		return nil, err
	}
	o.Progress("measuring this machine: operators")
	if err := o.operators(ctx, p); err != nil {
		return nil, err
	}
	p.Half = askHalf(ctx, o)
	theory(p, o.Machine.CPU)
	return p, ctx.Err()
}

// productRuns are runs of every product, of which the best counts: on a shared
// machine most are slowed by its neighbours.
const productRuns = 20

// arithmetic measures products on one thread and on all.
func (o PeakOptions) arithmetic(ctx context.Context, p *Peaks, products func() *specimen) (*PeakRate, error) {
	a := &PeakRate{}
	for _, g := range products().gauges {
		a.Sizes = append(a.Sizes, SizeRate{Op: g.op, N: g.size})
	}
	for _, threads := range []int{1, p.Threads} {
		s := products()
		times, err := s.time(ctx, o, threads, productRuns)
		if err != nil {
			return nil, err
		}
		for i, g := range s.gauges {
			t := times[g.name]
			if t == nil {
				continue
			}
			rate := 2 * float64(g.macs) / t.best / 1e9
			if threads == 1 {
				a.Sizes[i].One, a.One = rate, max(a.One, rate)
			}
			if threads == p.Threads {
				a.Sizes[i].All, a.All = rate, max(a.All, rate)
			}
		}
		if p.Threads == 1 {
			break
		}
	}
	if a.One <= 0 || a.All <= 0 {
		return nil, errors.New("the engine's trace has no time of a matrix product")
	}
	return a, nil
}

// Valid reports whether the peaks are of this measurement, as those of a cache
// may not be.
func (p *Peaks) Valid() bool {
	return p != nil && p.Version == peaksVersion && p.Float32 != nil && p.Float32.All > 0 && len(p.Memory) > 0 && p.OverheadUS > 0
}

// bandwidth returns the highest rate for a footprint, in bytes per second: that
// of the smallest measured one which holds it.
func (p *Peaks) bandwidth(bytes int64) float64 {
	for _, m := range p.Memory {
		if bytes <= m.Bytes {
			return 1e9 * m.All.best()
		}
	}
	return 1e9 * p.Memory[len(p.Memory)-1].All.best()
}

// mainMemory is the last footprint, far larger than any cache.
func (p *Peaks) mainMemory() Bandwidth { return p.Memory[len(p.Memory)-1] }
