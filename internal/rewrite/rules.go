package rewrite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// rules is a pass over a list of rules.
type rules struct {
	name string
	list []compiled
	byOp map[string][]int // rules by the operators their root can be
}

type compiled struct {
	Rule
	pattern *pattern
}

// Rules returns a pass that applies list everywhere in a model until none
// fires. Earlier rules go first at each node. It fails on a malformed pattern
// or a name given twice.
func Rules(name string, list []Rule) (Pass, error) {
	r := &rules{name: name, byOp: map[string][]int{}}
	seen := map[string]bool{}
	for _, rule := range list {
		if rule.Name == "" || rule.Doc == "" || rule.Rewrite == nil || seen[rule.Name] {
			return nil, fmt.Errorf("rule %q: it needs a name of its own, a doc and a rewrite", rule.Name)
		}
		seen[rule.Name] = true
		for _, s := range strings.Split(rule.Pattern, ";") {
			p, err := parsePattern(strings.TrimSpace(s))
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", rule.Name, err)
			}
			for _, op := range p.ops {
				r.byOp[op] = append(r.byOp[op], len(r.list))
			}
			r.list = append(r.list, compiled{rule, p})
		}
	}
	return r, nil
}

func (r *rules) Name() string { return r.name }

// Run makes one continuing scan: nodes wait in a queue, and a firing puts only
// its neighbourhood back. Time is linear in the number of nodes and firings.
func (r *rules) Run(ctx context.Context, m *onnx.Model, e *Env) error {
	q := newQueue()
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			q.push(n)
		}
	}
	budget := 20*q.len() + 1000
	for steps := 0; ; steps++ {
		n := q.pop()
		if n == nil || e.Exhausted() {
			return nil
		}
		if steps%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if n.Graph() == nil {
			continue
		}
		fired, err := r.visit(n, q, e)
		if err != nil {
			return err
		}
		if fired {
			if budget--; budget < 0 {
				return fmt.Errorf("the rules undo each other: %s fire in turn", lastRules(e.Log, 6))
			}
		}
	}
}

// Names returns the names of the rules.
func (r *rules) Names() []string {
	var out []string
	for _, rule := range r.list {
		out = append(out, rule.Name)
	}
	return slices.Compact(out)
}

// visit tries the rules at n until one fires.
func (r *rules) visit(n *onnx.Node, q *queue, e *Env) (bool, error) {
	read := map[any]any{}
	for _, i := range r.byOp[opName(n)] {
		rule := &r.list[i]
		if !e.allows(r, rule.Name) {
			continue
		}
		var first error // why the first way to match was declined
		for _, b := range rule.pattern.matches(n, isCommutative) {
			err := r.fire(rule, &Match{Root: n, Facts: e.Facts, b: b, read: read}, q, e)
			if err == nil {
				return true, nil
			}
			if errors.Is(err, ErrNotHere) || errors.Is(err, errLeftOut) {
				continue
			}
			if _, no := declined(err); !no {
				return false, fmt.Errorf("rule %s at %v: %w", rule.Name, n, err)
			}
			if first == nil {
				first = err
			}
		}
		if first != nil {
			e.Decline(rule.Name, n, "%v", first)
		}
	}
	return false, nil
}

// errLeftOut is why a rule that applies does not fire: it was asked not to.
var errLeftOut = errors.New("left out")

// fire asks the rule for a patch and applies it; the error is a [Declined]
// where there is none.
func (r *rules) fire(rule *compiled, m *Match, q *queue, e *Env) error {
	n, b := m.Root, m.b
	p := &Patch{graph: n.Graph(), root: n, rule: rule.Name}
	err := b.settled()
	if err == nil {
		err = rule.Rewrite(m, p)
	}
	if err == nil && len(p.swaps) == 0 {
		err = Decline("nothing to change")
	}
	if err == nil {
		err = p.admissible(e.Facts)
	}
	if err == nil && !e.Allow(rule.Name, n, b.place()...) {
		err = errLeftOut
	}
	if err != nil {
		return err
	}
	return r.apply(rule, n, b, p, q, e)
}

// settled declines where an attribute of a matched node is a reference that
// each caller of the function fills in differently.
func (b *bindings) settled() error {
	for _, n := range b.all {
		for _, a := range n.Attrs {
			if a.Ref != "" {
				return Decline("attribute %q of %v is given by the caller of the function", a.Name, n)
			}
		}
	}
	return nil
}

// isCommutative reports whether the first two inputs of an operator, written as
// in patterns, may be exchanged.
func isCommutative(op string) bool {
	domain, name := "", op
	if i := strings.LastIndex(op, "."); i >= 0 {
		domain, name = op[:i], op[i+1:]
	}
	row := opset.Lookup(domain, name, math.MaxInt32)
	return row != nil && row.Commutative()
}

