package produce

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// loaded is a model in the engine with the engine's own optimizations on.
type loaded struct {
	session session.Session
	census  *Census
	silent  string // why there is no census
}

func (l *loaded) close() {
	if l != nil && l.session != nil {
		l.session.Close()
		l.session = nil
	}
}

// load opens a model with the engine's own optimizations on and takes the census
// of the graph that the engine makes.
func (j *job) load(ctx context.Context, path string) (*loaded, error) {
	v := j.o.Verify
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
	l := &loaded{}
	saved := filepath.Join(dir.Path, "optimized.onnx")
	if l.session, err = v.openSaving(ctx, path, saved, graphData); err != nil {
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
	o := v.Session
	o.Level, o.SaveModel = session.LevelAll, saved
	o.Config = maps.Clone(o.Config)
	if o.Config == nil {
		o.Config = map[string]string{}
	}
	o.Config["session.optimized_model_external_initializers_file_name"] = data
	o.Config["session.optimized_model_external_initializers_min_size_in_bytes"] = "1024"
	return v.Open(ctx, path, o)
}

// graphData is the file that the engine's graph has its weights in, beside it:
// nobody reads them.
const graphData = "optimized.data"

// mostCounted is the largest model whose graph the engine is asked to write: it
// writes the weights too.
const mostCounted = 512 << 20

// readCensus counts the operators of the graph at path. Its weights need not be there.
func readCensus(path string) (*Census, error) {
	m, err := onnxfile.Open(path, onnxfile.Options{NoExternalData: true})
	if err != nil {
		return nil, fmt.Errorf("the engine's graph cannot be read: %w", err)
	}
	defer m.Close()
	return Count(m), nil
}
