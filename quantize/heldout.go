package quantize

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// heldEvery says that every fourth calibration run is held out.
const heldEvery = 4

// heldBytes bounds the inputs and outputs of held-out samples in memory.
const heldBytes = 256 << 20

// part tells which calibration runs are to fit on and which are held out. Runs
// are batches of one sample unless more are asked for. Where a state is carried
// from sample to sample the last quarter is held out as a whole.
type part struct {
	stateful bool
	total    int64 // samples
}

// held reports whether run k, whose first sample is at, is held out.
func (p part) held(k, at int64) bool {
	if p.stateful {
		return at*heldEvery >= p.total*(heldEvery-1)
	}
	return k%heldEvery == heldEvery-1
}

// passOf is the pass over the runs that keep chooses.
func passOf(ctx context.Context, set *dataset.Set, n int, keep func(k, at int64) bool) calibrate.Pass {
	all := passOver(ctx, set, n)
	return calibrate.Pass{Keep: all.Keep, Batches: func(yield func(*calibrate.Batch, error) bool) {
		k, at := int64(0), int64(0)
		for b, err := range all.Batches {
			if err != nil {
				yield(nil, err)
				return
			}
			chosen := keep(k, at)
			k, at = k+1, at+b.Samples
			if chosen && !yield(b, nil) {
				return
			}
		}
	}}
}

// score is how near a model's outputs are to the original's on held-out data.
type score struct {
	// DB decides: 10·log10 of the inverse of the mean relative noise of the float
	// outputs; or of the Kullback-Leibler divergence where the first output is a
	// distribution.
	DB   float64
	SQNR float64 // the former in any case
}

// most is the score of equal outputs, which have no finite ratio.
const most = 300

func decibels(noise float64) float64 {
	if math.IsNaN(noise) {
		return -most
	}
	return math.Max(math.Min(-10*math.Log10(noise), most), -most)
}

// heldOut compares candidates with a float model on held-out samples, whose
// inputs and float outputs it keeps. Where a state is carried, both get the
// float model's.
type heldOut struct {
	o            *Options
	dir          string
	inputs       []map[string]*onnx.Tensor
	want         []map[string]*onnx.Tensor
	names        []string // float outputs
	distribution bool     // the first output is one
	samples      int64
	runs         int // candidates compared
}

// newHeldOut runs m on the held-out part, on at most so many samples.
func newHeldOut(ctx context.Context, o *Options, m *onnx.Model, p part, most int64) (h *heldOut, err error) {
	h = &heldOut{o: o}
	if h.dir, err = os.MkdirTemp("", "lapidary-recover-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	s, err := h.open(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("held-out data: %w", err)
	}
	defer s.Close()
	size := int64(0)
	samples := passOf(ctx, o.Calibration, o.Batch, p.held)
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
		h.inputs, h.want = append(h.inputs, in), append(h.want, out.Outputs)
		h.samples += b.Samples
		if size += bytesOf(in) + bytesOf(out.Outputs); h.samples >= most || size > heldBytes {
			break
		}
	}
	return h, h.choose(s.Outputs())
}

func bytesOf(tensors map[string]*onnx.Tensor) (n int64) {
	for _, t := range tensors {
		n += t.Size()
	}
	return n
}

// choose finds the outputs to compare.
func (h *heldOut) choose(outputs []session.Port) error {
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

// open writes m and opens it as it is, without the engine's own rewriting.
func (h *heldOut) open(ctx context.Context, m *onnx.Model) (session.Session, error) {
	path := filepath.Join(h.dir, "candidate.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		return nil, err
	}
	so := h.o.Session
	so.Level, so.Outputs = session.LevelOff, nil
	return h.o.Open(ctx, path, so)
}

// score runs m on the held-out samples. A model that does not load, or does not
// run, has the lowest score; the error is that of ctx or of the disk only.
func (h *heldOut) score(ctx context.Context, m *onnx.Model) (score, error) {
	h.runs++
	worst := score{-most, -most}
	s, err := h.open(ctx, m)
	if err != nil {
		return worst, ctx.Err()
	}
	defer s.Close()
	n := noise{signal: make([]float64, len(h.names)), error: make([]float64, len(h.names))}
	for k, in := range h.inputs {
		out, err := s.Run(ctx, in)
		if err != nil {
			return worst, ctx.Err()
		}
		if !n.add(h, h.want[k], out.Outputs) {
			return worst, nil
		}
	}
	return n.score(h), nil
}

// noise collects the differences of outputs.
type noise struct {
	signal, error []float64 // sums of squares, by output
	divergence    float64
	rows          int
}

// add enters the outputs of one sample; false where they cannot be compared.
func (n *noise) add(h *heldOut, want, got map[string]*onnx.Tensor) bool {
	for i, name := range h.names {
		a, b := want[name], got[name]
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		x, err1 := a.Float64s()
		y, err2 := b.Float64s()
		if err1 != nil || err2 != nil || len(x) != len(y) {
			return false
		}
		for k := range x {
			if x[k]-x[k] != 0 {
				continue // no finite number to be near to
			}
			d := x[k] - y[k]
			n.signal[i] += x[k] * x[k]
			n.error[i] += d * d
		}
		if i == 0 && h.distribution {
			p, _ := rowsOf(a)
			q, _ := rowsOf(b)
			for r := range p {
				n.divergence += klOf(p[r], q[r])
				n.rows++
			}
		}
	}
	return true
}

// klOf is the Kullback-Leibler divergence of q from p in nats.
func klOf(p, q []float64) float64 {
	const least = 1e-12
	d := 0.
	for i := range p {
		if p[i] > 0 {
			d += p[i] * math.Log(p[i]/math.Max(q[i], least))
		}
		d += q[i] - p[i] // which sum to nothing, and keep every term above zero
	}
	return d
}

func (n *noise) score(h *heldOut) score {
	var ratios []float64
	for i := range n.signal {
		switch {
		case n.signal[i] > 0:
			ratios = append(ratios, n.error[i]/n.signal[i])
		case n.error[i] > 0:
			ratios = append(ratios, 1)
		}
	}
	sort.Float64s(ratios)
	mean := 0.
	for _, r := range ratios {
		mean += r / float64(len(ratios))
	}
	s := score{SQNR: decibels(mean)}
	if s.DB = s.SQNR; h.distribution {
		s.DB = decibels(n.divergence / float64(n.rows))
	}
	return s
}

func (h *heldOut) close() {
	if h != nil && h.dir != "" {
		os.RemoveAll(h.dir)
	}
}
