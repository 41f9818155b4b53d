// Package upgrade raises the standard opset of a model. Every operator keeps its
// meaning; one whose meaning cannot be kept is named in the error.
package upgrade

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Latest is the highest opset that this package knows the way to.
const Latest = 23

// earliest is the first opset that this package knows the way from.
const earliest = 6

// To raises m's standard opset to at least to. It returns what it did, for the
// user; on an error m is not to be used.
func To(m *onnx.Model, to int64) ([]string, error) {
	from := m.OpsetVersion("")
	switch {
	case from == 0 || from >= to:
		return nil, nil
	case to > Latest:
		return nil, fmt.Errorf("there is no way to opset %d; the highest is %d", to, Latest)
	case len(m.Functions) > 0:
		return nil, fmt.Errorf("the model has opset %d and local functions, which cannot be raised to opset %d; inline the functions (fuse --inline-functions), or export the model at that opset", from, to)
	}
	u := &upgrader{m: m, from: from, to: to}
	var err error
	if u.facts, err = opset.Infer(m, opset.Options{}); err != nil {
		return nil, err
	}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if onnx.NormalDomain(n.Domain) != "" {
				continue
			}
			if err := u.node(n); err != nil {
				return nil, fmt.Errorf("%v cannot be raised from opset %d to %d: %w; export the model at opset %d", n, from, to, err, to)
			}
		}
	}
	m.ImportOpset("", to)
	m.IRVersion = max(m.IRVersion, irFor(to))
	if _, err := m.Sort(); err != nil {
		return nil, err
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("the model raised to opset %d is not valid: %w", to, err)
	}
	return []string{fmt.Sprintf("raised the standard opset from %d to %d", from, to)}, nil
}

// irFor returns the IR version that came out with an opset, see the table in
// ONNX's Versioning.md.
func irFor(opset int64) int64 {
	switch {
	case opset >= 23:
		return 11
	case opset >= 21:
		return 10
	case opset >= 19:
		return 9
	case opset >= 15:
		return 8
	}
	return 7
}

// upgrader rewrites nodes from one opset to another.
type upgrader struct {
	m        *onnx.Model
	from, to int64
	facts    *opset.Facts
}

// change is what brings an operator to its form of one version: nil where the
// form differs only in the types it takes, in attributes and inputs whose
// default is the old behaviour, or in what it allows.
type change func(*upgrader, *onnx.Node) error

// node brings n to its form of the new opset, version by version. A change may
// make it another operator, whose versions count from there on.
func (u *upgrader) node(n *onnx.Node) error {
	for v := u.from + 1; v <= u.to; v++ {
		row := opset.Lookup("", n.Op, v)
		if row == nil {
			return fmt.Errorf("there is no operator %s in opset %d that this program knows", n.Op, v)
		}
		if row.Since != v {
			continue
		}
		if u.from < earliest {
			return fmt.Errorf("the way from an opset before %d is not known", earliest)
		}
		if f, ok := changes[n.Op][v]; ok {
			if err := f(u, n); err != nil {
				return err
			}
		} else if !slices.Contains(unchanged[v], n.Op) {
			return fmt.Errorf("there is no rule for the form of opset %d", v)
		}
	}
	return nil
}

// constant adds t as a constant beside n.
func (u *upgrader) constant(n *onnx.Node, t *onnx.Tensor) *onnx.Value { return n.Graph().NewConst(t) }

func (u *upgrader) ints(n *onnx.Node, name string, v ...int64) *onnx.Value {
	return u.constant(n, onnx.FromInts(outputName(n)+"_"+name, []int64{int64(len(v))}, v))
}

// real returns a scalar constant of the element type that n works in.
func (u *upgrader) real(n *onnx.Node, name string, v float64) (*onnx.Value, error) {
	d := u.facts.DType(n.Input(0))
	if d == onnx.Undefined {
		return nil, fmt.Errorf("the element type of %q is not known", n.Input(0).Name())
	}
	t, err := onnx.FromFloat64s(outputName(n)+"_"+name, d, []int64{}, []float64{v})
	if err != nil {
		return nil, err
	}
	return u.constant(n, t), nil
}

// outputName returns the name of the first output of n, "" if it is omitted.
func outputName(n *onnx.Node) string {
	if v := n.Output(0); v != nil {
		return v.Name()
	}
	return ""
}
