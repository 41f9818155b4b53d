package device

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// EnergyMeter tells how much energy a device has used over a time.
type EnergyMeter interface {
	// Name is where the numbers come from: rapl or nvml.
	Name() string
	// Window is the shortest time over which they mean something: many times the period in which they are renewed.
	Window() time.Duration
	// Begin begins to measure; the function that it returns ends that, and gives J, and false where the device did not tell.
	Begin() func() (joules float64, ok bool)
	Close() error
}

// OpenEnergy returns the meter of the GPU, or of the processor packages where there is none to run on. It errs, saying why, where
// the machine has no counter or this user may not read it: since 2020 Linux lets only root read those of processors.
func OpenEnergy(g *GPU, o Options) (EnergyMeter, error) {
	if g == nil {
		return openRAPL(o)
	}
	m, err := OpenGPUMeter(*g)
	if err != nil {
		return nil, err
	}
	e := gpuEnergy{m}
	if _, ok := e.Begin()(); !ok {
		m.Close()
		return nil, fmt.Errorf("GPU %d tells neither energy nor power", g.Index)
	}
	return e, nil
}

// gpuEnergy reads a GPU's own counter, or else its power again and again.
type gpuEnergy struct{ m GPUMeter }

func (g gpuEnergy) Name() string          { return "nvml" }
func (g gpuEnergy) Window() time.Duration { return 800 * time.Millisecond }
func (g gpuEnergy) Close() error          { return g.m.Close() }

func (g gpuEnergy) Begin() func() (float64, bool) {
	w := WatchGPU(g.m, 20*time.Millisecond)
	return func() (float64, bool) {
		u := w.Stop()
		if u.Energy == nil {
			return 0, false
		}
		return *u.Energy, true
	}
}

// rapl are the energy counters of the processor packages (Running Average Power Limit; of Intel and, under the same name, of AMD),
// as Linux' power capping framework gives them. They are renewed about every millisecond and go round after some minutes.
type rapl struct {
	t     tree
	zones []raplZone
}

type raplZone struct {
	file  string
	limit uint64 // µJ at which the counter starts again at 0
}

func openRAPL(o Options) (EnergyMeter, error) {
	t := tree{o.Root}
	r := &rapl{t: t}
	dirs, err := filepath.Glob(t.path("sys/class/powercap/*-rapl:*"))
	if err != nil || len(dirs) == 0 {
		return nil, fmt.Errorf("the processor has no energy counter that the system shows")
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		zone := path.Join("sys/class/powercap", filepath.Base(dir))
		if !strings.HasPrefix(t.line(path.Join(zone, "name")), "package") {
			continue // a part of a package, or the whole platform
		}
		z := raplZone{file: path.Join(zone, "energy_uj")}
		var known bool
		if z.limit, known = t.number(path.Join(zone, "max_energy_range_uj")); !known {
			return nil, fmt.Errorf("the range of %s is not known", t.path(z.file))
		}
		if _, ok := t.number(z.file); !ok {
			return nil, fmt.Errorf("%s cannot be read; that takes root, or a group that it was opened to", t.path(z.file))
		}
		r.zones = append(r.zones, z)
	}
	if len(r.zones) == 0 {
		return nil, fmt.Errorf("the processor has no energy counter of a whole package")
	}
	return r, nil
}

func (r *rapl) Name() string          { return "rapl" }
func (r *rapl) Window() time.Duration { return 100 * time.Millisecond }
func (r *rapl) Close() error          { return nil }

func (r *rapl) Begin() func() (float64, bool) {
	before, ok := r.read()
	return func() (float64, bool) {
		after, still := r.read()
		if !ok || !still {
			return 0, false
		}
		joules := 0.0
		for i, z := range r.zones {
			used := after[i] - before[i]
			if after[i] < before[i] {
				used = z.limit - before[i] + after[i]
			}
			joules += float64(used) / 1e6
		}
		return joules, true
	}
}

// read returns the counters in µJ.
func (r *rapl) read() ([]uint64, bool) {
	out := make([]uint64, len(r.zones))
	for i, z := range r.zones {
		var ok bool
		if out[i], ok = r.t.number(z.file); !ok {
			return nil, false
		}
	}
	return out, true
}
