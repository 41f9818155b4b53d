//go:build unix || windows

package worker

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Main is what a worker process does: it serves one model, opened with open,
// to the coordinator that started it. It returns the exit status when the
// coordinator is done, and ends the process when the coordinator is gone.
func Main(open session.Opener) int {
	sacrifice()
	if err := closeStrangers(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	files, err := inherited()
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	w := &server{open: open, base: session.ReadUsage(), requests: files[fileRequests], answers: files[fileAnswers]}
	for _, m := range []struct {
		f   *os.File
		dst **memory
	}{{files[fileToWorker], &w.in}, {files[fileFromWorker], &w.out}} {
		if *m.dst, err = mapMemory(m.f); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			return 1
		}
	}
	return w.serve()
}

// server is the worker's side of a session.
type server struct {
	open              session.Opener
	requests, answers *os.File
	in, out           *memory
	base              session.Usage // before the model was loaded
	s                 session.Session
	timed             map[string]*onnx.Tensor

	mu     sync.Mutex
	cancel context.CancelFunc // ends the request in work
}

// job is a request with the context to serve it under.
type job struct {
	ctx context.Context
	msg []byte
}

// serve answers requests, one after the other, until there are no more. It does
// so on one thread of the system, since an engine may set how that thread
// computes when it loads the model.
func (w *server) serve() int {
	runtime.LockOSThread()
	todo := make(chan job)
	go func() {
		for {
			msg, err := readFrame(w.requests)
			if err != nil { // the coordinator is gone, whatever the engine is doing
				os.Exit(0)
			}
			if len(msg) == 1 && msg[0] == opCancel {
				w.mu.Lock()
				if w.cancel != nil {
					w.cancel()
				}
				w.mu.Unlock()
				continue
			}
			ctx, cancel := context.WithCancel(context.Background())
			w.mu.Lock()
			w.cancel = cancel
			w.mu.Unlock()
			todo <- job{ctx, msg}
		}
	}()
	for j := range todo {
		var e encoder
		e.bool(true)
		if err := w.handle(j.ctx, j.msg, &e); err != nil {
			e.b = e.b[:0]
			e.bool(false)
			e.str(err.Error())
		}
		if err := writeFrame(w.answers, e.b); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			return 1
		}
	}
	return 0
}

// handle does what a request asks for. A panic of the engine is an error like
// any other.
func (w *server) handle(ctx context.Context, msg []byte, e *encoder) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the engine failed: %v", r)
		}
	}()
	d := &decoder{b: msg}
	op := d.uint()
	if op == opOpen {
		return w.load(ctx, d, e)
	}
	if w.s == nil {
		return fmt.Errorf("no model is open")
	}
	switch op {
	case opRun:
		return w.run(ctx, d, e)
	case opTime:
		return w.time(ctx, d, e)
	case opStats:
		return w.stats(e)
	case opWarnings:
		var list []string
		if l, ok := w.s.(session.Warner); ok {
			list = l.Warnings()
		}
		e.strs(list)
		return nil
	case opProfile:
		return w.profile(e)
	case opClose:
		return w.s.Close()
	}
	return fmt.Errorf("request %d is unknown", op)
}

// affinities is ONNX Runtime's setting of the processors that its threads run on.
const affinities = "session.intra_op_thread_affinities"

// load locks the process up and opens the model.
func (w *server) load(ctx context.Context, d *decoder, e *encoder) error {
	path, o, readOnly, scratch := d.str(), d.options(), d.strs(), d.str()
	if err := d.done(); err != nil {
		return err
	}
	box, err := confine(limits{model: path, device: o.Device, readOnly: readOnly, scratch: scratch, memory: o.MaxMemory, pinned: o.Config[affinities] != ""})
	if err != nil {
		return fmt.Errorf("opening %s: locking up the worker: %w", path, err)
	}
	o.MaxMemory = 0 // kept by the process from here on
	w.base = session.ReadUsage()
	if w.s, err = w.open(ctx, path, o); err != nil {
		return err
	}
	if p, ok := w.s.(session.Placer); ok {
		p.Place(w.out.alloc)
	}
	e.ports(w.s.Inputs())
	e.ports(w.s.Outputs())
	_, profiler := w.s.(session.Profiler)
	e.bool(profiler)
	e.uint(uint64(box.Landlock))
	for _, on := range []bool{box.Files, box.Exec, box.Network, box.MemoryLimit} {
		e.bool(on)
	}
	return nil
}

func (w *server) run(ctx context.Context, d *decoder, e *encoder) error {
	in, err := d.take(w.in)
	if err == nil {
		err = d.done()
	}
	if err != nil {
		return err
	}
	w.timed = nil
	w.out.reset()
	r, err := w.s.Run(ctx, in)
	if err != nil {
		return err
	}
	e.int(int64(r.Elapsed))
	return e.put(w.out, r.Outputs)
}

func (w *server) time(ctx context.Context, d *decoder, e *encoder) (err error) {
	n, again := int(d.int()), d.bool()
	if !again {
		if w.timed, err = d.take(w.in); err != nil {
			return err
		}
	}
	if err := d.done(); err != nil {
		return err
	}
	t, ok := w.s.(session.Timer)
	if !ok {
		return fmt.Errorf("the engine has no timer")
	}
	times, err := t.Time(ctx, w.timed, n)
	if err != nil {
		return err
	}
	e.uint(uint64(len(times)))
	for _, v := range times {
		e.int(int64(v))
	}
	return nil
}

// stats adds what this process knows of itself to what the engine knows.
func (w *server) stats(e *encoder) error {
	var s session.Stats
	if m, ok := w.s.(session.Meter); ok {
		var err error
		if s, err = m.Stats(); err != nil {
			return err
		}
	}
	u := session.ReadUsage()
	s.PeakMemory, s.BaseMemory, s.Switches = u.Peak, w.base.Resident, u.Switches-w.base.Switches
	e.stats(s)
	return nil
}

func (w *server) profile(e *encoder) error {
	p, ok := w.s.(session.Profiler)
	if !ok {
		return fmt.Errorf("the engine has no profiler")
	}
	b, err := p.EndProfile()
	if err != nil {
		return err
	}
	w.out.reset()
	return e.put(w.out, map[string]*onnx.Tensor{
		"trace": {Name: "trace", DType: onnx.Uint8, Shape: []int64{int64(len(b))}, Data: onnx.Raw(b)},
	})
}
