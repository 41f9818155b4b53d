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

// To raises m's standard opset, and that of its local functions, to at least to.
// It returns what it did, for the user; on an error m is not to be used.
func To(m *onnx.Model, to int64) ([]string, error) {
	u := &upgrader{m: m, to: to}
	functions := u.functions()
	from := m.OpsetVersion("")
	main := from > 0 && from < to
	switch {
	case !main && len(functions) == 0:
		return nil, nil
	case to > Latest:
		return nil, fmt.Errorf("there is no way to opset %d; the highest is %d", to, Latest)
	}
	var err error
	if u.facts, err = opset.Infer(m, opset.Options{}); err != nil {
		return nil, err
	}
	if err := u.graphs(); err != nil {
		return nil, err
	}
	notices := u.imports(from, main, functions)
	m.IRVersion = max(m.IRVersion, irFor(to))
	if _, err := m.Sort(); err != nil {
		return nil, err
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("the model raised to opset %d is not valid: %w", to, err)
	}
	return notices, nil
}

// functions returns the local functions that have a lower opset.
func (u *upgrader) functions() []*onnx.Function {
	var out []*onnx.Function
	for _, fn := range u.m.Functions {
		if v := fn.OpsetVersion(""); v > 0 && v < u.to {
			out = append(out, fn)
		}
	}
	return out
}

// graphs brings the nodes of every graph to the new opset.
func (u *upgrader) graphs() error {
	for _, g := range u.m.Graphs() {
		where := ""
		if fn := g.Function(); fn != nil {
			where = fmt.Sprintf("function %q: ", fn.Name)
		}
		for n := range g.Nodes() {
			u.from = n.OpsetVersion("")
			if onnx.NormalDomain(n.Domain) != "" || u.from >= u.to || u.m.FindFunction(n) != nil {
				continue
			}
			if err := u.node(n); err != nil {
				return fmt.Errorf("%s%v cannot be raised from opset %d to %d: %w; export the model at opset %d", where, n, u.from, u.to, err, u.to)
			}
		}
	}
	return nil
}

// imports writes the new opset where the old one was imported, and says so.
func (u *upgrader) imports(from int64, main bool, functions []*onnx.Function) []string {
	var notices []string
	if main {
		u.m.ImportOpset("", u.to)
		notices = append(notices, fmt.Sprintf("raised the standard opset from %d to %d", from, u.to))
	}
	for _, fn := range functions {
		for i, o := range fn.Opsets {
			if onnx.NormalDomain(o.Domain) == "" {
				fn.Opsets[i].Version = u.to
			}
		}
	}
	if len(functions) > 0 {
		notices = append(notices, fmt.Sprintf("raised the standard opset of %d functions to %d", len(functions), u.to))
	}
	return notices
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
	from, to int64 // from: where the node at hand stands
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
			if err := literal(n); err != nil {
				return err
			}
			if err := f(u, n); err != nil {
				return err
			}
		} else if !slices.Contains(unchanged[v], n.Op) {
			return fmt.Errorf("there is no rule for the form of opset %d", v)
		}
	}
	return nil
}

// constant adds t as a constant beside n: in a function, which has no
// initializers, as a Constant node.
func (u *upgrader) constant(n *onnx.Node, t *onnx.Tensor) *onnx.Value {
	if !n.Graph().InFunction() {
		return n.Graph().NewConst(t)
	}
	return u.constantNode(n, t.Name, onnx.TensorAttr("value", t))
}

// constantNode puts a Constant with attribute a in front of n.
func (u *upgrader) constantNode(n *onnx.Node, name string, a *onnx.Attr) *onnx.Value {
	c := onnx.NewNode("Constant", nil, u.m.Fresh(name))
	c.Attrs = []*onnx.Attr{a}
	n.Graph().InsertBefore(c, n)
	return c.Output(0)
}

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
