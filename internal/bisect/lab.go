package bisect

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Options says how models are run and what is looked for.
type Options struct {
	Verify *produce.Verify // the engine, inputs and tolerance; needed
	Kinds  []Kind          // faults to look for; nil: all
	// Progress is told what is being done; may be nil.
	Progress func(stage string)
}

func (o *Options) progress(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

// lab is a folder for models on trial.
type lab struct {
	o   Options
	dir *atomicfile.Dir // removed by the next run where this one is killed
	n   int             // models written
}

func newLab(o Options) (*lab, error) {
	atomicfile.CleanStale(os.TempDir())
	dir, err := atomicfile.TempDir(os.TempDir())
	if err != nil {
		return nil, err
	}
	return &lab{o: o, dir: dir}, nil
}

func (l *lab) close() { l.dir.Remove() }

// write stores m in a folder of its own and returns the model's path.
func (l *lab) write(m *onnx.Model) (string, error) {
	l.n++
	dir := filepath.Join(l.dir.Path, strconv.Itoa(l.n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "model.onnx")
	_, err := onnxfile.Write(path, m, onnxfile.WriteOptions{Perm: 0o600})
	return path, err
}

// drop removes a model that [lab.write] stored.
func (l *lab) drop(path string) { os.RemoveAll(filepath.Dir(path)) }

// run loads and runs m once. The error is a *[produce.Failure] where the engine
// does not load or run it.
func (l *lab) run(ctx context.Context, m *onnx.Model, level session.Level, feed map[string]*onnx.Tensor) (map[string]*onnx.Tensor, error) {
	path, err := l.write(m)
	if err != nil {
		return nil, err
	}
	defer l.drop(path)
	return l.runFile(ctx, path, level, feed)
}

func (l *lab) runFile(ctx context.Context, path string, level session.Level, feed map[string]*onnx.Tensor) (map[string]*onnx.Tensor, error) {
	s, err := l.open(ctx, path, level)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	r, err := s.Run(ctx, feed)
	if err != nil {
		return nil, l.failure(ctx, produce.StageRun, level, err)
	}
	return r.Outputs, nil
}

func (l *lab) open(ctx context.Context, path string, level session.Level) (session.Session, error) {
	o := l.o.Verify.Session
	o.Level = level
	s, err := l.o.Verify.Open(ctx, path, o)
	if err != nil {
		return nil, l.failure(ctx, produce.StageLoad, level, err)
	}
	return s, nil
}

// failure blames the model, unless the caller gave up.
func (l *lab) failure(ctx context.Context, stage string, level session.Level, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &produce.Failure{Stage: stage, Level: level, Err: err}
}

// levels returns the engine's own optimization levels to try, off first.
func (l *lab) levels() []session.Level {
	if v := l.o.Verify.Levels; v != nil {
		return v
	}
	return []session.Level{session.LevelOff, session.LevelAll}
}
