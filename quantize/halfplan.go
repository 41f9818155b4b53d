package quantize

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/kernels"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// place16 is what becomes of one node.
type place16 struct {
	half   bool   // it computes in 16 bits
	stored bool   // it computes in float32 from weights that are stored in 16 bits
	why    string // why it computes in float32
	note   string // what becomes of its constants
}

// halfPlan says for each node of a model what it computes in.
type halfPlan struct {
	o      *Options
	t      *halfType
	m      *onnx.Model
	facts  *opset.Facts
	stats  map[string]*calibrate.Stats // of the main graph's values; nil without data
	prober *kernels.Prober             // nil without an engine
	around map[*onnx.Node]string       // islands
	masks  *masked
	nodes  []*onnx.Node // those with float32 inputs or outputs, in execution order
	place  map[*onnx.Node]*place16
	fit    map[*onnx.Tensor]*fitness
	native map[string]bool // operator → whether the engine has a kernel of its own
}

// newHalfPlan decides by what is known of each node, and then of its neighbours.
func newHalfPlan(ctx context.Context, p *halfPlan) (*halfPlan, error) {
	p.place, p.native = map[*onnx.Node]*place16{}, map[string]bool{}
	p.masks = findMasks(p.m, p.t, p.fits)
	p.around = islands(p.m)
	for _, g := range p.m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if p.floats(n) == 0 || n.Is("Constant") || len(n.Subgraphs()) > 0 {
				continue
			}
			c := &place16{}
			c.why = p.refuse(ctx, n, c)
			c.half = c.why == ""
			p.nodes, p.place[n] = append(p.nodes, n), c
		}
	}
	p.settle()
	return p, nil
}

// fits returns the fitness of a float32 constant; nil where it cannot be read.
func (p *halfPlan) fits(t *onnx.Tensor) *fitness {
	f, ok := p.fit[t]
	if !ok {
		f, _ = p.t.fit(t)
		p.fit[t] = f
	}
	return f
}

// floats counts the float32 inputs and outputs of n.
func (p *halfPlan) floats(n *onnx.Node) int {
	count := 0
	for _, list := range [][]*onnx.Value{n.Inputs(), n.Outputs()} {
		for _, v := range list {
			if v != nil && p.dtype(v) == onnx.Float {
				count++
			}
		}
	}
	return count
}

func (p *halfPlan) dtype(v *onnx.Value) onnx.DType {
	if t := v.Constant(); t != nil {
		return t.DType
	}
	if d := p.facts.DType(v); d != onnx.Undefined {
		return d
	}
	return v.DType()
}

// weightOf returns a constant input of n, the last, or nil.
func weightOf(n *onnx.Node) *onnx.Value {
	var w *onnx.Value
	for _, v := range n.Inputs() {
		if v.Constant() != nil {
			w = v
		}
	}
	return w
}

// refuse says why n stays in float32; "" if it need not.
func (p *halfPlan) refuse(ctx context.Context, n *onnx.Node, c *place16) string {
	if v := n.Output(0); p.masks.pure[v] {
		return fmt.Sprintf("it makes the mask %q, which is beyond the range of %v; readers get it cut there", v.Name(), p.t)
	}
	for _, why := range []string{wideOp(n, p.t), p.around[n], p.o.excluded(n, weightOf(n)), p.casts(n)} {
		if why != "" {
			return why
		}
	}
	for i, v := range n.Inputs() {
		if v == nil || pinned(n, i) {
			continue
		}
		switch d := p.dtype(v); {
		case d == onnx.Undefined:
			return fmt.Sprintf("the type of %q is not known", v.Name())
		case v.Const != nil && v.Constant() == nil && d == onnx.Float:
			return fmt.Sprintf("%q is an input with a default, which a caller may override", v.Name())
		case v.Sparse != nil:
			return fmt.Sprintf("%q is a sparse constant", v.Name())
		}
	}
	for _, v := range n.Outputs() {
		if v != nil && p.dtype(v) == onnx.Undefined {
			return fmt.Sprintf("the type of %q is not known", v.Name())
		}
	}
	if why := p.constants(n, c); why != "" {
		return why
	}
	for _, why := range []string{p.ranges(n), p.reduction(n), p.sums(n)} {
		if why != "" {
			return why
		}
	}
	return p.kernel(ctx, n, c)
}

