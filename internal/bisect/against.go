package bisect

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Comparison is what [Against] found.
type Comparison struct {
	Values  int     `json:"values"` // compared one by one
	Samples int     `json:"samples"`
	Inputs  string  `json:"inputs"`                // data or synthetic
	First   *Broken `json:"first_wrong,omitempty"` // the first node that differs by itself
	Fault   *Fault  `json:"fault,omitempty"`       // of the model as a whole
}

// Bad reports whether the models differ.
func (c *Comparison) Bad() bool { return c.First != nil || c.Fault != nil }

// Against compares the model at path with the one at goodPath, which should
// compute the same: as a whole, and node by node over the values that have the
// same name in both. Each node gets the good model's values, so that the first
// bad one is found and not those that follow from it.
//
// The case holds the first bad node, what it was given and what it should have
// given; nil where there is none. It is to be closed.
func Against(ctx context.Context, goodPath, path string, o Options) (*Comparison, *Case, error) {
	good, err := Open(goodPath)
	if err != nil {
		return nil, nil, err
	}
	defer good.Close()
	bad, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	l, err := newLab(o)
	if err != nil {
		bad.Close()
		return nil, nil, err
	}
	defer l.close()
	c, out, err := against(ctx, l, good, bad, goodPath, path)
	if err != nil || c == nil || c.proof == nil {
		bad.Close()
		return out, nil, err
	}
	c.proof.base = bad
	return out, c.proof, nil
}

func against(ctx context.Context, l *lab, good, bad *onnx.Model, goodPath, path string) (*comparison, *Comparison, error) {
	l.o.progress("running %s", goodPath)
	ref, err := l.o.Verify.Prepare(ctx, goodPath)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", goodPath, err)
	}
	out := &Comparison{Samples: len(ref.Samples()), Inputs: ref.Source()}
	l.o.progress("running %s", path)
	if _, err := l.o.Verify.Check(ctx, path, ref); err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if out.Fault = faultOf(err); out.Fault == nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		if out.Fault.Kind != Wrong {
			return nil, out, nil
		}
	}
	c := &comparison{lab: l, good: good, bad: bad, samples: ref.Samples()}
	if err := c.run(ctx); err != nil {
		return nil, nil, err
	}
	out.Values, out.First = c.compared, c.first
	return c, out, nil
}

// comparison goes over two models node by node.
type comparison struct {
	*lab
	good, bad *onnx.Model
	samples   []*dataset.Sample
	first     *Broken
	compared  int
	proof     *Case // the part of the bad model that computes the first broken value
}

// chunk is how many values are compared at a time, which bounds memory.
const chunk = 256

// run looks for the first broken value, in the order of the bad model.
func (c *comparison) run(ctx context.Context) error {
	names, cut, types, err := c.common()
	if err != nil {
		return err
	}
	for at := 0; at < len(names) && c.first == nil; at += chunk {
		list := names[at:min(at+chunk, len(names))]
		c.o.progress("comparing value %d of %d", at, len(names))
		c.compared += len(list)
		if err := c.compareChunk(ctx, list, cut, types); err != nil {
			return err
		}
	}
	return nil
}

// common returns the values to compare, in order, those at which the models are
// cut, and their types.
func (c *comparison) common() (names []string, cut map[string]bool, types map[string]*onnx.Type, err error) {
	if types, err = tensorTypes(c.bad); err != nil {
		return nil, nil, nil, err
	}
	goodTypes, err := tensorTypes(c.good)
	if err != nil {
		return nil, nil, nil, err
	}
	cut = map[string]bool{}
	for n := range c.bad.Graph.Nodes() {
		for _, v := range n.Outputs() {
			if v == nil || !sameElem(types[v.Name()], goodTypes[v.Name()]) {
				continue
			}
			cut[v.Name()] = true
			if repeatable(n) {
				names = append(names, v.Name())
			}
		}
	}
	if len(names) == 0 {
		return nil, nil, nil, errors.New("the two models have no value of the same name that both compute; nothing can be compared node by node")
	}
	return names, cut, types, nil
}