// admissible checks that the patch keeps types and shapes, and gives the new
// values their types.
func (p *Patch) admissible(facts *opset.Facts) error {
	for _, n := range p.nodes {
		facts.Infer(n)
	}
	for _, s := range p.swaps {
		if s.old.IsOutput() {
			if err := takeable(s.old, s.new); err != nil {
				return err
			}
		}
		for _, old := range []*onnx.Type{facts.Type(s.old), s.old.Type} {
			if made := facts.Type(s.new); made.Contradicts(old) {
				return Decline("the result would be %v instead of %v", made, old)
			}
		}
		if p.proposes(s.new) && s.old.Producer() != p.root && p.reads(s.old) {
			return Decline("it would read %q, which it computes", s.old.Name())
		}
		if p.proposes(s.new) && (s.new.Type == nil || s.old.Type != nil && s.old.IsOutput()) {
			s.new.Type = s.old.Type
		}
	}
	return nil
}

// mostBehind bounds the nodes among which a value is looked for that takes part in computing another one.
const mostBehind = 64

// reads reports whether a new node reads old or, within few nodes, what is computed of it. Patches that swap
// more than what their root computes could close a circle so.
func (p *Patch) reads(old *onnx.Value) bool {
	queue := append([]*onnx.Node(nil), p.nodes...)
	seen := map[*onnx.Node]bool{}
	for i := 0; i < len(queue) && i < mostBehind; i++ {
		for _, v := range queue[i].Inputs() {
			if v != nil && v == old {
				return true
			}
			if n := v.Producer(); n != nil && !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
	}
	return false
}

// proposes reports whether v is an output of a new node.
func (p *Patch) proposes(v *onnx.Value) bool {
	for _, n := range p.nodes {
		if v.Producer() == n {
			return true
		}
	}
	return false
}

// takeable declines where v cannot take the place of graph output old.
func takeable(old, v *onnx.Value) error {
	switch {
	case v.IsInput():
		return Decline("output %q cannot be the graph input %q", old.Name(), v.Name())
	case v.IsOutput():
		return Decline("output %q cannot share the value of output %q", old.Name(), v.Name())
	case v.Graph() != nil && v.Graph() != old.Graph():
		return Decline("output %q cannot be a value of an enclosing graph", old.Name())
	}
	return nil
}

// apply puts the patch into the graph, sweeps, and queues the neighbourhood.
func (r *rules) apply(rule *compiled, root *onnx.Node, b *bindings, p *Patch, q *queue, e *Env) error {
	site := e.At(rule.Name, root, b.place()...)
	for _, v := range p.consts {
		p.graph.Attach(v)
	}
	for _, n := range p.nodes {
		p.graph.InsertBefore(n, root)
		p.importDomain(n)
	}
	for _, s := range p.swaps {
		for _, u := range s.old.Uses() {
			q.push(u.Node)
		}
		if err := p.graph.Replace(s.old, s.new); err != nil {
			return err
		}
	}
	var removed []*onnx.Node
	for _, n := range append(p.replaced(), b.all...) {
		for _, gone := range p.graph.SweepFrom(n) {
			removed = append(removed, gone)
			q.pushProducers(gone)
		}
	}
	for _, n := range p.nodes {
		q.push(n)
		q.pushProducers(n)
		for _, v := range n.Outputs() {
			if v == nil {
				continue
			}
			for _, u := range v.Uses() {
				q.push(u.Node)
			}
		}
	}
	return e.record(account(rule.Name, removed, p.nodes, e.Facts), site)
}

// replaced returns the nodes whose outputs the patch swaps: a rule may replace
// what lies behind the nodes that its pattern names.
func (p *Patch) replaced() []*onnx.Node {
	var out []*onnx.Node
	for _, s := range p.swaps {
		if n := s.old.Producer(); n != nil && n.Graph() == p.graph {
			out = append(out, n)
		}
	}
	return out
}

// importDomain makes the model, or the function whose body is rewritten, import
// the domain of n, which the standard operators have already.
func (p *Patch) importDomain(n *onnx.Node) {
	d := onnx.NormalDomain(n.Domain)
	if d == "" || n.OpsetVersion(d) > 0 {
		return
	}
	if f := p.graph.Function(); f != nil {
		f.Opsets = append(f.Opsets, onnx.Opset{Domain: d, Version: 1})
	}
	p.graph.Model().ImportOpset(d, 1)
}

// queue holds nodes to visit, each at most once at a time, first in first out.
type queue struct {
	nodes []*onnx.Node
	head  int
	in    map[*onnx.Node]bool
}

func newQueue() *queue { return &queue{in: map[*onnx.Node]bool{}} }

func (q *queue) len() int { return len(q.nodes) - q.head }

func (q *queue) push(n *onnx.Node) {
	if n != nil && n.Graph() != nil && !q.in[n] {
		q.in[n] = true
		q.nodes = append(q.nodes, n)
	}
}

// pushProducers queues the nodes that n reads from.
func (q *queue) pushProducers(n *onnx.Node) {
	for _, v := range n.Inputs() {
		if v != nil {
			q.push(v.Producer())
		}
	}
}

func (q *queue) pop() *onnx.Node {
	if q.head == len(q.nodes) {
		return nil
	}
	n := q.nodes[q.head]
	q.nodes[q.head] = nil
	q.head++
	delete(q.in, n)
	return n
}
