package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// lookup follows the tokens of one input through a graph, up to the embedding: the numbers that a table has for each token.
type lookup struct {
	facts   *opset.Facts
	varies  map[*onnx.Value]bool // depends on an input of the model
	tokens  map[*onnx.Value]bool // the tokens themselves, in their order
	rows    map[*onnx.Value]bool // one row for each token, of its table's numbers or codes
	order   []*onnx.Value        // of rows, as they are computed
	lookups []*onnx.Node         // the nodes that look the rows up
	held    []*onnx.Node         // nodes that read the tokens for masks and places
}

// newLookup follows input x through g. It errs where a node reads the tokens in a way that is none of those that are known.
func newLookup(g *onnx.Graph, x *onnx.Value, facts *opset.Facts) (*lookup, error) {
	l := &lookup{facts: facts, varies: map[*onnx.Value]bool{}, tokens: map[*onnx.Value]bool{x: true}, rows: map[*onnx.Value]bool{}}
	for _, v := range g.Inputs() {
		l.varies[v] = v.Const == nil
	}
	for n := range g.Nodes() {
		if err := l.visit(n, x); err != nil {
			return nil, err
		}
	}
	if len(l.lookups) == 0 {
		return nil, fmt.Errorf("no node looks up rows of a constant table by the tokens of input %q", x.Name())
	}
	return l, nil
}

func (l *lookup) visit(n *onnx.Node, x *onnx.Value) error {
	reads := readBy(n, n.Graph())
	if slices.ContainsFunc(reads, func(v *onnx.Value) bool { return l.varies[v] }) {
		for _, v := range n.Outputs() {
			l.varies[v] = true
		}
	}
	if !slices.ContainsFunc(reads, func(v *onnx.Value) bool { return l.tokens[v] }) {
		if l.perRow(n) {
			l.addRows(n)
		}
		return nil
	}
	switch {
	case l.keepsTokens(n):
		l.tokens[n.Output(0)] = true
	case l.looksUp(n):
		l.lookups = append(l.lookups, n)
		l.addRows(n)
	case n.Is("Shape"), n.Is("Size"):
	case l.holds(n):
		l.held = append(l.held, n)
	default:
		return fmt.Errorf("%v reads the tokens of input %q, but looks up no rows of a constant table by them: only casts and changes of shape may come before the embedding", n, x.Name())
	}
	return nil
}

func (l *lookup) addRows(n *onnx.Node) {
	l.rows[n.Output(0)] = true
	l.order = append(l.order, n.Output(0))
}

// keepsTokens says whether n hands the tokens on, in their order.
func (l *lookup) keepsTokens(n *onnx.Node) bool {
	for i, v := range n.Inputs() {
		if l.tokens[v] != (i == 0) {
			return false
		}
	}
	switch {
	case n.Is("Identity"), n.Is("Reshape"), n.Is("Flatten"), n.Is("Squeeze"), n.Is("Unsqueeze"):
		return true
	}
	to := l.facts.DType(n.Output(0))
	return n.Is("Cast") && (to.IsInt() || to.IsFloat())
}

// looksUp says whether n takes the rows of a table that do not depend on any input, by the tokens.
func (l *lookup) looksUp(n *onnx.Node) bool {
	at := 1
	switch {
	case n.Is("Gather") && n.Int("axis", 0) == 0:
	case n.Op == "GatherBlockQuantized" && n.Domain == "com.microsoft" && n.Int("gather_axis", 0) == 0:
	case n.Is("OneHot") && l.isLast(n.Int("axis", -1), n.Input(0)): // rows of the unit matrix
		at = 0
	default:
		return false
	}
	for i, v := range n.Inputs() {
		if i != at && v != nil && l.varies[v] {
			return false
		}
	}
	return l.tokens[n.Input(at)]
}

// isLast says whether a new axis comes behind all of v.
func (l *lookup) isLast(axis int64, v *onnx.Value) bool {
	s := l.facts.Shape(v)
	return axis == -1 || s.Ranked() && axis == int64(len(s))
}

// holds says whether n reads the tokens for what has no slope: where padding is, or the end of a text.
func (l *lookup) holds(n *onnx.Node) bool {
	switch n.Op {
	case "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "ArgMax", "ArgMin", "NonZero":
		return n.Is(n.Op)
	}
	return n.Is("Cast") && l.facts.DType(n.Output(0)) == onnx.Bool
}

// perRow says whether n turns rows into rows, as decoding the codes of a quantized table does.
func (l *lookup) perRow(n *onnx.Node) bool {
	switch {
	case n.Is("Identity"), n.Is("Cast"), n.Is("Mul"), n.Is("Sub"), n.Op == "DequantizeLinear" && (n.Domain == "com.microsoft" || n.Is(n.Op)):
	default:
		return false
	}
	rank := len(l.facts.Shape(n.Output(0)))
	any := false
	for _, v := range n.Inputs() {
		switch {
		case v == nil:
		case l.rows[v]:
			any = true
			if len(l.facts.Shape(v)) != rank {
				return false
			}
		case l.varies[v] || !oneRow(l.facts.Shape(v), rank):
			return false
		}
	}
	return any && rank > 0
}

// oneRow says whether a constant of that shape is the same for all rows of a tensor of that rank.
func oneRow(s onnx.Shape, rank int) bool {
	dims, ok := s.Static()
	if !ok || len(dims) > rank {
		return false
	}
	return len(dims) < 2 || !slices.ContainsFunc(dims[:len(dims)-1], func(d int64) bool { return d != 1 })
}

// embedding returns the first of the rows, as floating-point numbers, past which no other row reaches the output.
func (l *lookup) embedding(out, x *onnx.Value) (*onnx.Value, error) {
	for _, v := range l.order {
		if v != out && l.facts.DType(v).IsFloat() && !l.reaches(out, v) {
			return v, nil
		}
	}
	var names []string
	for _, n := range l.lookups {
		names = append(names, n.String())
	}
	if len(names) == 1 {
		return nil, fmt.Errorf("the rows that %s looks up by input %q do not become floating-point numbers in front of output %q", names[0], x.Name(), out.Name())
	}
	return nil, fmt.Errorf("input %q has several embeddings, which cannot be cut at one place: %s look up rows by its tokens", x.Name(), strings.Join(names, ", "))
}

// reaches says whether out reads rows by another way than through cut.
func (l *lookup) reaches(out, cut *onnx.Value) bool {
	seen := map[*onnx.Node]bool{}
	work := []*onnx.Value{out}
	for len(work) > 0 {
		v := work[len(work)-1]
		work = work[:len(work)-1]
		n := v.Producer()
		if v == cut || n == nil || seen[n] {
			continue
		}
		seen[n] = true
		if slices.Contains(l.lookups, n) {
			return true
		}
		work = append(work, readBy(n, n.Graph())...)
	}
	return false
}
