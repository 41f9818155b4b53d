package profile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

const (
	// mostPaired is the largest model, in bytes, that is loaded twice, for runs with
	// the profiler and without it to take turns.
	mostPaired = 1 << 30
	// mostSaved is the largest model whose graph the engine is asked to write: it
	// writes the weights too.
	mostSaved = 512 << 20
	// mostEvents is as much of a trace as one wants to hold.
	mostEvents = 1_000_000
	// recordTurn is the number of runs with the profiler before as many without it.
	recordTurn = 4
)

// recording is what there is beside the engine's trace.
type recording struct {
	profiled []float64   // times of the runs under the profiler, in ms
	plain    []float64   // times of runs without it, between those; may be empty
	steady   float64     // median time of earlier runs
	graph    *onnx.Model // as the engine wrote it; nil where it did not
	silent   string      // why it did not
	lineage  *lineage    // of graph
	overhead overhead
	names    map[string]int
	o        *originals // nil where the model cannot be read
}

// wall returns the time of a run without the profiler.
func (r *recording) wall() float64 {
	if len(r.plain) == 0 {
		return r.steady
	}
	return middleMean(r.plain)
}

// profile opens a session in which the engine records, and adds what it found to t.
func (r *runner) profile(ctx context.Context, t *TimedProfile) error {
	dir, err := os.MkdirTemp(r.o.TempDir, "lapidary-trace-")
	if err != nil {
		return fmt.Errorf("no folder for the engine's trace: %v", err)
	}
	defer os.RemoveAll(dir)
	rec := recording{steady: 1e3 * measure.Median(r.seconds), o: openOriginals(r.path, r.samples[0])}
	defer rec.o.close()
	rec.names = rec.o.named()
	s, err := r.openRecording(ctx, dir, &rec)
	if err != nil {
		return fmt.Errorf("opening the model with the engine's profiler: %v", err)
	}
	defer s.Close()
	if rec.graph != nil {
		defer rec.graph.Close()
	}
	if _, ok := s.(session.Profiler); !ok {
		return errors.New("the engine has no profiler")
	}
	if err := r.record(ctx, s, dir, &rec); err != nil {
		return err
	}
	trace, err := endProfile(s)
	if err != nil {
		return err
	}
	if trace.Truncated || trace.Skipped > 0 {
		t.warn(measure.Warning{Code: "trace-damaged", Severity: measure.Warn,
			Message: fmt.Sprintf("the engine's trace is damaged: %d events could not be read", trace.Skipped)})
	}
	return t.attribute(trace, rec)
}

// openRecording opens the model with the engine's profiler, and has the engine
// write its graph, for nodes to be traced back, where it can and the model is not too large.
func (r *runner) openRecording(ctx context.Context, dir string, rec *recording) (session.Session, error) {
	o := r.o.Session
	o.Profile = filepath.Join(dir, "trace")
	switch {
	case rec.o.size() == 0:
		rec.silent = "the model cannot be read"
	case r.modelBytes() > mostSaved:
		rec.silent = fmt.Sprintf("the model is larger than %s", bytesText(mostSaved))
	default:
		saving := filepath.Join(dir, "graph.onnx")
		s, err := r.open(ctx, r.path, o.Saving(saving, "graph.data"))
		if err != nil { // it may be that it only cannot write its graph
			rec.silent = err.Error()
			break
		}
		if rec.graph, err = onnxfile.Open(saving, onnxfile.Options{NoExternalData: true}); err != nil {
			rec.silent = "the engine's graph cannot be read"
			if errors.Is(err, fs.ErrNotExist) {
				rec.silent = "the engine wrote no graph"
			}
		} else {
			rec.lineage = rec.o.trace(rec.graph)
		}
		return s, nil
	}
	return r.open(ctx, r.path, o)
}

// modelBytes returns the size of the model with its weights, 0 where it is not known.
func (r *runner) modelBytes() int64 {
	m, err := onnxfile.Open(r.path, onnxfile.Options{NoExternalData: true})
	if err != nil {
		return 0
	}
	defer m.Close()
	size, err := fileSize(r.path)
	if err != nil {
		return 0
	}
	return plus(size, externalBytes(m))
}

// lane is a session that takes turns with others.
type lane struct {
	session session.Session
	samples []map[string]*onnx.Tensor
	firsts  []int     // samples that warm it up
	turn    int       // runs in a turn
	walls   []float64 // times of runs, in ms
}

// record makes the runs to average over in s, one after the other so that each is
// one run in the trace, in turns with runs without the profiler and with those
// that show the profiler's overhead.
func (r *runner) record(ctx context.Context, s session.Session, dir string, rec *recording) error {
	with, without, err := r.openIdle(ctx, dir, rec)
	if err != nil {
		return fmt.Errorf("measuring the overhead of the engine's profiler: %v", err)
	}
	defer with.session.Close()
	defer without.session.Close()
	profiled := &lane{session: s, samples: r.samples, firsts: r.byShape, turn: recordTurn}
	plain := &lane{samples: r.samples, firsts: r.byShape, turn: recordTurn}
	lanes := []*lane{profiled, with, without}
	if r.modelBytes() <= mostPaired {
		if plain.session, err = r.open(ctx, r.path, r.o.Session); err != nil {
			return fmt.Errorf("opening the model beside the engine's profiler: %v", err)
		}
		defer plain.session.Close()
		lanes = append(lanes, plain)
	}
	if err := r.takeTurns(ctx, lanes, r.recorded(rec)); err != nil {
		return err
	}
	rec.profiled, rec.plain = profiled.walls, plain.walls
	trace, err := endProfile(with.session)
	if err == nil {
		rec.overhead, err = overheadOf(trace, with.walls, without.walls)
	}
	if err != nil {
		return fmt.Errorf("measuring the overhead of the engine's profiler: %v", err)
	}
	return nil
}

// takeTurns warms all lanes up and runs each some times in turn, forwards and
// backwards, until the first has made n runs.
func (r *runner) takeTurns(ctx context.Context, lanes []*lane, n int) error {
	for _, l := range lanes {
		for range 3 {
			for _, sample := range l.firsts {
				if _, err := l.session.Run(ctx, l.samples[sample]); err != nil {
					return err
				}
			}
		}
	}
	for done := 0; done < n; done += lanes[0].turn {
		for k := range lanes {
			if done/lanes[0].turn%2 == 1 {
				k = len(lanes) - 1 - k
			}
			l := lanes[k]
			for range l.turn {
				res, err := l.session.Run(ctx, l.samples[len(l.walls)%len(l.samples)])
				if err != nil {
					return err
				}
				l.walls = append(l.walls, ms(res.Elapsed))
			}
		}
		r.o.Progress(min(r.done+int64(done), r.total), r.total)
	}
	return nil
}

// recorded returns how many runs to record: as many as asked for, within half of
// the time of a session, and of a trace that fits memory.
func (r *runner) recorded(rec *recording) int {
	perRun := time.Duration(measure.Median(r.seconds) * float64(time.Second))
	n := r.o.ProfiledRuns
	if perRun > 0 {
		n = min(n, int(r.o.Budget/time.Duration(r.o.Processes+1)/(2*perRun)))
	}
	if size := rec.o.size(); size > 0 {
		n = min(n, mostEvents/size)
	}
	return max(n, 4)
}
