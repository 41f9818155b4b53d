package quantize

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// halfLab runs a plan under emulated rounding: the float32 model with a cast to 16
// bits and back behind everything that is to be of 16 bits. So each operator sees
// what it would see, on engines without kernels of the type, and nothing else
// differs from the original: the sums within one operator are those of float32.
type halfLab struct {
	p    *halfPlan
	dir  string
	only int                       // the batch that is run; −1: the first labBatches
	want []map[string]*onnx.Tensor // the outputs of the original, by batch
	runs int
}

// labBatches is how many batches of the data are run.
const labBatches = 8

// newLab runs the original.
func newLab(ctx context.Context, p *halfPlan) (*halfLab, error) {
	dir, err := os.MkdirTemp("", "lapidary-half-")
	if err != nil {
		return nil, err
	}
	l := &halfLab{p: p, dir: dir, only: -1}
	if l.want, err = l.run(ctx, p.m); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *halfLab) close() { os.RemoveAll(l.dir) }

// run returns the outputs of m on the data, by batch; nil for those that are left out.
func (l *halfLab) run(ctx context.Context, m *onnx.Model) ([]map[string]*onnx.Tensor, error) {
	l.runs++
	path := filepath.Join(l.dir, "emulated.onnx")
	if err := onnxfile.Scratch(path, m); err != nil {
		return nil, err
	}
	o := l.p.o.Session
	o.Level, o.Outputs = session.LevelOff, nil
	s, err := l.p.o.Open(ctx, path, o)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var out []map[string]*onnx.Tensor
	pass := calibrate.Over(ctx, l.p.o.Calibration, l.p.o.Batch)
	for b, err := range pass.Batches {
		if err != nil {
			return nil, fmt.Errorf("calibration data: %w", err)
		}
		var got map[string]*onnx.Tensor
		if k := len(out); l.only < 0 || k == l.only || pass.Keep != nil {
			if got, err = runBatch(ctx, s, b, pass); err != nil {
				return nil, err
			}
		}
		if out = append(out, got); len(out) == labBatches || len(out) == l.only+1 {
			break
		}
	}
	return out, nil
}

func runBatch(ctx context.Context, s session.Session, b *calibrate.Batch, pass calibrate.Pass) (map[string]*onnx.Tensor, error) {
	in, err := b.Inputs()
	if err != nil {
		return nil, err
	}
	r, err := s.Run(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("sample %s: %w", b.ID, err)
	}
	if pass.Keep != nil {
		err = pass.Keep(r.Outputs)
	}
	return r.Outputs, err
}

// worst is the largest error of an output.
type worst struct {
	most   float64
	output string
	batch  int
}

// error returns the largest error over outputs and batches under the plan.
func (l *halfLab) error(ctx context.Context) (worst, error) {
	w := worst{}
	got, err := l.run(ctx, emulate(l.p).m)
	if err != nil {
		return w, err
	}
	for i := range got {
		if got[i] == nil {
			continue
		}
		for _, v := range l.p.m.Graph.Outputs() {
			e := distance(l.want[i][v.Name()], got[i][v.Name()])
			if e > w.most || w.output == "" {
				w = worst{e, v.Name(), i}
			}
		}
	}
	return w, nil
}

// distance returns max|x−y| / max|x| over the finite elements x of want and y of got;
// infinity where one is finite, infinite or NaN and the other not so, or there are
// other shapes; 0 for tensors of other types than float32.
func distance(want, got *onnx.Tensor) float64 {
	if want == nil || got == nil || want.DType != onnx.Float || got.DType != onnx.Float {
		return 0
	}
	x, err := want.Floats()
	y, err2 := got.Floats()
	if err != nil || err2 != nil || len(x) != len(y) {
		return math.Inf(1)
	}
	var most, diff float64
	for i := range x {
		a, b := float64(x[i]), float64(y[i])
		switch {
		case finite32(x[i]) && finite32(y[i]):
			most, diff = max(most, math.Abs(a)), max(diff, math.Abs(a-b))
		case a != b && !(math.IsNaN(a) && math.IsNaN(b)):
			return math.Inf(1)
		}
	}
	if diff == 0 {
		return 0
	}
	return diff / most
}

// emulated is a model with casts that round.
type emulated struct {
	p      *halfPlan
	m      *onnx.Model
	pairs  map[*onnx.Value]*onnx.Value // float32 value → rounded
	consts map[halfKey]*onnx.Value
}

// emulate returns p's model under the rounding of p.
func emulate(p *halfPlan) *emulated {
	e := &emulated{p: p, m: p.m.Clone(), pairs: map[*onnx.Value]*onnx.Value{}, consts: map[halfKey]*onnx.Value{}}
	places := map[nodeAt]*onnx.Node{}
	number(p.m, func(at nodeAt, n *onnx.Node) { places[at] = n })
	var nodes, from []*onnx.Node
	number(e.m, func(at nodeAt, n *onnx.Node) {
		if k := places[at]; p.place[k] != nil && p.place[k].rounds() {
			nodes, from = append(nodes, n), append(from, k)
		}
	})
	for i, n := range nodes {
		e.node(n, from[i])
	}
	return e
}

// node rounds what n reads and gives; k is n in the original.
func (e *emulated) node(n, k *onnx.Node) {
	half := e.p.isHalf(k)
	for i, v := range k.Inputs() {
		if v == nil || pinned(k, i) || e.p.dtype(v) != onnx.Float {
			continue
		}
		if t := v.Constant(); t != nil {
			if half || e.p.large(t) {
				n.SetInput(i, e.constant(n.Input(i), e.p.masks.stand(k, v)))
			}
		} else if half && !e.p.isHalf(v.Producer()) {
			n.SetInput(i, e.pair(n.Input(i), v))
		}
	}
	if a := n.Attr("value"); half && n.Is("ConstantOfShape") && a != nil && a.T != nil {
		n.SetAttr(onnx.TensorAttr("value", e.p.t.rounded(a.T, toLargest)))
	}
	for i, v := range k.Outputs() {
		if v == nil || !half || e.p.dtype(v) != onnx.Float {
			continue
		}
		out := n.Output(i)
		narrow, err := behindCast(out, "narrow", e.p.t.dtype)
		if err != nil {
			continue // an output that is listed twice stays unrounded
		}
		// What was refused for the first is refused for the second, and nothing else is.
		_, _ = behindCast(narrow, "wide", onnx.Float)
	}
}

// constant returns v rounded.
func (e *emulated) constant(v *onnx.Value, s standIn) *onnx.Value {
	key := halfKey{v, s}
	if e.consts[key] == nil {
		e.consts[key] = v.Graph().NewConst(e.p.t.rounded(v.Constant(), s).Renamed(v.Name() + "_rounded"))
	}
	return e.consts[key]
}

// pair returns v, of float32 and called was in the original, rounded for those that
// read it in 16 bits.
func (e *emulated) pair(v, was *onnx.Value) *onnx.Value {
	if e.pairs[v] == nil {
		from := v
		if e.p.masks.pure[was] {
			from = cut(v, e.p.masks.cutAt(was))
		}
		narrow := castBeside(from, v.Name()+"_narrow", e.p.t.dtype)
		wide := castNode(v.Graph(), narrow.Output(0), v.Name()+"_wide", onnx.Float)
		v.Graph().InsertAfter(wide, narrow)
		e.pairs[v] = wide.Output(0)
	}
	return e.pairs[v]
}
