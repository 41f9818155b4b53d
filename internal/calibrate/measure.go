package calibrate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Batch is the input of one run.
type Batch struct {
	ID      string // for messages
	Samples int64
	// Inputs returns what the run gets. For a model that carries a state from run
	// to run it is called after Keep has taken the state of the run before.
	Inputs func() (map[string]*onnx.Tensor, error)
	Labels []*onnx.Tensor // of the samples; nil where there are none. Measuring does not read them
}

// Pass is one pass over the data.
type Pass struct {
	Batches iter.Seq2[*Batch, error]
	// Keep takes the state from a run's outputs; nil where none is carried.
	Keep func(outputs map[string]*onnx.Tensor) error
}

// Options directs [Measure].
type Options struct {
	Open    session.Opener
	Session session.Options // Level and Outputs are set here
	TempDir string          // "" is the system's
	Workers int             // sessions at once, which share the threads; 0: 1. A model with state has one.

	// MaxBytes bounds the activations that are outside of the engine at once:
	// tensors are measured in groups that keep to it, each in a pass of its own,
	// and one that is too large by itself by its extremes only. 0: no limit.
	MaxBytes int64

	// Snapshot is a file that keeps what was measured: a run with the same Key
	// goes on from there, or reads all from it. "" is none.
	Snapshot string
	Key      string // of model, data and all that decides what is measured
	Every    int    // batches between snapshots; 0: 64

	Progress func(samples int64) // after each batch of each pass; may be nil
}

// Result is what [Measure] saw.
type Result struct {
	Stats   map[string]*Stats // by [Want].Key, or by tensor
	Samples int64
	Groups  int   // passes over the data; 0 where all came from the snapshot
	Resumed int64 // samples that came from the snapshot
	Notices []string
}

// Measure runs m on all of a pass's batches and returns the statistics of the
// tensors in wants. start begins a pass; it is called once for each group.
func Measure(ctx context.Context, m *onnx.Model, wants []Want, start func() Pass, o Options) (*Result, error) {
	if o.Open == nil {
		return nil, errors.New("calibration needs an engine")
	}
	if o.Snapshot != "" && slices.ContainsFunc(wants, func(w Want) bool { return w.Gram }) {
		return nil, errors.New("products of columns are too large to be kept in a file of statistics")
	}
	wants = feasible(m, wants)
	r := &Result{Stats: map[string]*Stats{}}
	snap, err := openSnapshot(&o, wants)
	if err != nil {
		return nil, err
	}
	if snap.complete(wants) {
		r.Stats, r.Samples, r.Resumed = snap.Stats, snap.Samples, snap.Samples
		return r, nil
	}
	groups, err := grouped(ctx, m, wants, start, &o, r)
	if err != nil {
		return nil, err
	}
	for i, g := range groups {
		if i < snap.Group {
			continue
		}
		j := &job{o: &o, snap: snap, group: i}
		if err := j.run(ctx, m, g, start()); err != nil {
			return nil, err
		}
		r.Groups++
		r.Samples, r.Resumed = j.samples, max(r.Resumed, j.resumed)
	}
	r.Stats = snap.Stats
	return r, snap.finish(len(groups), r.Samples)
}

// job is one pass.
type job struct {
	o       *Options
	snap    *snapshot
	group   int
	p       *probe
	samples int64
	resumed int64
}

// ran is a batch after its run, or why it did not end.
type ran struct {
	batch *Batch
	stats []*Stats
	slab  *slab // of the outputs, where the statistics still read them; else nil
	err   error
}

// run measures one group.
func (j *job) run(ctx context.Context, m *onnx.Model, wants []Want, pass Pass) error {
	var err error
	if j.p, err = newProbe(m, wants, j.o.TempDir); err != nil {
		return err
	}
	defer j.p.close()
	workers := max(j.o.Workers, 1)
	if pass.Keep != nil {
		workers = 1
	}
	w := &workshop{p: j.p, pass: pass, free: make(chan session.Session, workers)}
	w.ctx, w.cancel = context.WithCancel(ctx)
	defer w.close()
	o := *j.o
	if workers > 1 && o.Session.Threads > 0 { // else they would wait for each other
		o.Session.Threads = max(o.Session.Threads/workers, 1)
	}
	for range workers {
		s, err := j.p.open(ctx, &o)
		if err != nil {
			return err
		}
		w.all = append(w.all, s)
		w.free <- s
	}
	done := int64(0)
	if j.snap.Group == j.group {
		done = j.snap.Batches
	}
	return j.collect(w.results(done), done, &w.slabs)
}

