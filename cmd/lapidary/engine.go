package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/gonnx"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/worker"
	"github.com/spf13/cobra"
)

// defaultRunTime is long for a large model on a slow machine, also to load.
const defaultRunTime = 10 * time.Minute

// engineFlags are the flags of commands that run models.
type engineFlags struct {
	device  string
	engine  string
	library string
	threads int
	force   bool // more threads than can run at once
	strict  bool
	memory  workerMemory
	run     time.Duration
}

func (f *engineFlags) register(c *cobra.Command) {
	p := c.Flags()
	p.StringVar(&f.device, "device", "auto", "where models run: auto, cpu, cuda[:N], tensorrt[:N], openvino[:DEVICE], coreml …")
	p.StringVar(&f.engine, "engine", "onnxruntime", "what runs models: onnxruntime, or onnx-go (small float32 models, needs no library)")
	p.StringVar(&f.library, "ort-lib", "", "ONNX Runtime shared library to use (also LAPIDARY_ORT_LIB)")
	p.IntVar(&f.threads, "threads", 0, "threads within an operator; 0: as many as cpuset, cgroup quota and physical cores allow")
	p.BoolVar(&f.force, "oversubscribe", false, "allow more --threads than cpuset, affinity and cgroup quota let run at once")
	p.BoolVar(&f.strict, "strict-device", false, "fail where an operator would fall back to another device")
	f.memory = autoMemory
	p.Var(&f.memory, "max-worker-memory", "`MiB` that the process of one model may use; auto: until hardly any is left on the machine; 0: no limit")
	p.DurationVar(&f.run, "max-run-time", defaultRunTime, "most time that loading a model, or one run of it, may take; 0: no limit")
}

// engine is what runs models in this invocation.
type engine struct {
	open    session.Opener
	info    session.Info
	options session.Options
	machine device.Machine
	choice  device.Choice
	threads device.Threads
}

// engine finds the engine and the device that the flags ask for, once.
func (a *app) engine(ctx context.Context, f engineFlags) (*engine, error) {
	if e := a.engines[f]; e != nil {
		return e, nil
	}
	e, err := a.findEngine(ctx, f)
	if err == nil {
		if a.engines == nil {
			a.engines = map[engineFlags]*engine{}
		}
		a.engines[f] = e
	}
	return e, err
}

func (a *app) findEngine(ctx context.Context, f engineFlags) (*engine, error) {
	visible, _ := a.env.lookup("CUDA_VISIBLE_DEVICES")
	e := &engine{machine: device.Read(device.Options{VisibleDevices: visible})}
	e.threads = e.machine.Threads()
	if f.threads < 0 {
		return nil, usagef("--threads %d: give a number from 1, or 0", f.threads)
	}
	if f.threads > 0 {
		if err := oversubscribed(e.machine, f.threads, f.force); err != nil {
			return nil, err
		}
		e.threads = device.Threads{N: f.threads, Reason: "--threads"}
	}
	if f.run < 0 {
		return nil, usagef("--max-run-time %v: give a time, or 0", f.run)
	}
	var err error
	switch f.engine {
	case "onnxruntime":
		err = a.useRuntime(ctx, e, f)
	case "onnx-go":
		e.info = session.Info{Name: "onnx-go", Version: gonnx.Version, Providers: []string{"CPUExecutionProvider"}}
		e.open = worker.Opener(worker.Options{Command: []string{a.env.self, worker.Argument, "onnx-go"}, Env: a.workerEnv(), Free: f.memory.free()})
	default:
		err = usagef("--engine %q is unknown; want onnxruntime or onnx-go", f.engine)
	}
	if err != nil {
		return nil, err
	}
	if e.choice, err = device.Choose(f.device, e.info.Providers, e.machine); err != nil {
		return nil, usageError{err}
	}
	for _, w := range e.choice.Warnings {
		a.warn("%s", w)
	}
	e.options = session.Options{Device: e.choice.Device, Threads: e.threads.N, Strict: f.strict, MaxMemory: f.memory.bytes(), Deadline: f.run, LoadLimit: f.run}
	if a.verbose {
		a.note("engine %s %s on %s (%s), %d threads (%s)", e.info.Name, e.info.Version, e.choice.Device, e.choice.Reason, e.threads.N, e.threads.Reason)
	}
	return e, nil
}

// useRuntime makes e run models with ONNX Runtime in worker processes.
func (a *app) useRuntime(ctx context.Context, e *engine, f engineFlags) error {
	if !ort.Available { // before a search, which would advise to install what cannot be loaded
		_, err := ort.Info(f.library)
		return err
	}
	choice, err := ortlib.Which(ctx, a.search(f.library))
	if err != nil {
		return err
	}
	if e.info, err = a.library(ctx, choice.Path); err != nil {
		return err
	}
	e.open = worker.Opener(worker.Options{
		Command:  []string{a.env.self, worker.Argument, "onnxruntime", choice.Path},
		ReadOnly: []string{filepath.Dir(choice.Path)},
		Env:      a.workerEnv(),
		Free:     f.memory.free(),
	})
	return nil
}

// search is how this invocation looks for ONNX Runtime.
func (a *app) search(library string) ortlib.Search {
	return ortlib.Search{Path: library, Env: a.libraryEnv()}
}

func (a *app) libraryEnv() ortlib.Env {
	named, _ := a.env.lookup("LAPIDARY_ORT_LIB")
	return ortlib.Env{CacheDir: a.env.cacheDir, Library: named, Vars: attest.WithoutSecrets(a.env.vars), Embedded: ortlib.Embedded()}
}

// workerVariables are the environment variables that engines need; nothing
// else of the environment reaches a worker.
var workerVariables = []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "TZ", "LANG"}

func (a *app) workerEnv() []string {
	var out []string
	for _, name := range workerVariables {
		if v, ok := a.env.lookup(name); ok {
			out = append(out, name+"="+v)
		}
	}
	return out
}

// workerMain serves one model where the program was started as a worker.
func workerMain(args []string) (int, bool) {
	if len(args) < 3 || args[1] != worker.Argument {
		return 0, false
	}
	switch {
	case args[2] == "onnxruntime" && len(args) == 4:
		return worker.Main(ort.Opener(args[3])), true
	case args[2] == describing && len(args) == 4:
		return describe(args[3]), true
	case args[2] == "onnx-go" && len(args) == 3:
		return worker.Main(gonnx.Opener()), true
	}
	fmt.Fprintf(os.Stderr, "lapidary: error: worker started with %s\n", strings.Join(args[2:], " "))
	return exitUsage, true
}
