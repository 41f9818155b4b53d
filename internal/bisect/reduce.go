package bisect

import (
	"context"
	"errors"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Case is a model and inputs that show a fault.
type Case struct {
	Model  *onnx.Model
	Feed   map[string]*onnx.Tensor
	Want   map[string]*onnx.Tensor // what a right model computes, where that is known
	Trials int                     // models that were run to get here
	Cut    bool                    // the search ended before nothing more could be left out
	base   *onnx.Model             // holds the content of the constants
}

// Close releases what the case was made from; its constants are not to be read afterwards.
func (c *Case) Close() error { return c.base.Close() }

// maxTrials bounds how many smaller models are tried.
const maxTrials = 400

// reducer makes a model small while a test still holds. A candidate is a list
// of outputs and the nodes that are kept; what the other nodes compute becomes
// an input with the recorded value.
type reducer struct {
	base     *onnx.Model
	recorded map[string]*onnx.Tensor // values of base by name; nil where only types are known
	types    map[string]*onnx.Type   // of the values that can become inputs
	sample   map[string]*onnx.Tensor // inputs of base
	shows    func(ctx context.Context, c *Case) (bool, error)
	progress func(format string, args ...any)
	trials   int
}

// errNotShown says that the whole case does not show the fault under the
// conditions of a reduction.
var errNotShown = errors.New("the fault does not show on a single sample with the rule alone, so the model cannot be reduced")

// reduce returns the smallest case found, starting from the given outputs.
func (r *reducer) reduce(ctx context.Context, outs []string) (*Case, error) {
	keep := nodeKeys(r.base)
	best, err := r.try(ctx, outs, keep)
	if err != nil {
		return nil, err
	}
	if best == nil {
		return nil, errNotShown
	}
	for {
		before := best.size()
		if best, err = r.fewerNodes(ctx, best); err == nil {
			best, err = r.earlierOutput(ctx, best)
		}
		if err != nil {
			return nil, err
		}
		if best.size() == before || r.trials >= maxTrials {
			break
		}
	}
	best.c.Trials, best.c.Cut = r.trials, r.trials >= maxTrials
	return r.clean(ctx, best.c)
}

// candidate is a case with what it was made of.
type candidate struct {
	c    *Case
	outs []string
	keep []string // nodes by their first output
}

func (c *candidate) size() int { return len(c.keep) }

// nodeKeys names the nodes of m's main graph by their first output.
func nodeKeys(m *onnx.Model) []string {
	var out []string
	for n := range m.Graph.Nodes() {
		if k := nodeKey(n); k != "" {
			out = append(out, k)
		}
	}
	return out
}

func nodeKey(n *onnx.Node) string {
	for _, v := range n.Outputs() {
		if v != nil {
			return v.Name()
		}
	}
	return ""
}

// try builds the candidate and returns it where it shows the fault, else nil.
func (r *reducer) try(ctx context.Context, outs, keep []string) (*candidate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.trials++
	r.progress("reducing: %d nodes, model %d", len(keep), r.trials)
	kept := map[string]bool{}
	for _, k := range keep {
		kept[k] = true
	}
	cut := map[string]bool{}
	for n := range r.base.Graph.Nodes() {
		for _, v := range n.Outputs() {
			if v != nil && !kept[nodeKey(n)] && r.types[v.Name()] != nil {
				cut[v.Name()] = true
			}
		}
	}
	m, feeds := part(r.base, outs, cut, r.types)
	c := &Case{Model: m, Feed: feed(m, feeds, r.recorded, r.sample)}
	if m.Check() != nil || m.Graph.Len() == 0 {
		return nil, nil
	}
	ok, err := r.shows(ctx, c)
	if err != nil || !ok {
		return nil, err
	}
	return &candidate{c, outs, nodeKeys(m)}, nil
}

// fewerNodes leaves out nodes, many at a time first and single ones last, for as
// long as the fault shows.
func (r *reducer) fewerNodes(ctx context.Context, best *candidate) (*candidate, error) {
	for size := max(1, best.size()/2); ; {
		shrunk := false
		for at := 0; at < best.size() && r.trials < maxTrials; {
			rest := append(append([]string{}, best.keep[:at]...), best.keep[min(at+size, best.size()):]...)
			c, err := r.try(ctx, best.outs, rest)
			if err != nil {
				return nil, err
			}
			if c != nil && c.size() < best.size() {
				best, shrunk = c, true
			} else {
				at += size
			}
		}
		if r.trials >= maxTrials || size == 1 && !shrunk {
			return best, nil
		}
		size = max(1, size/2)
	}
}

// earlierOutput makes the earliest kept value that shows the fault the only output.
func (r *reducer) earlierOutput(ctx context.Context, best *candidate) (*candidate, error) {
	for _, k := range best.keep {
		if r.trials >= maxTrials || len(best.outs) == 1 && best.outs[0] == k {
			break
		}
		c, err := r.try(ctx, []string{k}, best.keep)
		if err != nil {
			return nil, err
		}
		if c != nil {
			return c, nil
		}
	}
	return best, nil
}

// clean drops what a small model does not need, if the fault shows without it.
func (r *reducer) clean(ctx context.Context, c *Case) (*Case, error) {
	m := c.Model.Clone()
	m.Meta, m.Doc, m.Graph.Doc, m.Training = nil, "", "", nil
	for n := range m.Graph.Nodes() {
		n.Doc, n.Meta = "", nil
	}
	if m.Functions = calledFunctions(m); len(m.Functions) == 0 {
		m.Opsets = usedOpsets(m)
	}
	small := *c
	small.Model = m
	ok, err := r.shows(ctx, &small)
	if err != nil {
		return nil, err
	}
	if ok {
		return &small, nil
	}
	return c, nil
}

func calledFunctions(m *onnx.Model) []*onnx.Function {
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			if m.FindFunction(n) != nil {
				return m.Functions // functions may call each other: all or none
			}
		}
	}
	return nil
}

func usedOpsets(m *onnx.Model) []onnx.Opset {
	used := map[string]bool{"": true}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			used[onnx.NormalDomain(n.Domain)] = true
		}
	}
	var out []onnx.Opset
	for _, o := range m.Opsets {
		if used[onnx.NormalDomain(o.Domain)] {
			out = append(out, o)
		}
	}
	return out
}

// record runs m on one sample and returns all its inner tensors, the types of
// which become inputs when nodes are cut off.
func (l *lab) record(ctx context.Context, m *onnx.Model, sample map[string]*onnx.Tensor) (map[string]*onnx.Tensor, error) {
	types, err := tensorTypes(m)
	if err != nil {
		return nil, err
	}
	var names []string
	for n := range m.Graph.Nodes() {
		for _, v := range n.Outputs() {
			if v != nil && types[v.Name()] != nil {
				names = append(names, v.Name())
			}
		}
	}
	out := map[string]*onnx.Tensor{}
	for at := 0; at < len(names); at += chunk {
		p, _ := part(m, names[at:min(at+chunk, len(names))], nil, types)
		got, err := l.run(ctx, p, l.levels()[0], feed(p, nil, nil, sample))
		if err != nil {
			return nil, fmt.Errorf("recording inner values: %w", err)
		}
		for name, t := range got {
			out[name] = t
		}
	}
	return out, nil
}

// typesOf returns the types of recorded values, shapes included.
func typesOf(recorded map[string]*onnx.Tensor) map[string]*onnx.Type {
	out := map[string]*onnx.Type{}
	for name, t := range recorded {
		out[name] = t.Type()
	}
	return out
}