// casts says why a Cast that was there before stays as it is.
func (p *halfPlan) casts(n *onnx.Node) string {
	if !n.Is("Cast") {
		return ""
	}
	from, to := p.dtype(n.Input(0)), p.dtype(n.Output(0))
	switch {
	case from == onnx.Float && to == onnx.Float:
		return ""
	case to != onnx.Float, from == onnx.Float16, from == onnx.BFloat16: // readers of 16 bits read what it reads
		return "it is a cast of the model's own"
	}
	switch from {
	case onnx.Bool, onnx.Uint8, onnx.Int8:
		return ""
	}
	s := p.stats[n.Output(0).Name()]
	if s == nil || s.Runs == 0 || s.Invalid > 0 {
		return fmt.Sprintf("it makes real numbers of %v, of which %v has no exact code beyond %d", from, p.t, p.t.exact)
	}
	if m := peak(s); m > float64(p.t.exact) {
		return fmt.Sprintf("it makes real numbers up to %.6g, and %v has every integer up to %d only", m, p.t, p.t.exact)
	}
	return ""
}

// constants looks at the constants that n would read in 16 bits.
func (p *halfPlan) constants(n *onnx.Node, c *place16) string {
	var notes []string
	look := func(v *onnx.Value, t *onnx.Tensor, name string) string {
		f := p.fits(t)
		if f == nil {
			return fmt.Sprintf("its constant %q cannot be read", name)
		}
		s, ok := p.masks.standFor(n, v, f)
		if why := f.unfit(p.t, name, ok); why != "" {
			return why
		}
		if f.over > 0 {
			notes = append(notes, fmt.Sprintf("%d elements of %q such as %v become %v", f.over, name, f.worst, p.t.round(f.worst, s)))
		}
		if f.gone > 0 {
			notes = append(notes, fmt.Sprintf("%d of %d elements of %q are so near to 0 that they become 0", f.gone, f.count, name))
		}
		return ""
	}
	for i, v := range n.Inputs() {
		if t := v.Constant(); t != nil && t.DType == onnx.Float && !pinned(n, i) {
			if why := look(v, t, v.Name()); why != "" {
				return why
			}
		}
		if p.masks.pure[v] {
			notes = append(notes, fmt.Sprintf("it reads the mask %q cut at %v", v.Name(), p.masks.cutAt(v)))
		}
	}
	if a := n.Attr("value"); n.Is("ConstantOfShape") && a != nil && a.T != nil && a.T.DType == onnx.Float {
		if why := look(n.Output(0), a.T, n.Output(0).Name()); why != "" {
			return why
		}
	}
	c.note = strings.Join(notes, "; ")
	return ""
}

// kernel asks the engine whether it takes n in 16 bits. Where it does not, weights
// may still be stored so.
func (p *halfPlan) kernel(ctx context.Context, n *onnx.Node, c *place16) string {
	if p.prober == nil {
		return ""
	}
	version := n.OpsetVersion("")
	to := func(v *onnx.Value, input int) *onnx.Type {
		d := p.dtype(v)
		if d == onnx.Float && !pinned(n, input) {
			d = p.t.dtype
		}
		return onnx.TensorType(d, p.facts.Shape(v))
	}
	a := p.prober.Ask(ctx, p.key(n, version), func() *onnx.Model {
		k := kernels.Specimen(n, version, to)
		if n.Is("Cast") {
			k.Graph.First().SetAttr(onnx.IntAttr("to", int64(p.t.dtype)))
		}
		if n.Is("ConstantOfShape") {
			p.t.fill(k.Graph.First())
		}
		return k
	})
	if a == kernels.Refused {
		c.stored = p.stores(n)
		return fmt.Sprintf("the runtime here has no %v %s of opset %d", p.t, n.Op, version)
	}
	p.native[n.Op] = a == kernels.Native
	return ""
}

