package quantize

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
)

// Fate is what the engine makes of a quantized node when it loads the model, with
// its own optimizations on.
type Fate struct {
	// Engine is the operator that computes the node, with its domain unless that is
	// the standard one; "" where the engine's graph has none of its name.
	Engine string `json:"engine"`
	// Codes says that this operator computes on codes.
	Codes bool       `json:"on_codes"`
	Pairs []PairFate `json:"pairs,omitempty"` // around the node
}

// PairFate is what the engine leaves of the pair at one tensor.
type PairFate struct {
	Tensor     string `json:"tensor"`
	Side       string `json:"side"`       // input, weight, bias or output
	Quantize   bool   `json:"quantize"`   // its QuantizeLinear is left as a conversion
	Dequantize bool   `json:"dequantize"` // its DequantizeLinear is left as a conversion
}

// addFates loads the written model once more and enters the fates of layers.
// Nodes are found again by names that a copy of the model gets for that.
func addFates(ctx context.Context, dst string, layers []Layer, v *produce.Verify) error {
	dir, err := os.MkdirTemp("", "lapidary-fate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m, err := onnxfile.Open(dst, onnxfile.Options{})
	if err != nil {
		return err
	}
	defer m.Close()
	t := &tags{of: map[*onnx.Node]string{}}
	t.tag(m)
	path := filepath.Join(dir, "tagged.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{Perm: 0o600}); err != nil {
		return err
	}
	if err := v.EngineGraph(ctx, path, dir, t.read); err != nil {
		return err
	}
	nodes := map[string]*onnx.Node{}
	for n := range m.Graph.Nodes() {
		nodes[outputName(n)] = n
	}
	for i := range layers {
		l := &layers[i]
		if l.at == nil || l.Reason != "" {
			continue
		}
		if n := nodes[outputName(l.at)]; n != nil {
			l.Fate = t.fate(n)
		}
	}
	return nil
}

// tags are names of nodes that the engine keeps.
type tags struct {
	of   map[*onnx.Node]string
	left map[string]string // tag → operator that bears it in the engine's graph
}

// tagged begins a tag; a number and a dash follow.
const tagged = "lapidary-"

// tag names every node of m.
func (t *tags) tag(m *onnx.Model) {
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			n.Name = fmt.Sprintf("%s%d-", tagged, len(t.of))
			t.of[n] = n.Name
		}
	}
}

// read notes which tags the engine's graph m has. What the engine makes of a node
// has the node's name in its own.
func (t *tags) read(m *onnx.Model) {
	t.left = map[string]string{}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			_, rest, ok := strings.Cut(n.Name, tagged)
			if !ok {
				continue
			}
			number, _, _ := strings.Cut(rest, "-")
			op := n.Op
			if d := onnx.NormalDomain(n.Domain); d != "" {
				op = d + "." + op
			}
			t.left[tagged+number+"-"] = op
		}
	}
}

// stays reports whether the engine's graph has a conversion of n's name.
func (t *tags) stays(n *onnx.Node) bool {
	op := t.left[t.of[n]]
	return strings.HasSuffix(op, "uantizeLinear")
}

// fate says what became of a node of the written model.
func (t *tags) fate(n *onnx.Node) *Fate {
	f := &Fate{Engine: t.left[t.of[n]]}
	f.Codes = onCodes(f.Engine[strings.LastIndex(f.Engine, ".")+1:])
	for i, v := range n.Inputs() {
		dq := dequantized(v)
		if dq == nil && v != nil && isQuantize(v.Producer()) { // an operator on codes
			f.Pairs = append(f.Pairs, PairFate{Tensor: v.Producer().Input(0).Name(), Side: "input", Quantize: t.stays(v.Producer())})
		}
		if dq == nil {
			continue
		}
		p := PairFate{Tensor: dq.Input(0).Name(), Side: "input", Dequantize: t.stays(dq)}
		switch {
		case place(n) == anchor && i > 0:
			p.Side = []string{"weight", "bias"}[min(i-1, 1)]
		case isQuantize(dq.Input(0).Producer()):
			q := dq.Input(0).Producer()
			p.Tensor, p.Quantize = q.Input(0).Name(), t.stays(q)
		}
		f.Pairs = append(f.Pairs, p)
	}
	for _, u := range n.Output(0).Uses() {
		if dequantized(u.Node.Output(0)) != nil {
			f.Pairs = append(f.Pairs, PairFate{Tensor: u.Node.Output(0).Name(), Side: "output", Dequantize: t.stays(u.Node)})
		}
		if !isQuantize(u.Node) {
			continue
		}
		p := PairFate{Tensor: n.Output(0).Name(), Side: "output", Quantize: t.stays(u.Node)}
		for _, w := range u.Node.Output(0).Uses() {
			p.Dequantize = p.Dequantize || dequantized(w.Node.Output(0)) != nil && t.stays(w.Node)
		}
		f.Pairs = append(f.Pairs, p)
	}
	return f
}
