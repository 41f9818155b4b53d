// Package kernels asks an engine, by loading models of one node, what it makes of
// an operator on an element type: nothing in a rewrite should rest on a list of
// kernels that another version of the engine may not have.
package kernels

import (
	"context"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Answer is what an engine does with an operator.
type Answer int

// The answers.
const (
	Refused  Answer = iota // a model with it does not load
	Borrowed               // it runs on another element type, between casts, or by its function body
	Native                 // the engine has a kernel
)

// Prober asks one engine. Answers are kept by the caller's keys.
type Prober struct {
	Open    session.Opener
	Session session.Options

	known map[string]Answer
}

// Ask returns what the engine makes of m's only node, whose operator, opset, types
// and form key must tell; m is built where the answer is not known yet.
func (p *Prober) Ask(ctx context.Context, key string, m func() *onnx.Model) Answer {
	if a, ok := p.known[key]; ok {
		return a
	}
	a := p.probe(ctx, m())
	if ctx.Err() == nil {
		if p.known == nil {
			p.known = map[string]Answer{}
		}
		p.known[key] = a
	}
	return a
}

// probe looks for m's node among those that are to run.
func (p *Prober) probe(ctx context.Context, m *onnx.Model) Answer {
	o := p.Session
	o.Outputs = nil
	ops, loads := Loaded(ctx, p.Open, o, m)
	switch {
	case !loads:
		return Refused
	case len(ops) == 1 && ops[0] == opOf(m.Graph.First()):
		return Native
	}
	return Borrowed
}

// Op names an operator; Domain is "" for the standard ones.
type Op struct{ Domain, Name string }

func opOf(n *onnx.Node) Op { return Op{onnx.NormalDomain(n.Domain), n.Op} }

// Loaded loads m with the engine's optimizations off and returns the operators of
// the main graph that is to run, none where that graph cannot be read, and whether m
// loads at all.
func Loaded(ctx context.Context, open session.Opener, o session.Options, m *onnx.Model) (ops []Op, loads bool) {
	return loaded(ctx, open, o, m, session.LevelOff)
}

// Optimized is [Loaded] with the engine's optimizations on: what it makes of m.
func Optimized(ctx context.Context, open session.Opener, o session.Options, m *onnx.Model) (ops []Op, loads bool) {
	return loaded(ctx, open, o, m, session.LevelAll)
}

func loaded(ctx context.Context, open session.Opener, o session.Options, m *onnx.Model, level session.Level) (ops []Op, loads bool) {
	dir, err := os.MkdirTemp("", "lapidary-kernels-")
	if err != nil {
		return nil, false
	}
	defer os.RemoveAll(dir)
	path, saved := filepath.Join(dir, "node.onnx"), filepath.Join(dir, "loaded.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{Perm: 0o600}); err != nil {
		return nil, false
	}
	o.Level, o.SaveModel = level, saved
	s, err := open(ctx, path, o)
	if err != nil {
		return nil, false
	}
	s.Close()
	run, err := onnxfile.Open(saved, onnxfile.Options{})
	if err != nil {
		return nil, true
	}
	defer run.Close()
	for n := range run.Graph.Nodes() {
		ops = append(ops, opOf(n))
	}
	return ops, true
}

// Specimen returns a model of n alone in which its inputs and outputs have the
// types that typ gives, without their sizes. Constants of integers, such as axes, stay
// constants; all else is an input. opset is the version of the standard operators.
func Specimen(n *onnx.Node, opset int64, typ func(v *onnx.Value, input int) *onnx.Type) *onnx.Model {
	m := onnx.NewModel(opset)
	m.IRVersion = 10
	if d := onnx.NormalDomain(n.Domain); d != "" {
		m.ImportOpset(d, max(n.OpsetVersion(n.Domain), 1))
	}
	var in []*onnx.Value
	seen := map[*onnx.Value]*onnx.Value{}
	for i, v := range n.Inputs() {
		switch t := v.Constant(); {
		case v == nil:
			in = append(in, nil)
			continue
		case seen[v] != nil:
		case t != nil && (t.DType.IsInt() || t.DType == onnx.Bool) && t.Size() <= 1<<10:
			seen[v] = m.Graph.NewConst(t.Renamed("c"))
		default:
			seen[v] = m.Graph.AddInput(m.Fresh("in"), ranked(typ(v, i), v.Constant()))
		}
		in = append(in, seen[v])
	}
	var names []string
	for _, v := range n.Outputs() {
		if v == nil {
			names = append(names, "")
			continue
		}
		names = append(names, m.Fresh("out"))
	}
	k := onnx.CloneNodeInto(n, in, names, nil)
	m.Graph.Append(k)
	for i, v := range n.Outputs() {
		if v != nil {
			k.Output(i).Type = ranked(typ(v, -1), nil)
			m.Graph.AddOutput(k.Output(i))
		}
	}
	return m
}

// ranked returns t with its sizes forgotten, save those of a constant, of which
// kernels may want to know.
func ranked(t *onnx.Type, c *onnx.Tensor) *onnx.Type {
	switch {
	case !t.IsTensor():
		return t
	case c != nil:
		return t.WithShape(onnx.ShapeOf(c.Shape...))
	case t.Shape == nil:
		return t
	}
	s := make(onnx.Shape, len(t.Shape))
	for i := range s {
		s[i] = onnx.Symbol("")
	}
	return t.WithShape(s)
}