// key tells nodes apart for which an engine may have different answers.
func (p *halfPlan) key(n *onnx.Node, version int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %v", n.Op, version, p.t)
	for i, v := range n.Inputs() {
		if v == nil {
			b.WriteString(" -")
			continue
		}
		fmt.Fprintf(&b, " %v/%d/%v", p.dtype(v), len(p.facts.Shape(v)), v.Constant() != nil && i > 0)
	}
	fmt.Fprintf(&b, " > %d", len(n.Outputs()))
	var names []string
	for _, a := range n.Attrs {
		names = append(names, a.Name)
	}
	sort.Strings(names)
	return b.String() + strings.Join(names, ",")
}

// stores reports whether n has a float32 weight worth storing in 16 bits.
func (p *halfPlan) stores(n *onnx.Node) bool {
	for i, v := range n.Inputs() {
		if t := v.Constant(); t != nil && t.DType == onnx.Float && !pinned(n, i) && p.large(t) {
			return true
		}
	}
	return false
}

// worthStoring is from how many elements on a weight saves more than its cast costs.
const worthStoring = 256

func (p *halfPlan) large(t *onnx.Tensor) bool {
	f := p.fits(t)
	return f != nil && f.count >= worthStoring && f.over == 0
}

// settle takes back nodes whose neighbours make 16 bits useless, until there is none.
func (p *halfPlan) settle() {
	for p.lonely() {
	}
}

// back puts n back to float32.
func (p *halfPlan) back(n *onnx.Node, why string) {
	c := p.place[n]
	c.half, c.stored, c.why, c.note = false, false, why, ""
}

func (p *halfPlan) isHalf(n *onnx.Node) bool {
	c := p.place[n]
	return c != nil && c.half
}

// lonely takes back nodes that only move data, and such without a product or a
// weight among them, where casts stand between them and nodes of float32: these cost
// more than 16 bits save.
func (p *halfPlan) lonely() bool {
	group := p.groups()
	heavy, any, border := map[*onnx.Node]bool{}, map[*onnx.Node]bool{}, map[*onnx.Node]bool{}
	for _, n := range p.nodes {
		if !p.isHalf(n) {
			continue
		}
		g := group[n]
		heavy[g] = heavy[g] || products[n.Op] || p.stores(n)
		any[g] = any[g] || halfPart(n) == computes
		border[g] = border[g] || p.border(n)
	}
	changed := false
	for _, n := range p.nodes {
		g := group[n]
		if p.isHalf(n) && !heavy[g] && (!any[g] || border[g]) {
			p.back(n, "it stands among nodes of float32, and casts would cost more than it saves")
			changed = true
		}
	}
	return changed
}

// products are the operators that are worth casts.
var products = opsOf("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN")

// border reports whether n exchanges values with a node of float32.
func (p *halfPlan) border(n *onnx.Node) bool {
	for i, v := range n.Inputs() {
		if v != nil && v.Producer() != nil && v.Constant() == nil && !pinned(n, i) && p.dtype(v) == onnx.Float && !p.isHalf(v.Producer()) {
			return true
		}
	}
	for _, v := range n.Outputs() {
		if v == nil || p.dtype(v) != onnx.Float {
			continue
		}
		for _, u := range v.Uses() {
			if !p.isHalf(u.Node) {
				return true
			}
		}
	}
	return false
}

// groups returns for each node in 16 bits the one that stands for all that are
// connected with it.
func (p *halfPlan) groups() map[*onnx.Node]*onnx.Node {
	up := map[*onnx.Node]*onnx.Node{}
	find := func(n *onnx.Node) *onnx.Node {
		root := n
		for up[root] != nil {
			root = up[root]
		}
		for n != root {
			n, up[n] = up[n], root
		}
		return root
	}
	for _, n := range p.nodes {
		if !p.isHalf(n) {
			continue
		}
		for i, v := range n.Inputs() {
			if v == nil || pinned(n, i) || !p.isHalf(v.Producer()) || p.dtype(v) != onnx.Float {
				continue
			}
			if a, b := find(n), find(v.Producer()); a != b {
				up[a] = b
			}
		}
	}
	out := map[*onnx.Node]*onnx.Node{}
	for _, n := range p.nodes {
		out[n] = find(n)
	}
	return out
}