// collect merges what comes, in the order of the batches.
func (j *job) collect(results iter.Seq[*ran], done int64, used *slabs) error {
	every := int64(j.o.Every)
	if every <= 0 {
		every = 64
	}
	k := int64(0)
	for r := range results {
		if r.err != nil {
			return r.err
		}
		j.samples += r.batch.Samples
		if k++; k <= done {
			j.resumed += r.batch.Samples
			continue
		}
		for i, s := range r.stats {
			j.snap.of(j.p.wants[i].key()).Merge(s)
		}
		used.put(r.slab)
		if j.o.Progress != nil {
			j.o.Progress(j.samples)
		}
		if k%every == 0 {
			if err := j.snap.save(j.group, k, j.samples); err != nil {
				return err
			}
		}
	}
	return j.snap.save(j.group+1, 0, j.samples)
}

// workshop runs the batches of a pass on some sessions.
type workshop struct {
	ctx    context.Context
	cancel context.CancelFunc
	p      *probe
	pass   Pass
	all    []session.Session
	free   chan session.Session
	slabs  slabs
}

func (w *workshop) close() {
	w.cancel()
	for _, s := range w.all {
		s.Close()
	}
}

// results yields the batches in their order, each after its run, while the next
// ones run. Where no state is carried, the first skip batches do not run.
func (w *workshop) results(skip int64) iter.Seq[*ran] {
	return func(yield func(*ran) bool) {
		waiting := make(chan chan *ran, len(w.all))
		go w.feed(waiting, skip)
		defer func() {
			w.cancel()
			for c := range waiting {
				<-c
			}
		}()
		for c := range waiting {
			if r := <-c; !yield(r) || r.err != nil {
				return
			}
		}
		if err := w.ctx.Err(); err != nil {
			yield(&ran{err: err})
		}
	}
}

// feed starts batch after batch, as sessions are free, and ends with the data,
// the context or the first failure. Every channel that it sends gets one result.
func (w *workshop) feed(waiting chan<- chan *ran, skip int64) {
	defer close(waiting)
	k := int64(0)
	for b, err := range w.pass.Batches {
		c := make(chan *ran, 1)
		select {
		case waiting <- c:
		case <-w.ctx.Done():
			return
		}
		k++
		switch {
		case err != nil:
			c <- &ran{err: fmt.Errorf("calibration data: %w", err)}
			return
		case k <= skip && w.pass.Keep == nil:
			c <- &ran{batch: b}
		case !w.start(b, k-1, c):
			return
		}
	}
}

// start runs batch k, and sums up what it gave while others run. With several
// sessions it returns at once; false after a failure.
func (w *workshop) start(b *Batch, k int64, c chan<- *ran) bool {
	s := <-w.free
	run := func() bool {
		out, mem, err := w.one(s, b)
		w.free <- s
		if err != nil {
			c <- &ran{err: fmt.Errorf("calibrating on sample %s: %w", b.ID, err)}
			return false
		}
		go func() {
			stats, err := w.p.summarize(out, k)
			if !w.p.keepsRows() {
				w.slabs.put(mem)
				mem = nil
			}
			c <- &ran{b, stats, mem, err}
		}()
		return true
	}
	if len(w.all) == 1 {
		return run()
	}
	go run()
	return true
}

// one runs a batch with the state that is carried, if any, and returns the outputs
// and the memory that they lie in, if that is to be put back.
func (w *workshop) one(s session.Session, b *Batch) (map[string]*onnx.Tensor, *slab, error) {
	in, err := b.Inputs()
	if err != nil {
		return nil, nil, err
	}
	var mem *slab
	if w.pass.Keep == nil { // else the outputs are the state
		mem = w.slabs.place(s)
	}
	r, err := s.Run(w.ctx, in)
	if err != nil {
		return nil, nil, err
	}
	if w.pass.Keep != nil {
		err = w.pass.Keep(w.p.own(r.Outputs))
	}
	return r.Outputs, mem, err
}
