package produce

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// OptimizedKey is the metadata_props key that marks an engine's own graph, with
// what it is for.
const OptimizedKey = "lapidary.optimized"

// SaveOptimized asks for the engine's own optimized graph of the result as a
// second file, for a quicker start on this very device: with it the engine needs
// no optimizations of its own. It may hold operators and layouts that no other
// engine, version or processor knows.
type SaveOptimized struct {
	Path string
	Mark string // what the file is for: device, instruction sets, engine and version
}

// Optimized is the file that [SaveOptimized] gave.
type Optimized struct {
	FileInfo
	// CreateMS is the time of creating a session, once each: of the original with
	// the engine's optimizations on, and of this file with them off. Absent where
	// the engine does not tell.
	CreateMS *[2]float64 `json:"create_ms,omitempty"`
	// Refused says why there is no such file, though the result itself is written.
	Refused string `json:"refused,omitempty"`
}

// stageOptimized has the engine write its graph of a, marks it, and runs it with
// the engine's optimizations off on the inputs of the original.
func (j *job) stageOptimized(ctx context.Context, a *attempt) (*onnxfile.Staged, *Optimized, error) {
	o := j.o.SaveOptimized
	if j.o.Verify == nil {
		return nil, nil, errors.New("it must be run before it is written; leave out --no-verify")
	}
	j.progress("optimizing")
	atomicfile.CleanStale(filepath.Dir(o.Path))
	dir, err := atomicfile.TempDir(filepath.Dir(o.Path))
	if err != nil {
		return nil, nil, err
	}
	defer dir.Remove()
	saved := filepath.Join(dir.Path, "optimized.onnx")
	s, err := j.o.Verify.openSaving(ctx, a.staged.Path(), saved, "optimized.data")
	if err != nil {
		return nil, nil, err
	}
	s.Close()
	m, err := onnxfile.Open(saved, onnxfile.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	// ONNX Runtime writes some constants of branches twice, and then refuses them.
	if _, err := m.Repair(); err != nil {
		return nil, nil, err
	}
	m.Meta = append(m.Meta[:0:0], a.model.Meta...)
	m.SetMeta(OptimizedKey, o.Mark)
	staged, err := onnxfile.Stage(o.Path, m, onnxfile.WriteOptions{})
	if err != nil {
		return nil, nil, err
	}
	info := &Optimized{FileInfo: FileInfo{Path: o.Path, Nodes: countNodes(m)}}
	if err := j.tryOptimized(ctx, staged, info); err != nil {
		staged.Abort()
		return nil, nil, err
	}
	return staged, info, nil
}

// tryOptimized compares the staged graph with the original, with the engine's
// optimizations off: they are in the graph.
func (j *job) tryOptimized(ctx context.Context, staged *onnxfile.Staged, info *Optimized) error {
	digest, size, err := fileDigest(ctx, staged.Path())
	if err != nil {
		return err
	}
	info.SHA256, info.Bytes = digest, size+staged.Written.ExternalBytes
	s, err := j.o.Verify.open(ctx, staged.Path(), session.LevelOff)
	if err != nil {
		return fmt.Errorf("the engine does not load what it wrote: %w", err)
	}
	defer s.Close()
	// What it must compute is what the original does with the optimizations on.
	level := session.LevelOff
	if _, ok := j.ref.outputs[session.LevelAll]; ok {
		level = session.LevelAll
	}
	if err := j.o.Verify.compare(ctx, s, level, j.ref, map[string]*CheckedOutput{}); err != nil {
		return err
	}
	plain, err := j.o.Verify.open(ctx, j.base, session.LevelAll)
	if err != nil {
		return err
	}
	defer plain.Close()
	info.CreateMS = createTimes(plain, s)
	return nil
}

// createTimes returns how long it took to create the sessions, in milliseconds;
// nil where an engine does not tell.
func createTimes(sessions ...session.Session) *[2]float64 {
	var out [2]float64
	for i, s := range sessions {
		m, ok := s.(session.Meter)
		if !ok {
			return nil
		}
		st, err := m.Stats()
		if err != nil {
			return nil
		}
		out[i] = 1e3 * (st.Read + st.Create).Seconds()
	}
	return &out
}
