package prune

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// maxAxis and maxPositions bound what is followed: longer axes are pinned, and a
// model with more positions in all is refused.
const (
	maxAxis      = 1 << 20
	maxPositions = 1 << 25
)

// dims knows which positions along the axes of a model's values stand or fall
// together. Each position of each axis whose size is a number has a label; labels
// that depend on each other are in one class of a union-find forest. A class with
// a pinned member cannot go.
type dims struct {
	model  *onnx.Model
	facts  *opset.Facts
	axes   []axis
	index  map[opset.Axis]int // into axes
	parent []int32
	pinned map[int32]int // by root: into pins
	pins   []pin

	even       []even
	products   []product
	factors    map[virtualKey]int
	statistics map[int]*onnx.Node // axes over which a node takes mean or variance
	heads      map[int]bool       // axes that count attention heads
	derived    map[opset.Axis]bool
	shuffles   map[*onnx.Node]*shuffle // by the last node
	sizes      map[string]int64        // of symbolic dimensions
}

// axis is one labelled axis: its positions have labels base … base+size-1.
type axis struct {
	opset.Axis
	base, size int
}

// pin says why something cannot go.
type pin struct {
	node *onnx.Node // nil: an input or output of the model
	why  string
}

// even is an axis of equal runs, each of which must keep as many positions.
type even struct{ axis, blocks int }

// product is an axis made of others, by axis index.
type product struct {
	factors []int
	product int
	node    *onnx.Node
}

// newDims analyses m. Nodes in blocked pin all their axes.
func newDims(m *onnx.Model, sizes map[string]int64, blocked map[string]string) (*dims, error) {
	f, err := opset.Infer(m, opset.Options{Dims: sizes, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	d := &dims{model: m, facts: f, index: map[opset.Axis]int{}, pinned: map[int32]int{}, statistics: map[int]*onnx.Node{},
		heads: map[int]bool{}, factors: map[virtualKey]int{}, sizes: sizes, derived: map[opset.Axis]bool{}, shuffles: map[*onnx.Node]*shuffle{}}
	d.findShuffles()
	relations := map[*onnx.Node]*opset.Relations{}
	for n := range d.nodes() {
		if d.inShuffle(n) {
			continue
		}
		r := f.Relations(n)
		relations[n] = r
		for _, a := range r.Derived {
			d.derived[a] = true
		}
	}
	if err := d.label(); err != nil {
		return nil, err
	}
	d.boundaries()
	for n := range d.nodes() {
		switch s := d.shuffles[n]; {
		case blocked[nodeKey(n)] != "":
			d.block(n, blocked[nodeKey(n)])
		case s != nil:
			d.tieShuffle(n, s)
		case relations[n] != nil:
			d.relate(n, relations[n])
		}
	}
	d.settleProducts()
	return d, nil
}

// overridable lists the weights of m that a caller could override.
func overridable(m *onnx.Model) (out []*onnx.Value) {
	for _, v := range m.Graph.Inputs() {
		if v.Const != nil && v.Constant() == nil {
			out = append(out, v)
		}
	}
	return out
}

// initialize makes the constants of m initializers, whose content can be replaced
// in place, and weights that could be overridden constant.
func initialize(m *onnx.Model) error {
	for _, v := range overridable(m) {
		if err := m.Graph.Freeze(v); err != nil {
			return err
		}
	}
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			t := n.Output(0).Constant()
			if !n.Is("Constant") || t == nil {
				continue
			}
			c := *t
			c.Name = m.Fresh(n.Output(0).Name())
			if err := g.Replace(n.Output(0), g.NewConst(&c)); err != nil {
				return err
			}
		}
		g.Sweep()
	}
	return nil
}

// nodeKey names a node so that it is found again in a copy of the model.
func nodeKey(n *onnx.Node) string {
	for _, v := range n.Outputs() {
		if v != nil {
			return v.Name()
		}
	}
	return n.Name
}