// compareChunk looks for the first broken value among names.
func (c *comparison) compareChunk(ctx context.Context, names []string, cut map[string]bool, types map[string]*onnx.Type) error {
	m, feeds := part(c.bad, names, cut, types)
	whole, _ := part(c.good, unique(append(sources(feeds), names...)), nil, types)
	left, closeLeft, err := c.openPart(ctx, whole)
	if err != nil {
		return fmt.Errorf("running the good model for its inner values: %w", err)
	}
	defer closeLeft()
	right, closeRight, err := c.openPart(ctx, m)
	if err != nil {
		return fmt.Errorf("running the parts of the model: %w", err)
	}
	defer closeRight()
	for _, s := range c.samples { // a later sample may show an earlier value broken
		want, err := left.Run(ctx, feed(whole, nil, nil, s.Inputs))
		if err != nil {
			return fmt.Errorf("running the good model for its inner values: %w", err)
		}
		got, err := right.Run(ctx, feed(m, feeds, want.Outputs, s.Inputs))
		if err != nil {
			return fmt.Errorf("running the parts of the model: %w", err)
		}
		i, err := c.firstBroken(names, want.Outputs, got.Outputs, s)
		if err != nil {
			return err
		}
		if i < len(names) {
			c.prove(names[i], cut, types, want.Outputs, s)
		}
		if names = names[:i]; len(names) == 0 {
			break
		}
	}
	return nil
}

// openPart loads a part of a model with the engine's own optimizations off.
func (c *comparison) openPart(ctx context.Context, m *onnx.Model) (session.Session, func(), error) {
	path, err := c.write(m)
	if err != nil {
		return nil, nil, err
	}
	s, err := c.open(ctx, path, session.LevelOff)
	if err != nil {
		c.drop(path)
		return nil, nil, err
	}
	return s, func() { s.Close(); c.drop(path) }, nil
}

// firstBroken returns the index of the first broken value and keeps what is
// wrong with it; the number of names where there is none.
func (c *comparison) firstBroken(names []string, want, got map[string]*onnx.Tensor, s *dataset.Sample) (int, error) {
	for i, name := range names {
		if got[name] == nil || want[name] == nil {
			continue
		}
		b, err := c.judge(name, want[name], got[name], s)
		if err != nil {
			return 0, err
		}
		if b == nil {
			continue
		}
		b.Node = onnxtext.FormatNode(produced(c.bad)[name].Producer())
		if v := produced(c.good)[name]; v != nil {
			b.Reference = onnxtext.FormatNode(v.Producer())
		}
		c.first = b
		return i, nil
	}
	return len(names), nil
}

// judge returns what is wrong with got, nil if nothing is.
func (c *comparison) judge(name string, want, got *onnx.Tensor, s *dataset.Sample) (*Broken, error) {
	b := &Broken{Value: name, Sample: s.ID}
	d, err := c.o.Verify.Distance(name, want, got)
	if err != nil { // another shape or type
		b.Reason = err.Error()
		return b, nil
	}
	if d.OK {
		return nil, nil
	}
	b.measure(d)
	return b, nil
}

// prove keeps the part of the bad model that computes the broken value.
func (c *comparison) prove(name string, cut map[string]bool, types map[string]*onnx.Type, want map[string]*onnx.Tensor, s *dataset.Sample) {
	m, feeds := part(c.bad, []string{name}, cut, types)
	c.proof = &Case{Model: m, Feed: feed(m, feeds, want, s.Inputs), Want: map[string]*onnx.Tensor{name: want[name]}}
}

// feed returns what the inputs of m get: recorded values, else those of the sample.
func feed(m *onnx.Model, feeds map[string]string, recorded, sample map[string]*onnx.Tensor) map[string]*onnx.Tensor {
	out := map[string]*onnx.Tensor{}
	for _, v := range m.Graph.Inputs() {
		if source, ok := feeds[v.Name()]; ok {
			if t := recorded[source]; t != nil {
				out[v.Name()] = t.Renamed(v.Name())
			}
			continue
		}
		for name, t := range sample {
			if name == v.Name() || len(name) > len(v.Name()) && name[:len(v.Name())] == v.Name() && (name[len(v.Name())] == '[' || name[len(v.Name()):] == ".keys") {
				out[name] = t
			}
		}
	}
	return out
}

// sameElem reports whether both types are known and have the same elements, so
// that one value can be put in the place of the other.
func sameElem(a, b *onnx.Type) bool { return a != nil && b != nil && a.Elem == b.Elem }

func sources(feeds map[string]string) []string {
	var out []string
	for _, name := range feeds {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func unique(names []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}
