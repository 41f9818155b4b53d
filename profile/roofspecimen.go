package profile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// specimen is a model of nodes that do not depend on each other. Run under the
// engine's profiler it gives the times of all of them from one process, by the
// same clock as the times of a model's nodes.
type specimen struct {
	m      *onnx.Model
	inputs map[string]*onnx.Tensor
	gauges []gauge
	rng    *rand.Rand
}

// gauge is a node whose time is asked for.
type gauge struct {
	name     string // of the node and of its output
	op       string
	class    string
	macs     int64
	elements int64 // of the output
	size     int64 // of a square product
}

// gaugeTime is the time of a gauge in seconds per run.
type gaugeTime struct {
	best float64 // shortest
	low  float64 // mean of the shortest quarter of the runs: what disturbs makes runs longer, never shorter
}

const specimenOpset = 17

func newSpecimen() *specimen {
	m := onnx.NewModel(specimenOpset)
	m.IRVersion = 8
	m.ImportOpset(microsoft, 1)
	return &specimen{m: m, inputs: map[string]*onnx.Tensor{}, rng: rand.New(rand.NewPCG(1, 2))}
}

// microsoft is the domain of ONNX Runtime's own operators.
const microsoft = "com.microsoft"

// input returns the model's input of that type and shape, the same for all that ask.
func (s *specimen) input(t onnx.DType, dims ...int64) *onnx.Value {
	name := strings.ReplaceAll(fmt.Sprintf("x%v%v", t, dims), " ", "_")
	for _, v := range s.m.Graph.Inputs() {
		if v.Name() == name {
			return v
		}
	}
	s.inputs[name] = s.tensor(name, t, dims)
	return s.m.Graph.AddInput(name, onnx.TensorType(t, onnx.ShapeOf(dims...)))
}

func (s *specimen) constant(t onnx.DType, dims ...int64) *onnx.Value {
	return s.m.Graph.NewConst(s.tensor(s.m.Fresh("w"), t, dims))
}

// tensor makes small numbers; no code is that of an extreme.
func (s *specimen) tensor(name string, t onnx.DType, dims []int64) *onnx.Tensor {
	n, _ := onnx.ElementCount(dims)
	if t == onnx.Float {
		x := make([]float32, n)
		for i := range x {
			x[i] = s.rng.Float32() - 0.5
		}
		return onnx.FromFloats(name, dims, x)
	}
	b := make(onnx.Raw, n) // 8 bits each
	for i := range b {
		b[i] = byte(32 + s.rng.IntN(64))
	}
	return &onnx.Tensor{Name: name, DType: t, Shape: dims, Data: b}
}

func (s *specimen) scale() *onnx.Value {
	return s.m.Graph.NewConst(onnx.FromFloats(s.m.Fresh("scale"), []int64{}, []float32{0.01}))
}

func (s *specimen) zero(t onnx.DType, at byte) *onnx.Value {
	return s.m.Graph.NewConst(&onnx.Tensor{Name: s.m.Fresh("zero"), DType: t, Shape: []int64{}, Data: onnx.Raw{at}})
}

// add appends a node whose output is a result of the model, and asks for its time.
func (s *specimen) add(g gauge, domain string, t onnx.DType, shape []int64, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	n := onnx.NewNode(g.op, in, g.name)
	n.Name, n.Domain, n.Attrs = g.name, domain, attrs
	s.m.Graph.Append(n)
	y := n.Output(0)
	y.Type = onnx.TensorType(t, onnx.ShapeOf(shape...))
	s.m.Graph.AddOutput(y)
	g.elements, _ = onnx.ElementCount(shape)
	s.gauges = append(s.gauges, g)
	return y
}

const (
	specimenWarmup = 2               // runs that do not count
	specimenLimit  = 4 * time.Second // for the runs of one specimen on one number of threads
	specimenShort  = 300 * time.Millisecond
)

// time runs the specimen at least so often, and for the short ones more often,
// and returns the times of the gauges by name; nil for those that the engine did
// not run under their name.
func (s *specimen) time(ctx context.Context, o PeakOptions, threads, runs int) (map[string]*gaugeTime, error) {
	dir, err := os.MkdirTemp(o.TempDir, "lapidary-peaks-")
	if err != nil {
		return nil, fmt.Errorf("no folder to measure this machine in: %v", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "operators.onnx")
	if _, err := onnxfile.Write(path, s.m, onnxfile.WriteOptions{Perm: 0o600}); err != nil {
		return nil, err
	}
	so := o.Session
	so.Threads, so.Level, so.Outputs, so.SaveModel, so.Profile = threads, session.LevelAll, nil, "", filepath.Join(dir, "trace")
	e, err := o.Open(ctx, path, so)
	if err != nil {
		return nil, fmt.Errorf("measuring this machine: %w", err)
	}
	defer e.Close()
	if err := s.run(ctx, e, runs); err != nil {
		return nil, fmt.Errorf("measuring this machine: %w", err)
	}
	p, ok := e.(session.Profiler)
	if !ok {
		return nil, errors.New("this machine cannot be measured: the engine has no profiler")
	}
	b, err := p.EndProfile()
	if err != nil {
		return nil, fmt.Errorf("measuring this machine: %w", err)
	}
	trace, err := ParseTrace(b)
	if err != nil {
		return nil, err
	}
	return s.read(trace), nil
}

func (s *specimen) run(ctx context.Context, e session.Session, runs int) error {
	began := time.Now()
	for i := 0; ; i++ {
		if spent := time.Since(began); i >= specimenWarmup+runs && (spent > specimenShort || i > 20*runs) || spent > specimenLimit && i > specimenWarmup {
			return nil
		}
		if _, err := e.Run(ctx, s.inputs); err != nil {
			return err
		}
	}
}

// read takes the times of the gauges out of a trace. An engine that lays a node
// out anew adds to its output's name.
func (s *specimen) read(trace *Trace) map[string]*gaugeTime {
	series := map[string][]float64{}
	for _, r := range trace.Runs[min(specimenWarmup, max(0, len(trace.Runs)-1)):] {
		sums := map[string]float64{}
		for _, n := range trace.Nodes {
			if n.Start < r.Start || n.Start > r.Start+r.Duration {
				continue
			}
			name := n.Name
			if i := strings.IndexByte(name, '_'); i > 0 {
				name = name[:i]
			}
			sums[name] += n.Self / 1e6
		}
		for name, t := range sums {
			series[name] = append(series[name], t)
		}
	}
	out := map[string]*gaugeTime{}
	for _, g := range s.gauges {
		list := series[g.name]
		if len(list) == 0 {
			continue
		}
		slices.Sort(list)
		t := &gaugeTime{best: math.Max(list[0], 1e-7)}
		quarter := list[:(len(list)+3)/4]
		for _, x := range quarter {
			t.low += x / float64(len(quarter))
		}
		out[g.name] = t
	}
	return out
}
