// Package session is the seam between lapidary and whatever executes a model.
//
// An engine is an [Opener]; everything above it (verification, calibration,
// measuring, explaining) sees only this package. Package sessiontest holds the
// conformance suite that every engine passes.
package session

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Opener loads the model file at path and returns a session for it.
type Opener func(ctx context.Context, path string, o Options) (Session, error)

// Options says how to load and run a model; the zero value is the engine's
// default on the CPU.
type Options struct {
	Device    string            // cpu, cuda:0, tensorrt:0, openvino:CPU …; "" is cpu
	Threads   int               // threads within an operator; 0: what the machine allows
	Level     Level             // the engine's own graph optimizations
	Outputs   []string          // outputs to compute; nil: all
	Profile   string            // file prefix for the engine's own trace while it records; "" is off
	SaveModel string            // where the engine writes its optimized graph; "" is nowhere
	Strict    bool              // fail where a node would fall back to another device
	Spin      bool              // let idle threads spin between operators
	NoArena   bool              // allocate every tensor by itself, instead of from an arena that keeps what it once had
	Flush     bool              // take denormal numbers as zero; holds for a whole process, where its first session asks for it
	TimeRead  bool              // read the model's file before the session is created, to time that apart; engines that cannot leave Stats.Read 0
	Deadline  time.Duration     // limit of one Run; 0: none
	LoadLimit time.Duration     // limit of loading the model; 0: none
	MaxMemory int64             // bytes the engine's process may use; 0: no limit
	Config    map[string]string // engine-specific session settings
}

// Saving returns o with the graph that the engine makes of the model written to
// path, and its weights to the file of the name weights, relative to path's folder.
func (o Options) Saving(path, weights string) Options {
	o.SaveModel = path
	o.Config = maps.Clone(o.Config)
	if o.Config == nil {
		o.Config = map[string]string{}
	}
	o.Config["session.optimized_model_external_initializers_file_name"] = weights
	o.Config["session.optimized_model_external_initializers_min_size_in_bytes"] = "1024"
	return o
}

// TooLong is why a run was ended that took longer than Options.Deadline, or loading
// a model that took longer than Options.LoadLimit. It is [context.DeadlineExceeded]
// to [errors.Is].
type TooLong struct {
	Limit   time.Duration
	Loading bool
}

func (e TooLong) Error() string {
	what := "a run"
	if e.Loading {
		what = "loading it"
	}
	return fmt.Sprintf("%s takes longer than %v", what, e.Limit)
}

func (e TooLong) Unwrap() error { return context.DeadlineExceeded }

// Within returns ctx with a limit of its own, 0 for none, that ends it because of why.
func Within(ctx context.Context, limit time.Duration, why TooLong) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, limit, why)
}

// OutOfMemory is why the process of a model is gone where the system had no more
// memory for it, or hardly any.
type OutOfMemory struct {
	Reason  string
	Watched bool // it was ended before the system had to
}

func (e OutOfMemory) Error() string { return e.Reason }

// Level is how far the engine may rewrite the model at load.
type Level int

// The levels, as ONNX Runtime names them. The zero value is LevelAll, the
// engine's default.
const (
	LevelAll Level = iota
	LevelOff
	LevelBasic
	LevelExtended
)

// Port is an input or output of a model.
type Port struct {
	Name string
	Type *onnx.Type
}

// Session is a loaded model. Its methods are not safe for concurrent use.
type Session interface {
	// Inputs returns the model's inputs in order, those with defaults left out.
	Inputs() []Port
	// Outputs returns the outputs that Run computes, in order.
	Outputs() []Port
	// Run computes the outputs. Inputs are given by name; tensors in the result
	// belong to the caller. A sequence is given and returned as the tensors
	// name[0], name[1], …; a map, or a sequence of maps with equal keys, is
	// returned as one tensor of values, ordered by key, under the output's name,
	// and its keys under name.keys; an absent optional is absent from the result.
	Run(ctx context.Context, in map[string]*onnx.Tensor) (*Result, error)
	Close() error
}

// Result is what one run gave.
type Result struct {
	Outputs map[string]*onnx.Tensor
	Elapsed time.Duration // time in the engine: inputs in place to outputs in host memory
}

// Timer is a session that can time runs where they happen, without the cost of
// moving data in between.
type Timer interface {
	// Time runs the model n times on the same inputs and returns each run's time.
	// Outputs are written into the same memory each time: a first call with new
	// inputs makes one more run, untimed, to learn their sizes.
	Time(ctx context.Context, in map[string]*onnx.Tensor, n int) ([]time.Duration, error)
}

// Meter is a session that knows what it cost.
type Meter interface {
	Stats() (Stats, error)
}

// Stats is what loading and running cost so far.
type Stats struct {
	PID        int           // the process that runs the model
	Read       time.Duration // reading the file; 0: not known apart (see Options.TimeRead)
	Create     time.Duration // creating the session
	FirstRun   time.Duration // the first run
	PeakMemory int64         // peak resident bytes of the process that runs the model; 0: unknown
	BaseMemory int64         // resident bytes of that process before the model was loaded
	Switches   int64         // involuntary context switches of that process
	Provider   string        // the execution provider asked for
	Fallbacks  int           // nodes that ran elsewhere; -1: unknown
}

// Profiler is a session opened with Options.Profile.
type Profiler interface {
	// EndProfile stops profiling and returns the engine's trace, Chrome trace
	// events as ONNX Runtime writes them, and removes the file that held it.
	EndProfile() ([]byte, error)
}

// Warner is a session that kept what the engine had to say.
type Warner interface {
	// Warnings returns the engine's warnings so far, oldest first, in its words.
	Warnings() []string
}

// Placer is a session whose caller can say where outputs go.
type Placer interface {
	// Place makes later runs write each output's bytes into the memory that
	// alloc returns, of length n, instead of into new memory; nil undoes it.
	Place(alloc func(n int) ([]byte, error))
}

// Info describes an engine for reports.
type Info struct {
	Name      string // onnxruntime, onnx-go
	Version   string
	Library   string   // path of the shared library, "" if none
	SHA256    string   // of the shared library
	Providers []string // execution providers available
}
