//go:build unix || windows

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// grace is how long a worker may take to obey before it is killed.
const grace = 2 * time.Second

// Opener returns an engine that runs the one behind Main in a worker for each
// session. Its sessions implement [session.Timer], [session.Meter],
// [session.Profiler], [session.Warner], [session.Placer] and [Confined].
func Opener(w Options) session.Opener {
	return func(ctx context.Context, path string, o session.Options) (session.Session, error) {
		s, err := open(ctx, w, path, o)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// The requests. A worker answers each with a status and the rest.
const (
	opOpen = iota + 1
	opRun
	opTime
	opStats
	opWarnings
	opProfile
	opClose
	opCancel // ends the request before it early; has no answer of its own
)

// sess is a model in a worker.
type sess struct {
	path     string
	o        session.Options
	proc     *process
	in, out  []session.Port
	sandbox  Sandbox
	place    func(n int) ([]byte, error)
	timed    map[string]*onnx.Tensor // the inputs that the worker still has from Time
	profiler bool
	closed   bool
}

func (s *sess) Inputs() []session.Port  { return s.in }
func (s *sess) Outputs() []session.Port { return s.out }
func (s *sess) Sandbox() Sandbox        { return s.sandbox }

// Place implements [session.Placer].
func (s *sess) Place(alloc func(n int) ([]byte, error)) { s.place = alloc }

func open(ctx context.Context, w Options, path string, o session.Options) (_ *sess, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, errors.Unwrap(err))
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("opening %s: not a regular file; give the path of a .onnx file", path)
	}
	p, err := start(w)
	if err != nil {
		return nil, fmt.Errorf("opening %s: starting a worker process: %w", path, err)
	}
	s := &sess{path: path, o: o, proc: p}
	defer func() {
		if err != nil {
			p.stop(0)
		}
	}()
	if err := s.load(ctx, w); err != nil {
		return nil, err
	}
	return s, nil
}

// load has the worker open the model, and fetches its optimized graph.
func (s *sess) load(ctx context.Context, w Options) error {
	inner := s.o
	var scratch string
	if inner.Profile != "" || inner.SaveModel != "" {
		dir, err := s.proc.scratch()
		if err != nil {
			return fmt.Errorf("opening %s: %w", s.path, err)
		}
		scratch = dir
	}
	if inner.Profile != "" {
		inner.Profile = filepath.Join(scratch, "trace")
	}
	if inner.SaveModel != "" {
		if err := os.Mkdir(filepath.Join(scratch, "saved"), 0o700); err != nil {
			return fmt.Errorf("opening %s: %w", s.path, err)
		}
		inner.SaveModel = filepath.Join(scratch, "saved", filepath.Base(s.o.SaveModel))
	}
	var e encoder
	e.uint(opOpen)
	e.str(s.path)
	e.options(inner)
	e.strs(append([]string{}, w.ReadOnly...))
	e.str(scratch)
	ctx, cancel := session.Within(ctx, s.o.LoadLimit, session.TooLong{Limit: s.o.LoadLimit, Loading: true})
	defer cancel()
	d, err := s.call(ctx, "opening", e.b)
	if err != nil {
		return err
	}
	s.in, s.out = d.ports(), d.ports()
	s.profiler = d.bool()
	s.sandbox = Sandbox{Landlock: int(d.uint()), Files: d.bool(), Exec: d.bool(), Network: d.bool(), MemoryLimit: d.bool(), NetSpace: s.proc.netSpace}
	if err := d.done(); err != nil {
		return fmt.Errorf("opening %s: the worker answered: %w", s.path, err)
	}
	if inner.SaveModel != "" {
		if err := moveAll(filepath.Dir(inner.SaveModel), filepath.Dir(s.o.SaveModel)); err != nil {
			return fmt.Errorf("opening %s: saving the optimized graph: %w", s.path, err)
		}
	}
	return nil
}

