package rewrite

import (
	"errors"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Rule is one local rewrite.
type Rule struct {
	Name    string // kebab-case; used unchanged in logs, flags and test files
	Doc     string // one sentence: what becomes what, and when
	Pattern string // what to look for, or several with ; between them; see the pattern language in pattern.go
	// Rewrite proposes p for a match, or declines with a reason. Any other
	// error stops the run.
	Rewrite func(m *Match, p *Patch) error
}

// Declined is the error of a rule that does not apply to what it matched.
type Declined struct{ Reason string }

func (d *Declined) Error() string { return d.Reason }

// Decline returns a [Declined] error.
func Decline(format string, args ...any) error {
	return &Declined{fmt.Sprintf(format, args...)}
}

// ErrNotHere is what a rule returns where its pattern fits but nothing of the
// kind that the rule is about is there: it is no refusal, and nothing is logged.
var ErrNotHere = errors.New("not the place of this rule")

func declined(err error) (string, bool) {
	var d *Declined
	if errors.As(err, &d) {
		return d.Reason, true
	}
	return "", false
}

// Match is a place where a rule's pattern occurs.
type Match struct {
	Root  *onnx.Node // the node that matched the outermost call
	Facts *opset.Facts
	b     *bindings
	read  map[any]any // what the rules have read at this node so far
}

// Reading returns what read gives, once for all rules that ask for the same key
// at one node: nothing changes until one of them fires. Who gets it must not
// change it.
func Reading[T any](m *Match, key any, read func() T) T {
	if x, ok := m.read[key]; ok {
		return x.(T)
	}
	x := read()
	if m.read != nil {
		m.read[key] = x
	}
	return x
}

// Value returns what name is bound to, nil for an omitted input.
func (m *Match) Value(name string) *onnx.Value { return m.b.values[name] }

// Node returns the node that the label stands for.
func (m *Match) Node(label string) *onnx.Node { return m.b.nodes[label] }

// Const returns the constant content of a bound value, or declines.
func (m *Match) Const(name string) (*onnx.Tensor, error) {
	v := m.b.values[name]
	if v == nil {
		return nil, Decline("%s is omitted", name)
	}
	t := v.Constant()
	if t == nil {
		if v.Const != nil {
			return nil, Decline("%s %q is an input with a default, which a caller may override", name, v.Name())
		}
		return nil, Decline("%s %q is not constant", name, v.Name())
	}
	return t, nil
}

// Floats returns the constant content of a bound value as float32 with its
// tensor, or declines. Content that cannot be read is an error.
func (m *Match) Floats(name string) ([]float32, *onnx.Tensor, error) {
	t, err := m.Const(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := t.Floats()
	return f, t, err
}

// Opset returns the version of the standard operators in force at the match.
func (m *Match) Opset() int64 { return m.Root.OpsetVersion("") }

// Patch is what a rule proposes: nothing of it is in the graph until the
// driver accepts it.
type Patch struct {
	graph  *onnx.Graph
	root   *onnx.Node
	rule   string
	nodes  []*onnx.Node
	consts []*onnx.Value
	swaps  []swap
}

type swap struct{ old, new *onnx.Value }

// Add proposes a node of the standard domain with one output, which it returns.
// A nil input is an omitted one; omitted inputs at the end are cut.
func (p *Patch) Add(op string, inputs []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	return p.AddNode("", op, inputs, 1, attrs...).Output(0)
}

// AddNode proposes a node with any number of outputs.
func (p *Patch) AddNode(domain, op string, inputs []*onnx.Value, outputs int, attrs ...*onnx.Attr) *onnx.Node {
	names := make([]string, outputs)
	for i := range names {
		names[i] = p.fresh(op)
	}
	n := onnx.NewNode(op, append([]*onnx.Value(nil), inputs...), names...)
	n.TrimInputs()
	n.Domain, n.Attrs = domain, attrs
	n.Name = names[0]
	p.nodes = append(p.nodes, n)
	return n
}

func (p *Patch) fresh(hint string) string {
	if out := p.root.Output(0); out != nil {
		hint = out.Name() + "_" + hint
	}
	return p.graph.Model().Fresh(hint)
}

// Const proposes a constant; its name is made fresh from t's.
func (p *Patch) Const(t *onnx.Tensor) *onnx.Value {
	if t.Name == "" {
		t = t.Renamed(p.rule)
	}
	if p.graph.InFunction() {
		n := p.AddNode("", "Constant", nil, 1, onnx.TensorAttr("value", t))
		return n.Output(0)
	}
	v := onnx.Unattached(t.Renamed(p.graph.Model().Fresh(t.Name)))
	p.consts = append(p.consts, v)
	return v
}

// Nodes returns the nodes proposed so far, in order.
func (p *Patch) Nodes() []*onnx.Node { return p.nodes }

// Swap proposes that every reader of old reads v.
func (p *Patch) Swap(old, v *onnx.Value) { p.swaps = append(p.swaps, swap{old, v}) }