// nodes visits the nodes of all graphs but those of function bodies, whose calls
// pin what they read and produce.
func (d *dims) nodes() func(func(*onnx.Node) bool) {
	return func(yield func(*onnx.Node) bool) {
		for _, g := range d.model.Graphs() {
			if g.InFunction() {
				continue
			}
			for n := range g.Nodes() {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// label gives every position of every axis of known size a label.
func (d *dims) label() error {
	total := 0
	for _, g := range d.model.Graphs() {
		if g.InFunction() {
			continue
		}
		for v := range g.Values() {
			if d.hidden(v) {
				continue
			}
			for i, dim := range d.facts.Shape(v) {
				a := opset.Axis{Value: v, Axis: i}
				if !dim.Known() || dim.Value == 0 || dim.Value > maxAxis || d.derived[a] {
					continue
				}
				d.index[a] = len(d.axes)
				d.axes = append(d.axes, axis{a, total, int(dim.Value)})
				if total += int(dim.Value); total > maxPositions {
					return fmt.Errorf("the axes of the model's values have more than %d positions; such a model cannot be pruned by structure", maxPositions)
				}
			}
		}
	}
	d.parent = make([]int32, total)
	for i := range d.parent {
		d.parent[i] = int32(i)
	}
	return nil
}

// boundaries pins what is the only position of its axis, the inputs and outputs of the model and constants that a caller may override.
func (d *dims) boundaries() {
	for i, a := range d.axes {
		if a.size == 1 {
			d.pinAll(i, pin{nil, "an axis of size 1"})
		}
	}
	main := d.model.Graph
	for _, v := range main.Inputs() {
		if v.Constant() == nil {
			d.pinValue(v, pin{nil, fmt.Sprintf("input %q of the model", v.Name())})
		}
	}
	for _, v := range main.Outputs() {
		d.pinValue(v, pin{nil, fmt.Sprintf("output %q of the model", v.Name())})
	}
	for _, g := range d.model.Graphs() {
		for _, v := range g.Initializers() {
			if v.Constant() == nil {
				d.pinValue(v, pin{nil, fmt.Sprintf("%q may be overridden by a caller; freeze it with fuse", v.Name())})
			}
		}
		for _, v := range g.SparseInitializers() {
			d.pinValue(v, pin{nil, fmt.Sprintf("%q is stored sparsely", v.Name())})
		}
		for v := range g.Values() {
			if t := v.Constant(); t != nil && (t.Data == nil || t.DType.Bits() < 8) {
				d.pinValue(v, pin{nil, fmt.Sprintf("%q has elements of type %v", v.Name(), t.DType)})
			}
		}
	}
}

func (d *dims) pinValue(v *onnx.Value, p pin) {
	for i := range d.facts.Shape(v) {
		d.pinAxis(opset.Axis{Value: v, Axis: i}, nil, p)
	}
}

// block pins everything that a node reads and produces.
func (d *dims) block(n *onnx.Node, why string) {
	for _, list := range [][]*onnx.Value{n.Inputs(), n.Outputs()} {
		for _, v := range list {
			if v != nil {
				d.pinValue(v, pin{n, why})
			}
		}
	}
}

// pinAxis pins positions of an axis, all where there is no list.
func (d *dims) pinAxis(a opset.Axis, positions []int, p pin) {
	i, ok := d.index[a]
	if !ok {
		return
	}
	if positions == nil {
		d.pinAll(i, p)
		return
	}
	for _, k := range positions {
		d.pinLabel(int32(d.axes[i].base+k), p)
	}
}

func (d *dims) pinAll(i int, p pin) {
	for k := range d.axes[i].size {
		d.pinLabel(int32(d.axes[i].base+k), p)
	}
}

func (d *dims) pinLabel(l int32, p pin) {
	root := d.find(l)
	if _, done := d.pinned[root]; done {
		return
	}
	if n := len(d.pins); n == 0 || d.pins[n-1] != p {
		d.pins = append(d.pins, p)
	}
	d.pinned[root] = len(d.pins) - 1
}

// relate takes over what is known of a node.
func (d *dims) relate(n *onnx.Node, r *opset.Relations) {
	for _, p := range r.Pins {
		d.pinAxis(p.Axis, p.Positions, pin{n, p.Why})
	}
	for _, t := range r.Ties {
		d.tie(n, t)
	}
	for _, e := range r.Even {
		if i, ok := d.index[e.Axis]; ok && d.axes[i].size%e.Blocks == 0 {
			d.even = append(d.even, even{i, e.Blocks})
		} else {
			d.pinAxis(e.Axis, nil, pin{n, "blocks of unequal size"})
		}
	}
	for _, a := range r.Statistics {
		if i, ok := d.index[a]; ok {
			d.statistics[i] = n
		}
	}
	for _, a := range r.Heads {
		if i, ok := d.index[a]; ok {
			d.heads[i] = true
		}
	}
	for _, p := range r.Products {
		d.addProduct(n, p, r.Virtual)
	}
}

// tie unites the classes of positions that go together.
func (d *dims) tie(n *onnx.Node, t opset.Tie) {
	a, okA := d.index[t.From]
	b, okB := d.index[t.To]
	p := pin{n, n.Op + " ties it to an axis of unknown size"}
	switch {
	case !okA && !okB:
		return
	case !okA:
		d.pinAxis(t.To, nil, p)
		return
	case !okB:
		d.pinAxis(t.From, nil, p)
		return
	}
	x, y := d.axes[a], d.axes[b]
	if t.Index == nil && x.size != y.size || t.Index != nil && len(t.Index) != y.size {
		p.why = n.Op + " has axes of different sizes"
		d.pinAxis(t.From, nil, p)
		d.pinAxis(t.To, nil, p)
		return
	}
	for j := range y.size {
		i := j
		if t.Index != nil {
			i = t.Index[j]
		}
		if i < 0 || i >= x.size {
			d.pinLabel(int32(y.base+j), pin{n, n.Op + " adds the position"})
			continue
		}
		d.unite(int32(x.base+i), int32(y.base+j))
	}
}

func (d *dims) addProduct(n *onnx.Node, p opset.Product, sizes []int) {
	out := product{node: n}
	i, ok := d.index[p.Product]
	if !ok {
		return
	}
	out.product = i
	for _, a := range p.Factors {
		i, ok := d.index[a]
		if a.Value == nil {
			i, ok = d.virtual(n, a.Axis, sizes), true
		}
		if !ok {
			d.pinAxis(p.Product, nil, pin{n, n.Op + " merges it with an axis of unknown size"})
			return
		}
		out.factors = append(out.factors, i)
	}
	d.products = append(d.products, out)
}

// virtual returns the axis of no value that is a factor of axes of a Reshape.
func (d *dims) virtual(n *onnx.Node, k int, sizes []int) int {
	key := virtualKey{n, k}
	if i, ok := d.factors[key]; ok {
		return i
	}
	d.axes = append(d.axes, axis{opset.Axis{Axis: k}, len(d.parent), sizes[k]})
	for range sizes[k] {
		d.parent = append(d.parent, int32(len(d.parent)))
	}
	d.factors[key] = len(d.axes) - 1
	return len(d.axes) - 1
}

// virtualKey names a factor of a node.
type virtualKey struct {
	node *onnx.Node
	k    int
}

// settleProducts decides for every merged axis which of its factors loses
// positions; the others are pinned, and the merged axis loses all positions that
// the factor's takes part in. What follows from pins comes first; where several
// factors are free, the outermost is taken.
func (d *dims) settleProducts() {
	open := d.products
	for len(open) > 0 {
		before := len(open)
		open = slices.DeleteFunc(open, func(p product) bool { return d.settle(p, false) })
		if len(open) == before {
			d.settle(open[0], true)
			open = open[1:]
		}
	}
}

// settle decides one product where it has to be so, or at will.
func (d *dims) settle(p product, atWill bool) bool {
	why := pin{p.node, p.node.Op + " merges it with another axis"}
	var free []int
	for i, a := range p.factors {
		if d.axes[a].size > 1 && !d.allPinned(a) {
			free = append(free, i)
		}
	}
	held := d.allPinned(p.product)
	if !held && len(free) > 1 && !atWill {
		return false
	}
	for i, a := range p.factors {
		if held || len(free) == 0 || i != free[0] {
			d.pinAll(a, why)
		}
	}
	if held || len(free) == 0 {
		d.pinAll(p.product, why)
		return true
	}
	d.spread(p, free[0])
	return true
}

// spread ties each position of a merged axis to that of the chosen factor.
func (d *dims) spread(p product, chosen int) {
	inner := 1
	for _, a := range p.factors[chosen+1:] {
		inner *= d.axes[a].size
	}
	f, x := d.axes[p.factors[chosen]], d.axes[p.product]
	for j := range x.size {
		d.unite(int32(f.base+j/inner%f.size), int32(x.base+j))
	}
}

// allPinned reports whether no position of an axis can go.
func (d *dims) allPinned(i int) bool {
	for k := range d.axes[i].size {
		if _, ok := d.pinned[d.find(int32(d.axes[i].base+k))]; !ok {
			return false
		}
	}
	return true
}

// find returns the root of a label's class.
func (d *dims) find(l int32) int32 {
	for d.parent[l] != l {
		d.parent[l] = d.parent[d.parent[l]]
		l = d.parent[l]
	}
	return l
}

func (d *dims) unite(a, b int32) {
	a, b = d.find(a), d.find(b)
	if a == b {
		return
	}
	if b < a {
		a, b = b, a
	}
	d.parent[b] = a
	if p, ok := d.pinned[b]; ok {
		if _, both := d.pinned[a]; !both {
			d.pinned[a] = p
		}
		delete(d.pinned, b)
	}
}
