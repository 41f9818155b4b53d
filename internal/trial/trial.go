// Package trial runs candidates of a model on samples that are held out and tells
// how near they come to the original: in noise, in divergence, in labels that are
// still right, and in time.
package trial

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Held compares candidates with a float model on held-out samples, whose
// inputs and float outputs it keeps. Where a state is carried, both get the
// float model's.
type Held struct {
	Inputs  []map[string]*onnx.Tensor // by run
	Labels  [][]int64                 // by run, one for each row of the first output; nil without labels
	Samples int64
	Tried   int // candidates compared

	o            Options
	dir          string
	want         []map[string]*onnx.Tensor
	names        []string // float outputs
	distribution bool     // the first output is one
}

// Options say what candidates are compared on.
type Options struct {
	Data    *dataset.Set
	Batch   int
	Keep    func(k, at int64) bool // whether run k, whose first sample is at, is one to compare on; nil: every run
	Most    int64                  // samples; 0: no limit but that on memory
	Open    session.Opener
	Session session.Options
}

// heldBytes bounds the inputs and outputs of held-out samples in memory.
const heldBytes = 256 << 20

// New runs m on the data and keeps what it makes of them.
func New(ctx context.Context, m *onnx.Model, o Options) (h *Held, err error) {
	h = &Held{o: o}
	if h.dir, err = os.MkdirTemp("", "lapidary-trial-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	s, err := h.Open(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("held-out data: %w", err)
	}
	defer s.Close()
	size := int64(0)
	samples := Pass(ctx, o.Data, o.Batch, o.Keep)
	for b, err := range samples.Batches {
		if err != nil {
			return nil, fmt.Errorf("held-out data: %w", err)
		}
		in, err := b.Inputs()
		if err != nil {
			return nil, fmt.Errorf("held-out data: %w", err)
		}
		out, err := s.Run(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("held-out sample %s: %w", b.ID, err)
		}
		if samples.Keep != nil {
			if err := samples.Keep(out.Outputs); err != nil {
				return nil, err
			}
		}
		h.Inputs, h.want = append(h.Inputs, in), append(h.want, out.Outputs)
		h.Labels = append(h.Labels, labelsOf(b.Labels))
		h.Samples += b.Samples
		if size += bytesOf(in) + bytesOf(out.Outputs); o.Most > 0 && h.Samples >= o.Most || size > heldBytes {
			break
		}
	}
	if err := h.choose(s.Outputs()); err != nil {
		return h, err
	}
	return h, h.checkLabels()
}

// labelsOf returns class indices, nil where they are none.
func labelsOf(list []*onnx.Tensor) (out []int64) {
	for _, t := range list {
		if !t.DType.IsInt() {
			return nil
		}
		v, err := t.Ints()
		if err != nil {
			return nil
		}
		out = append(out, v...)
	}
	return out
}

// checkLabels forgets labels that are not one for each row of the first output.
func (h *Held) checkLabels() error {
	for k, out := range h.want {
		if len(h.names) == 0 || out[h.names[0]] == nil {
			h.Labels = nil
			return nil
		}
		rows, err := rowsOf(out[h.names[0]])
		if err != nil {
			return err
		}
		if len(rows) == 0 || len(h.Labels[k]) != len(rows) {
			h.Labels = nil
			return nil
		}
	}
	return nil
}

func bytesOf(tensors map[string]*onnx.Tensor) (n int64) {
	for _, t := range tensors {
		n += t.Size()
	}
	return n
}

// choose finds the outputs to compare.
func (h *Held) choose(outputs []session.Port) error {
	for i, p := range outputs {
		var dist = true
		for _, out := range h.want {
			t := out[p.Name]
			if t == nil || !t.DType.IsFloat() {
				dist = false
				break
			}
			rows, err := rowsOf(t)
			if err != nil {
				return err
			}
			dist = dist && distributions(rows)
		}
		if len(h.want) > 0 && h.want[0][p.Name] != nil && h.want[0][p.Name].DType.IsFloat() {
			h.names = append(h.names, p.Name)
			h.distribution = h.distribution || i == 0 && dist
		}
	}
	if len(h.names) == 0 && len(h.want) > 0 {
		return errors.New("the model has no floating-point output to compare")
	}
	return nil
}