// moveAll moves the files of one folder into another.
func moveAll(from, to string) error {
	list, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range list {
		if !e.Type().IsRegular() {
			return fmt.Errorf("the worker left %s, which is not a file", e.Name())
		}
		if err := moveFile(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// moveFile renames, or copies where that is to another file system.
func moveFile(from, to string) error {
	if err := os.Rename(from, to); err == nil {
		return nil
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := atomicfile.Create(to, 0o644)
	if err != nil {
		return err
	}
	defer dst.Abort()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return dst.Commit()
}

// remoteError is an error of the engine in the worker.
type remoteError struct {
	msg   string
	cause error // what callers look for behind it; nil if nothing
}

func (e *remoteError) Error() string { return e.msg }
func (e *remoteError) Unwrap() error { return e.cause }

// call sends a request and returns the rest of the answer.
func (s *sess) call(ctx context.Context, doing string, request []byte) (*decoder, error) {
	if s.closed {
		return nil, fmt.Errorf("%s %s: the session is closed", doing, s.path)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s %s: %w", doing, s.path, context.Cause(ctx))
	}
	answer, err := s.proc.exchange(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", doing, s.path, err)
	}
	d := &decoder{b: answer}
	if d.bool() {
		return d, nil
	}
	msg := d.str()
	if err := d.done(); err != nil {
		return nil, fmt.Errorf("%s %s: the worker answered: %w", doing, s.path, err)
	}
	if cause := context.Cause(ctx); cause != nil { // what the engine says then is only that it was stopped
		return nil, fmt.Errorf("%s %s: %w", doing, s.path, cause)
	}
	return nil, &remoteError{msg: msg}
}

// within gives runs their time.
func (s *sess) within(ctx context.Context, runs int) (context.Context, context.CancelFunc) {
	return session.Within(ctx, s.o.Deadline*time.Duration(runs), session.TooLong{Limit: s.o.Deadline})
}

// Run implements [session.Session].
func (s *sess) Run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	s.timed = nil // its place in memory is taken
	var e encoder
	e.uint(opRun)
	if err := s.send(&e, in); err != nil {
		return nil, fmt.Errorf("running %s: %w", s.path, err)
	}
	ctx, cancel := s.within(ctx, 1)
	defer cancel()
	d, err := s.call(ctx, "running", e.b)
	if err != nil {
		return nil, err
	}
	r := &session.Result{Elapsed: time.Duration(d.int())}
	if r.Outputs, err = d.take(s.proc.fromWorker); err == nil {
		err = d.done()
	}
	if err != nil {
		return nil, fmt.Errorf("running %s: the worker answered: %w", s.path, err)
	}
	for _, t := range r.Outputs {
		if err := s.own(t); err != nil {
			return nil, fmt.Errorf("running %s: %w", s.path, err)
		}
	}
	return r, nil
}

// send writes tensors at the beginning of the memory for the worker.
func (s *sess) send(e *encoder, in map[string]*onnx.Tensor) error {
	if s.closed {
		return nil // call says so
	}
	s.proc.toWorker.reset()
	return e.put(s.proc.toWorker, in)
}

// own copies a tensor's content out of the memory that the worker writes.
func (s *sess) own(t *onnx.Tensor) error {
	if t.DType == onnx.String {
		return nil
	}
	shared, err := t.Bytes()
	if err != nil {
		return err
	}
	var b []byte
	if s.place != nil {
		if b, err = s.place(len(shared)); err != nil {
			return err
		}
	} else {
		b = make([]byte, len(shared))
	}
	copy(b, shared)
	t.Data = onnx.Raw(b)
	return nil
}

// Time implements [session.Timer]. It fails if the worker's engine has no timer.
func (s *sess) Time(ctx context.Context, in map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	var e encoder
	e.uint(opTime)
	e.int(int64(n))
	again := s.timed != nil && maps.Equal(s.timed, in)
	e.bool(again)
	if !again {
		s.timed = nil
		if err := s.send(&e, in); err != nil {
			return nil, fmt.Errorf("timing %s: %w", s.path, err)
		}
	}
	ctx, cancel := s.within(ctx, max(n, 1)+1)
	defer cancel()
	d, err := s.call(ctx, "timing", e.b)
	if err != nil {
		s.timed = nil
		return nil, err
	}
	var out []time.Duration
	for _, v := range d.ints() {
		out = append(out, time.Duration(v))
	}
	if err := d.done(); err != nil || len(out) != n {
		return nil, fmt.Errorf("timing %s: the worker answered with %d times for %d runs", s.path, len(out), n)
	}
	s.timed = maps.Clone(in)
	return out, nil
}

// ask sends a request that has no content, and that takes no longer than a run may.
func (s *sess) ask(doing string, op byte) (*decoder, error) {
	ctx, cancel := s.within(context.Background(), 1)
	defer cancel()
	return s.call(ctx, doing, []byte{op})
}

// Stats implements [session.Meter].
func (s *sess) Stats() (session.Stats, error) {
	d, err := s.ask("measuring", opStats)
	if err != nil {
		return session.Stats{}, err
	}
	st := session.Stats{
		PID: int(d.int()), Read: time.Duration(d.int()), Create: time.Duration(d.int()), FirstRun: time.Duration(d.int()),
		PeakMemory: d.int(), BaseMemory: d.int(), Switches: d.int(), Fallbacks: int(d.int()), Provider: d.str(),
	}
	st.PID = s.proc.cmd.Process.Pid
	return st, d.done()
}

// Warnings implements [session.Warner].
func (s *sess) Warnings() []string {
	d, err := s.ask("asking", opWarnings)
	if err != nil {
		return nil
	}
	return d.strs()
}

// EndProfile implements [session.Profiler]. It fails if the worker's engine
// has no profiler.
func (s *sess) EndProfile() ([]byte, error) {
	if s.o.Profile == "" || !s.profiler {
		return nil, fmt.Errorf("profiling %s: the session was not opened with a profile, or the engine has none", s.path)
	}
	d, err := s.ask("profiling", opProfile)
	if err != nil {
		return nil, err
	}
	trace, err := d.take(s.proc.fromWorker)
	if err == nil {
		err = d.done()
	}
	if err != nil || trace["trace"] == nil {
		return nil, fmt.Errorf("profiling %s: the worker answered: %w", s.path, errors.Join(err, errMessage))
	}
	b, err := trace["trace"].Bytes()
	return append([]byte(nil), b...), err
}

// Close implements [session.Session]: it ends the worker and waits for it.
// Closing again does nothing.
func (s *sess) Close() error {
	if s.closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	_, err := s.call(ctx, "closing", []byte{opClose})
	var remote *remoteError
	if !errors.As(err, &remote) { // a worker that died has been reported by the call that it failed
		err = nil
	}
	s.closed = true
	s.proc.stop(grace)
	return err
}
