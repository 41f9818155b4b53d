package quantize

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

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
	all := calibrate.Over(ctx, set, n)
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

// score is how near a model's outputs are to the original's on held-out data,
// in dB: 10·log10 of the inverse of a relative noise.
type score struct {
	// DB decides. It is SQNR, or where the first output is a distribution the noise
	// of its log-probabilities below one nat: of what goes into the softmax, where
	// every sample counts alike and few samples tell small differences.
	DB   float64
	SQNR float64 // of all float outputs, over all samples
	KL   float64 // of the first output, by the divergence; 0 where it is no distribution

	Nats                       float64 // mean divergence of the rows of the first output, logits made a distribution
	Right, Rows, Gains, Losses int     // rows of the first output whose largest element is at the label, where there are labels

	runs []float64 // the relative noise behind DB of each run
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
	labels       [][]int64 // by run, one for each row of the first output; nil without labels
	names        []string  // float outputs
	distribution bool      // the first output is one
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
		h.labels = append(h.labels, labelsOf(b.Labels))
		h.samples += b.Samples
		if size += bytesOf(in) + bytesOf(out.Outputs); h.samples >= most || size > heldBytes {
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
func (h *heldOut) checkLabels() error {
	for k, out := range h.want {
		if len(h.names) == 0 || out[h.names[0]] == nil {
			h.labels = nil
			return nil
		}
		rows, err := rowsOf(out[h.names[0]])
		if err != nil {
			return err
		}
		if len(rows) == 0 || len(h.labels[k]) != len(rows) {
			h.labels = nil
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
	return h.openAt(ctx, m, session.LevelOff)
}

// openAt opens m with some of the engine's own rewriting.
func (h *heldOut) openAt(ctx context.Context, m *onnx.Model, level session.Level) (session.Session, error) {
	path := filepath.Join(h.dir, "candidate.onnx")
	if err := onnxfile.Scratch(path, m); err != nil {
		return nil, err
	}
	so := h.o.Session
	so.Level, so.Outputs = level, nil
	return h.o.Open(ctx, path, so)
}

// score runs m on the held-out samples. A model that does not load, or does not
// run, has the lowest score; the error is that of ctx or of the disk only.
func (h *heldOut) score(ctx context.Context, m *onnx.Model) (score, error) {
	h.runs++
	worst := score{DB: -most, SQNR: -most, KL: -most, Nats: math.MaxFloat64}
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
		if !n.add(h, k, out.Outputs) {
			return worst, nil
		}
	}
	return n.score(h), nil
}

// noise collects the differences of outputs.
type noise struct {
	signal, error []float64 // sums of squares, by output
	runs          []float64 // relative noise of each run
	divergence    float64
	rows          int
	nats          float64 // divergence of rows of the first output, logits made a distribution
	natRows       int
	labelled      score // Right, Rows, Gains and Losses
}

// add enters the outputs of run k; false where they cannot be compared.
func (n *noise) add(h *heldOut, k int, got map[string]*onnx.Tensor) bool {
	want := h.want[k]
	run, outputs := 0., 0
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
		signal, error := 0., 0.
		for k := range x {
			if x[k]-x[k] != 0 {
				continue // no finite number to be near to
			}
			d := x[k] - y[k]
			signal += x[k] * x[k]
			error += d * d
		}
		n.signal[i] += signal
		n.error[i] += error
		if signal > 0 {
			run, outputs = run+error/signal, outputs+1
		}
		if i == 0 {
			p, _ := rowsOf(a)
			q, _ := rowsOf(b)
			n.first(h, k, p, q)
			if h.distribution {
				n.runs = append(n.runs, n.compare(p, q))
			}
		}
	}
	if !h.distribution && outputs > 0 {
		n.runs = append(n.runs, run/float64(outputs))
	}
	return true
}

// first enters the rows of the first output.
func (n *noise) first(h *heldOut, k int, p, q [][]float64) {
	for r := range p {
		if h.labels != nil {
			n.labelled.label(h.labels[k][r], p[r], q[r])
		}
		if len(p[r]) < 2 {
			continue
		}
		a, b := p[r], q[r]
		if !h.distribution {
			a, b = softmax(a), softmax(b)
		}
		n.nats += klOf(a, b)
		n.natRows++
	}
}

// label enters whether both models are right about a row.
func (x *score) label(label int64, p, q []float64) {
	before, after := largest(p) == label, largest(q) == label
	x.Rows++
	if after {
		x.Right++
	}
	switch {
	case after && !before:
		x.Gains++
	case before && !after:
		x.Losses++
	}
}

func largest(row []float64) int64 {
	best := 0
	for i, x := range row {
		if x > row[best] {
			best = i
		}
	}
	return int64(best)
}

// softmax returns the distribution of which a row holds the logits.
func softmax(row []float64) []float64 {
	out := make([]float64, len(row))
	top, sum := row[largest(row)], 0.
	for i, x := range row {
		out[i] = math.Exp(x - top)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
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

// leastShare is the probability below which classes count as one that cannot be.
const leastShare = 1e-12

// compare enters the distributions of one run and returns the mean square of the
// change of their logarithms, in nats, without the mean of each row, which a
// softmax does not see. Classes weigh by the fourth root of their probability:
// with equal weights those that never matter decide, with the probabilities
// themselves the few samples that are in doubt.
func (n *noise) compare(p, q [][]float64) float64 {
	sum := 0.
	for r := range p {
		var all, mean, squares float64
		for i := range p[r] {
			a, b := math.Max(p[r][i], leastShare), math.Max(q[r][i], leastShare)
			d, w := math.Log(b)-math.Log(a), math.Sqrt(math.Sqrt(a))
			all, mean, squares = all+w, mean+w*d, squares+w*d*d
			// The difference of the shares sums to nothing, and keeps every term above zero.
			n.divergence += b - a - a*d
		}
		mean /= all
		sum += squares/all - mean*mean
		n.rows++
	}
	return math.Max(sum/float64(len(p)), 0)
}

func (n *noise) score(h *heldOut) score {
	mean, count := 0., 0
	for i := range n.signal {
		switch {
		case n.signal[i] > 0:
			mean, count = mean+n.error[i]/n.signal[i], count+1
		case n.error[i] > 0:
			mean, count = mean+1, count+1
		}
	}
	s := n.labelled
	s.SQNR, s.runs = decibels(mean/math.Max(float64(count), 1)), n.runs
	if n.natRows > 0 {
		s.Nats = n.nats / float64(n.natRows)
	}
	if s.DB = s.SQNR; h.distribution {
		s.KL = decibels(n.divergence / float64(n.rows))
		sum := 0.
		for _, r := range n.runs {
			sum += r
		}
		s.DB = decibels(sum / float64(len(n.runs)))
	}
	return s
}

// ratio is what a run of b takes over what one of a does, by turns in the
// engine's own optimizations, on the first held-out input.
func (h *heldOut) ratio(ctx context.Context, a, b *onnx.Model) (float64, error) {
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
			d, err := burst(ctx, s[i], h.inputs[0], best[i])
			if err != nil {
				return 0, err
			}
			best[i] = min(best[i], d)
		}
	}
	return best[1] / best[0], nil
}

func (h *heldOut) close() {
	if h != nil && h.dir != "" {
		os.RemoveAll(h.dir)
	}
}
