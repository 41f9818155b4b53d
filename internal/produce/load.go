package produce

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// loaded is a model in the engine with the engine's own optimizations on.
type loaded struct {
	session session.Session
	census  *Census
	silent  string // why there is no census
	took    time.Duration
}

func (l *loaded) close() {
	if l != nil && l.session != nil {
		l.session.Close()
		l.session = nil
	}
}

// load opens a model with the engine's own optimizations on and takes the census
// of the graph that the engine makes.
func (j *job) load(ctx context.Context, path string) (l *loaded, err error) {
	v, began := j.o.Verify, time.Now()
	defer func() {
		if l != nil {
			l.took = time.Since(began)
		}
	}()
	if j.silent != "" {
		s, err := v.open(ctx, path, session.LevelAll)
		if err != nil {
			return nil, err
		}
		return &loaded{session: s, silent: j.silent}, nil
	}
	dir, err := atomicfile.TempDir(filepath.Dir(j.dst))
	if err != nil {
		return nil, err
	}
	defer dir.Remove()
	l = &loaded{}
	saved := filepath.Join(dir.Path, "optimized.onnx")
	l.session, err = v.openSaving(ctx, path, saved, graphData)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	if err != nil {
		s, plain := v.open(ctx, path, session.LevelAll) // it may be that it only cannot write its graph
		if plain != nil {
			return nil, plain
		}
		return &loaded{session: s, silent: err.Error()}, nil
	}
	if l.census, err = readCensus(saved); err != nil {
		l.silent = err.Error()
	}
	return l, nil
}

// access opens the model at path at each level. With a guard, what the engine
// makes of it with its optimizations on is put into *keep, and stays open where
// it is going to be timed.
func (j *job) access(path string, keep **loaded) access {
	return func(ctx context.Context, level session.Level) (session.Session, func(), error) {
		if level != session.LevelAll || j.o.Guard == nil {
			s, err := j.o.Verify.open(ctx, path, level)
			return s, func() { s.Close() }, err
		}
		l, err := j.load(ctx, path)
		if err != nil {
			return nil, nil, err
		}
		*keep = l
		release := l.close
		if !j.guard.NoMeasure {
			release = func() {}
		}
		return l.session, release, nil
	}
}

// openSaving opens the model at path and has the engine write its graph to
// saved, with weights in the file of the name data, relative to saved's folder.
func (v *Verify) openSaving(ctx context.Context, path, saved, data string) (session.Session, error) {
	o := v.Session.Saving(saved, data)
	o.Level = session.LevelAll
	return v.Open(ctx, path, o)
}

// graphData is the file that the engine's graph has its weights in, beside it:
// nobody reads them.
const graphData = "optimized.data"

// mostCounted is the largest model whose graph the engine is asked to write: it
// writes the weights too.
const mostCounted = 512 << 20

// EngineGraph loads the model at path with the engine's own optimizations on and
// calls f with the graph that the engine makes of it, whose weights are not there
// and which is closed behind f. Models of more than 512 MiB are refused: the
// engine would have to write them once more. What is written lies in dir meanwhile.
func (v *Verify) EngineGraph(ctx context.Context, path, dir string, f func(m *onnx.Model)) error {
	m, err := onnxfile.Open(path, onnxfile.Options{NoExternalData: true})
	if err != nil {
		return err
	}
	size := weightBytes(m)
	m.Close()
	if size > mostCounted {
		return fmt.Errorf("the model has more than %d MiB, which the engine would have to write once more", mostCounted>>20)
	}
	saved := filepath.Join(dir, "optimized.onnx")
	s, err := v.openSaving(ctx, path, saved, graphData)
	if err != nil {
		return err
	}
	s.Close()
	return readGraph(saved, f)
}

// weightBytes sums the constants of m.
func weightBytes(m *onnx.Model) (n int64) {
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			if v.Const != nil {
				n += v.Const.Size()
			}
		}
	}
	return n
}

// readCensus counts the operators of the graph at path.
func readCensus(path string) (c *Census, err error) {
	err = readGraph(path, func(m *onnx.Model) { c = Count(m) })
	return c, err
}

// readGraph calls f with the graph that the engine wrote to path. Its weights need
// not be there.
func readGraph(path string, f func(m *onnx.Model)) error {
	m, err := onnxfile.Open(path, onnxfile.Options{NoExternalData: true})
	if err != nil {
		return fmt.Errorf("the engine's graph cannot be read: %w", err)
	}
	defer m.Close()
	f(m)
	return nil
}