// rowsOf cuts t along its last axis that is longer than 1.
func rowsOf(t *onnx.Tensor) ([][]float64, error) {
	f, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	n := 1
	for i := len(t.Shape) - 1; i >= 0 && n == 1; i-- {
		n = int(t.Shape[i])
	}
	var rows [][]float64
	for ; len(f) >= n && n > 0 && len(f) > 0; f = f[n:] {
		rows = append(rows, f[:n])
	}
	return rows, nil
}

// distributions reports whether every row has at least two shares that sum to 1.
func distributions(rows [][]float64) bool {
	for _, r := range rows {
		sum := 0.
		for _, x := range r {
			if !(x >= 0 && x <= 1) {
				return false
			}
			sum += x
		}
		if len(r) < 2 || math.Abs(sum-1) > 1e-3 {
			return false
		}
	}
	return len(rows) > 0
}

// Open writes m and opens it as it is, without the engine's own rewriting.
func (h *Held) Open(ctx context.Context, m *onnx.Model) (session.Session, error) {
	return h.OpenAt(ctx, m, session.LevelOff)
}

// OpenAt opens m with some of the engine's own rewriting.
func (h *Held) OpenAt(ctx context.Context, m *onnx.Model, level session.Level) (session.Session, error) {
	path := filepath.Join(h.dir, "candidate.onnx")
	if err := onnxfile.Scratch(path, m); err != nil {
		return nil, err
	}
	so := h.o.Session
	so.Level, so.Outputs = level, nil
	return h.o.Open(ctx, path, so)
}

// Score runs m on the held-out samples. A model that does not load, or does not
// run, has the lowest score; the error is that of ctx or of the disk only.
func (h *Held) Score(ctx context.Context, m *onnx.Model) (Score, error) {
	s, err := h.Open(ctx, m)
	if err != nil {
		h.Tried++
		return worst, ctx.Err()
	}
	defer s.Close()
	return h.Compare(ctx, s, nil)
}

// worst is the score of a model that does not run.
var worst = Score{DB: -Most, SQNR: -Most, KL: -Most, Nats: math.MaxFloat64}

// Compare is [Held.Score] for a session, which gets further inputs too.
func (h *Held) Compare(ctx context.Context, s session.Session, further map[string]*onnx.Tensor) (Score, error) {
	h.Tried++
	n := noise{signal: make([]float64, len(h.names)), error: make([]float64, len(h.names))}
	for k, in := range h.Inputs {
		if len(further) > 0 {
			in = maps.Clone(in)
			maps.Copy(in, further)
		}
		out, err := s.Run(ctx, in)
		if err != nil {
			return worst, ctx.Err()
		}
		if !n.add(h, k, out.Outputs) {
			return worst, nil
		}
	}
	return n.score(h), nil
}

// Ratio is what a run of b takes over what one of a does, by turns in the
// engine's own optimizations, on the first held-out input.
func (h *Held) Ratio(ctx context.Context, a, b *onnx.Model) (float64, error) {
	var s [2]session.Session
	for i, m := range []*onnx.Model{a, b} {
		path := filepath.Join(h.dir, fmt.Sprintf("timed%d.onnx", i))
		if err := onnxfile.Scratch(path, m); err != nil {
			return 0, err
		}
		so := h.o.Session
		so.Level, so.Outputs = session.LevelAll, nil
		var err error
		if s[i], err = h.o.Open(ctx, path, so); err != nil {
			return 0, err
		}
		defer s[i].Close()
	}
	best := [2]float64{math.Inf(1), math.Inf(1)}
	for range 7 {
		for i := range s {
			d, err := Burst(ctx, s[i], h.Inputs[0], best[i])
			if err != nil {
				return 0, err
			}
			best[i] = min(best[i], d)
		}
	}
	return best[1] / best[0], nil
}

// Distribution reports whether the first output is one.
func (h *Held) Distribution() bool { return h.distribution }

// Dims returns the sizes that the inputs give to symbols of m's inputs.
func (h *Held) Dims(m *onnx.Model) map[string]int64 {
	out := map[string]int64{}
	for _, v := range m.Graph.Inputs() {
		t := h.Inputs[0][v.Name()]
		if t == nil || len(t.Shape) != len(v.Shape()) {
			continue
		}
		for i, d := range v.Shape() {
			if !d.Known() && d.Param != "" {
				out[d.Param] = t.Shape[i]
			}
		}
	}
	return out
}

// Close removes what New wrote.
func (h *Held) Close() {
	if h != nil && h.dir != "" {
		os.RemoveAll(h.dir)
	}
}
