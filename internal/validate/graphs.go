package validate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/explain"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// graphs makes the models that explanations need beside the two: parts of them, and a copy to calibrate by. Their files lie in a
// private folder as long as they are open.
type graphs struct {
	v      *validation
	splits map[bool]*explain.Split // by whether it is the candidate
	refuse map[bool]error          // why one cannot be split
	embeds map[string]*embedded    // by the model's file
	open   []func() error
}

func newGraphs(v *validation) *graphs {
	return &graphs{v: v, splits: map[bool]*explain.Split{}, refuse: map[bool]error{}, embeds: map[string]*embedded{}}
}

func (g *graphs) close() {
	for i := len(g.open) - 1; i >= 0; i-- {
		g.open[i]()
	}
}

// model returns what methods may ask of one of the two models.
func (g *graphs) model(s session.Session, candidate bool) explain.Model {
	return explain.Model{Session: s, Split: func(ctx context.Context, output string, sample explain.Sample) (*explain.Split, error) {
		if g.splits[candidate] == nil && g.refuse[candidate] == nil {
			g.splits[candidate], g.refuse[candidate] = g.split(ctx, candidate, output, sample)
		}
		return g.splits[candidate], g.refuse[candidate]
	}, Gradient: func(_ context.Context, output string, _ explain.Sample) (explain.Gradient, error) {
		return g.gradient(candidate, output), nil
	}, Embed: func(ctx context.Context, output, input string) (*explain.Embedding, error) {
		return g.embed(ctx, g.path(candidate), candidate, output, input)
	}}
}

// path returns the file of one of the two models.
func (g *graphs) path(candidate bool) string {
	if candidate {
		return g.v.o.Candidate
	}
	return g.v.o.Baseline
}

// split writes both halves of a model and loads them.
func (g *graphs) split(ctx context.Context, candidate bool, output string, sample explain.Sample) (*explain.Split, error) {
	m, err := onnxfile.Open(g.path(candidate), onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	h, err := explain.SplitModel(m, output, shapesFor(m, sample))
	if err != nil {
		return nil, err
	}
	body, err := g.load(ctx, h.Body)
	if err != nil {
		return nil, fmt.Errorf("its part before %q: %w", h.Feature, err)
	}
	if candidate {
		body = g.v.bounds.adapt(body, g.v.in)
	}
	tail, err := g.load(ctx, h.Tail)
	if err != nil {
		return nil, fmt.Errorf("its part behind %q: %w", h.Feature, err)
	}
	return &explain.Split{Body: body, Feature: strings.Clone(h.Feature), Tail: tail, Input: strings.Clone(h.Input)}, nil
}

// shapesFor returns the sample's shapes for those inputs that the model has.
func shapesFor(m *onnx.Model, s explain.Sample) map[string]onnx.Shape {
	out := map[string]onnx.Shape{}
	for _, v := range m.Graph.Inputs() {
		if t := s.Inputs[v.Name()]; t != nil {
			out[v.Name()] = onnx.ShapeOf(t.Shape...)
		}
	}
	return out
}

// load writes a model into a folder that nobody else looks at and loads it from there; both go when the graphs are closed.
func (g *graphs) load(ctx context.Context, m *onnx.Model) (session.Session, error) {
	path, err := g.write(m)
	if err != nil {
		return nil, err
	}
	return g.openPart(ctx, path)
}

func (g *graphs) write(m *onnx.Model) (path string, err error) {
	dir, err := os.MkdirTemp("", "lapidary-explain-")
	if err != nil {
		return "", err
	}
	g.open = append(g.open, func() error { return os.RemoveAll(dir) })
	path = filepath.Join(dir, "part.onnx")
	return path, onnxfile.Scratch(path, m)
}

func (g *graphs) openPart(ctx context.Context, path string) (session.Session, error) {
	s, err := g.v.o.Open(ctx, path, g.v.o.Session)
	if err != nil {
		return nil, err
	}
	g.open = append(g.open, s.Close)
	return s, nil
}

// referenceLimit is the largest model that is copied to calibrate by.
const referenceLimit = 64 << 20

// reference makes the copy of the baseline that limits are calibrated by where inputs are tokens, which cannot be moved a little: its
// weights rounded to float16. It sets nothing where the model is large or has no such weights.
func (x *explaining) reference(ctx context.Context) error {
	if x.samples[0].Inputs[x.o.Input].DType.IsFloat() || x.v.r.Baseline.TotalBytes() > referenceLimit {
		return nil
	}
	m, err := onnxfile.Open(x.v.o.Baseline, onnxfile.Options{})
	if err != nil {
		return err
	}
	defer m.Close()
	c := m.Clone()
	changed, err := roundWeights(c)
	if err != nil || !changed {
		return err
	}
	path, err := x.graphs.write(c)
	if err != nil {
		return err
	}
	s, err := x.graphs.openPart(ctx, path)
	if err != nil {
		return ctx.Err() // without it nothing is calibrated, which the report shows
	}
	x.o.Reference = &explain.Model{Session: s, Embed: func(ctx context.Context, output, input string) (*explain.Embedding, error) {
		return x.graphs.embed(ctx, path, false, output, input)
	}}
	return nil
}

// roundWeights rounds the float32 constants of the main graph to what float16 holds, and says whether any was changed.
func roundWeights(m *onnx.Model) (bool, error) {
	changed := false
	for _, v := range m.Graph.Initializers() {
		t := v.Const
		if t == nil || t.DType != onnx.Float {
			continue
		}
		w, err := t.Float64s()
		if err != nil {
			return false, err
		}
		for i, x := range w {
			h := float64(onnx.Float16ToFloat(onnx.FloatToFloat16(x)))
			if h != x && h-h == 0 { // what overflows stays
				w[i], changed = h, true
			}
		}
		rounded, err := onnx.FromFloat64s(t.Name, t.DType, t.Shape, w)
		if err != nil {
			return false, err
		}
		v.SetConst(rounded)
	}
	return changed, nil
}
