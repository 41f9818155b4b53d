package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/measured"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// autoTargets says what --target auto means on a device.
var autoTargets = map[string]string{"cpu": "ort-cpu", "cuda": "ort-cuda", "tensorrt": "tensorrt", "openvino": "openvino"}

// fuseTarget resolves --target. What the runtime's own operators need is asked
// of the engine, when a rule wants to use one; the portable target asks nothing.
// The flag's value is set to what it came to, for the model's history.
func (a *app) fuseTarget(ctx context.Context, flag *string, ef engineFlags) (fuse.Target, error) {
	name := *flag
	if name != "auto" && !slices.Contains(fuse.TargetNames, name) {
		return fuse.Target{}, usagef("--target %q is unknown; want %s or auto", name, strings.Join(fuse.TargetNames, ", "))
	}
	if name == fuse.TargetNames[0] {
		return fuse.Target{Name: name}, nil
	}
	e, err := a.engine(ctx, ef)
	if err != nil {
		return fuse.Target{}, err
	}
	device, _, _ := strings.Cut(e.options.Device, ":")
	if name == "auto" {
		if name = autoTargets[device]; name == "" || e.info.Name != "onnxruntime" {
			name = fuse.TargetNames[0]
		}
		*flag = name
		a.note("target %s (device %s)", name, e.options.Device)
	}
	t := fuse.Target{Name: name}
	if !t.Own() {
		return t, nil
	}
	if autoTargets[device] != name || e.info.Name != "onnxruntime" {
		return t, usagef("--target %s asks the engine which operators it has on that device, and the engine is %s on %s; give --device %s",
			name, e.info.Name, e.options.Device, strings.TrimPrefix(name, "ort-"))
	}
	p := &fuse.Prober{Open: e.open, Session: session.Options{Device: e.options.Device, Threads: 1, Deadline: e.options.Deadline, LoadLimit: e.options.LoadLimit}, Cache: a.kernelCache(e)}
	t.Kernel = p.Kernel(ctx)
	return t, nil
}

// kernelCache is where the operators of a library on a device are remembered.
func (a *app) kernelCache(e *engine) string {
	if a.env.cacheDir == "" || e.info.SHA256 == "" {
		return ""
	}
	device := strings.NewReplacer(":", "-", "/", "-").Replace(e.options.Device)
	return filepath.Join(a.env.cacheDir, "lapidary", "kernels", e.info.SHA256+"-"+device+".json")
}

// timesCache is the file that keeps the times of operators on this machine, by
// engine and number of threads; "" where there is none.
func (a *app) timesCache(e *engine) string { return e.measuredBy().File(a.env.cacheDir, "times") }

// measuredBy says what measurements on this engine are of.
func (e *engine) measuredBy() measured.Key {
	return measured.Key{Library: e.info.SHA256, Device: e.options.Device, CPU: e.machine.CPU.Model, ISA: e.machine.CPU.ISA, Threads: e.threads.N}
}
