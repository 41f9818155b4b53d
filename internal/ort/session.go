//go:build cgo

package ort

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/cgo"
	"time"

	binding "github.com/yalue/onnxruntime_go"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// sess is a model loaded by ONNX Runtime.
type sess struct {
	*api
	path   string
	o      session.Options
	device device

	bound     *binding.DynamicAdvancedSession
	raw       ptr // the OrtSession that bound owns
	in, out   []session.Port
	defaults  []session.Port
	outNames  cStrings
	log       *warnings
	logHandle cgo.Handle
	place     func(n int) ([]byte, error)
	timed     *feed // the inputs of the last call of Time
	profiling bool

	base      session.Usage
	read      time.Duration
	created   time.Duration
	firstRun  time.Duration
	fallbacks int
}

func (s *sess) Inputs() []session.Port  { return s.in }
func (s *sess) Outputs() []session.Port { return s.out }
func (s *sess) Warnings() []string      { return s.log.list() }

// Place implements [session.Placer].
func (s *sess) Place(alloc func(n int) ([]byte, error)) { s.place = alloc }

// feed is a set of inputs, and the outputs of a run on them, as values of the
// runtime.
type feed struct {
	api   *api
	given map[string]*onnx.Tensor
	names cStrings
	in    []ptr
	out   []ptr
	pin   runtime.Pinner
}

// newFeed checks in and makes its values.
func (s *sess) newFeed(in map[string]*onnx.Tensor) (_ *feed, err error) {
	if err := session.CheckInputs(s.in, s.defaults, in); err != nil {
		return nil, err
	}
	f := &feed{api: s.api, given: in, out: make([]ptr, len(s.out))}
	defer func() {
		if err != nil {
			f.release()
		}
	}()
	var names []string
	for i, list := range [][]session.Port{s.in, s.defaults} {
		for _, p := range list {
			v, err := s.inputValue(p, in, &f.pin)
			if err != nil {
				return nil, err
			}
			if v != nil {
				f.in = append(f.in, v)
				names = append(names, p.Name)
			} else if i == 0 {
				return nil, fmt.Errorf("input %q: ONNX Runtime's interface takes neither absent optionals nor empty sequences", p.Name)
			}
		}
	}
	f.names = newCStrings(names)
	return f, nil
}

// releaseOutputs forgets the outputs of the last run.
func (f *feed) releaseOutputs() {
	f.api.releaseAll(f.out)
	clear(f.out)
}

func (f *feed) release() {
	if f == nil {
		return
	}
	f.releaseOutputs()
	f.api.releaseAll(f.in)
	f.names.free()
	f.pin.Unpin()
}

// Run implements [session.Session].
func (s *sess) Run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	if s.bound == nil {
		return nil, fmt.Errorf("running %s: the session is closed", s.path)
	}
	r, err := s.runOnce(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", s.path, err)
	}
	return r, nil
}

func (s *sess) runOnce(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	f, err := s.newFeed(in)
	if err != nil {
		return nil, err
	}
	defer f.release()
	took, err := s.call(ctx, f, 1, nil)
	if err != nil {
		return nil, err
	}
	r := reader{api: s.api, place: s.place, out: make(map[string]*onnx.Tensor, len(s.out))}
	for i, p := range s.out {
		if err := r.read(p.Name, f.out[i]); err != nil {
			return nil, err
		}
	}
	return &session.Result{Outputs: r.out, Elapsed: took}, nil
}

// call runs f n times, passing each run's time to each, and returns the last
// one's. Tensors in f.out are written over; other outputs are made anew.
func (s *sess) call(ctx context.Context, f *feed, n int, each func(time.Duration)) (took time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	opts, err := binding.NewRunOptions()
	if err != nil {
		return 0, err
	}
	defer opts.Destroy()
	ctx, cancel := session.Within(ctx, s.o.Deadline*time.Duration(n), session.TooLong{Limit: s.o.Deadline})
	defer cancel()
	defer afterFunc(ctx, func() { opts.Terminate() })()
	options := object(opts, "o")
	for range n {
		start := session.Clock()
		err = s.run(s.raw, options, f.names, f.in, s.outNames, f.out)
		took = session.Clock() - start
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err != nil {
			return 0, err
		}
		if s.firstRun == 0 {
			s.firstRun = took
		}
		if each != nil {
			each(took)
		}
	}
	return took, nil
}

// Time implements [session.Timer].
func (s *sess) Time(ctx context.Context, in map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	if s.bound == nil {
		return nil, fmt.Errorf("timing %s: the session is closed", s.path)
	}
	out, err := s.time(ctx, in, n)
	if err != nil {
		return nil, fmt.Errorf("timing %s: %w", s.path, err)
	}
	return out, nil
}

func (s *sess) time(ctx context.Context, in map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	if n < 1 {
		return nil, fmt.Errorf("%d runs were asked for, want 1 or more", n)
	}
	if s.timed == nil || !sameInputs(s.timed.given, in) {
		s.timed.release()
		s.timed = nil
		f, err := s.newFeed(in)
		if err != nil {
			return nil, err
		}
		if _, err := s.call(ctx, f, 1, nil); err != nil {
			f.release()
			return nil, err
		}
		f.given = make(map[string]*onnx.Tensor, len(in))
		for k, v := range in {
			f.given[k] = v
		}
		s.timed = f
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out := make([]time.Duration, 0, n)
	keep := func(d time.Duration) { out = append(out, d) }
	if s.fixedOutputs() {
		if _, err := s.call(ctx, s.timed, n, keep); err == nil || ctx.Err() != nil {
			return out, err
		}
		out = out[:0] // a shape that varies from run to run, or a fault that shows again below
	}
	for range n {
		s.timed.releaseOutputs()
		if _, err := s.call(ctx, s.timed, 1, keep); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// fixedOutputs reports whether the runtime can write over a run's outputs:
// whether all are tensors of numbers.
func (s *sess) fixedOutputs() bool {
	for _, p := range s.out {
		if !p.Type.IsTensor() || p.Type.Elem == onnx.String {
			return false
		}
	}
	return true
}

func sameInputs(a, b map[string]*onnx.Tensor) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// Stats implements [session.Meter].
func (s *sess) Stats() (session.Stats, error) {
	u := session.ReadUsage()
	return session.Stats{
		PID: os.Getpid(), Read: s.read, Create: s.created, FirstRun: s.firstRun, PeakMemory: u.Peak, BaseMemory: s.base.Resident,
		Switches: u.Switches - s.base.Switches, Provider: s.device.provider, Fallbacks: s.fallbacks,
	}, nil
}

// EndProfile implements [session.Profiler].
func (s *sess) EndProfile() ([]byte, error) {
	if !s.profiling {
		return nil, fmt.Errorf("profiling %s: the session was not opened with a profile, or its profile has ended", s.path)
	}
	s.profiling = false
	name, err := s.endProfiling(s.raw)
	if err != nil {
		return nil, fmt.Errorf("profiling %s: %w", s.path, err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("profiling %s: %w", s.path, err)
	}
	return b, os.Remove(name)
}

// Close implements [session.Session]; closing again does nothing.
func (s *sess) Close() error {
	var err error
	if s.profiling {
		_, err = s.EndProfile()
	}
	s.timed.release()
	s.timed = nil
	if s.bound != nil {
		err = errors.Join(err, s.bound.Destroy())
		s.bound, s.raw = nil, nil
	}
	s.outNames.free()
	s.outNames = nil
	if s.logHandle != 0 {
		s.logHandle.Delete()
		s.logHandle = 0
	}
	return err
}
