package rewrite

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// pattern is a parsed [Rule.Pattern]: an operator call, or a leaf that binds a value.
type pattern struct {
	label    string   // name under which the node or value is bound
	ops      []string // operator alternatives, with domain prefix; nil for a leaf
	args     []*pattern
	optional bool // a leaf that also matches an omitted input
	rest     bool // the call may have more inputs than args
}

// parsePattern reads the pattern language:
//
//	call  = [label "="] op {"|" op} "(" [arg {"," arg}] ["," "..."] ")"
//	arg   = call | name | "?" name | "_"
//
// A name binds a value; the same name twice must be the same value. "?" lets
// the input be omitted. "_" matches any value, also an omitted one. An operator
// outside the standard domain is written with its domain, as in com.microsoft.Gelu.
func parsePattern(s string) (*pattern, error) {
	p := &patternParser{s: s}
	out, err := p.expr()
	if err == nil && p.skip() < len(s) {
		err = fmt.Errorf("unexpected %q", s[p.i:])
	}
	if err == nil && out.ops == nil {
		err = fmt.Errorf("the pattern is not an operator call")
	}
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %v", s, err)
	}
	return out, nil
}

type patternParser struct {
	s string
	i int
}

func (p *patternParser) skip() int {
	for p.i < len(p.s) && unicode.IsSpace(rune(p.s[p.i])) {
		p.i++
	}
	return p.i
}

func (p *patternParser) accept(tok string) bool {
	p.skip()
	if strings.HasPrefix(p.s[p.i:], tok) {
		p.i += len(tok)
		return true
	}
	return false
}

func (p *patternParser) word() string {
	start := p.skip()
	for p.i < len(p.s) && (p.s[p.i] == '_' || p.s[p.i] == '.' || unicode.IsLetter(rune(p.s[p.i])) || unicode.IsDigit(rune(p.s[p.i]))) {
		p.i++
	}
	return p.s[start:p.i]
}

func (p *patternParser) expr() (*pattern, error) {
	optional := p.accept("?")
	word := p.word()
	if word == "" {
		return nil, fmt.Errorf("want a name at %q", p.s[p.i:])
	}
	out := &pattern{label: word, optional: optional || word == "_"}
	if p.accept("=") {
		word = p.word()
		out.ops = []string{word}
	}
	for p.accept("|") {
		if out.ops == nil {
			out.ops, out.label = []string{word}, ""
		}
		out.ops = append(out.ops, p.word())
	}
	if !p.accept("(") {
		if out.ops != nil {
			return nil, fmt.Errorf("operator %q without arguments", word)
		}
		return out, nil
	}
	if out.ops == nil {
		out.ops, out.label = []string{word}, ""
	}
	return out, p.arguments(out)
}

func (p *patternParser) arguments(out *pattern) error {
	if p.accept(")") {
		return nil
	}
	for {
		if p.accept("...") {
			out.rest = true
			if !p.accept(")") {
				return fmt.Errorf("want the closing parenthesis after the dots")
			}
			return nil
		}
		arg, err := p.expr()
		if err != nil {
			return err
		}
		out.args = append(out.args, arg)
		switch {
		case p.accept(")"):
			return nil
		case !p.accept(","):
			return fmt.Errorf("want , or ) at %q", p.s[p.i:])
		}
	}
}

// opName returns how the pattern language writes n's operator.
func opName(n *onnx.Node) string {
	if d := onnx.NormalDomain(n.Domain); d != "" {
		return d + "." + n.Op
	}
	return n.Op
}

// bindings are what the names of a pattern stand for in a match.
type bindings struct {
	values map[string]*onnx.Value
	nodes  map[string]*onnx.Node
	all    []*onnx.Node // matched nodes, root first
	// swapped says that the root's inputs are matched in the other order.
	swapped bool
}

// commutative reports whether a two-input operator may have its inputs exchanged.
type commutative func(op string) bool

// matches returns what p can bind at n: nothing, one match, or two where the
// inputs of a commutative root fit either way.
func (p *pattern) matches(n *onnx.Node, comm commutative) []*bindings {
	var out []*bindings
	for _, swap := range []bool{false, true} {
		if swap && !(len(p.args) == 2 && len(n.Inputs()) == 2 && comm(opName(n))) {
			break
		}
		b := &bindings{values: map[string]*onnx.Value{}, nodes: map[string]*onnx.Node{}, swapped: swap}
		if p.fits(n) && p.try(n, b, comm, swap) {
			out = append(out, b)
		}
	}
	return out
}

// fits reports whether n is the operator of p with no more inputs than p names.
func (p *pattern) fits(n *onnx.Node) bool {
	if n == nil || n.Graph() == nil || !p.names(opName(n)) {
		return false
	}
	if in := n.Inputs(); len(in) > len(p.args) && !p.rest {
		for _, v := range in[len(p.args):] {
			if v != nil {
				return false
			}
		}
	}
	return true
}

// node matches p below the root: the first order of commutative inputs that fits.
func (p *pattern) node(n *onnx.Node, b *bindings, comm commutative) bool {
	if !p.fits(n) {
		return false
	}
	saved := b.save()
	if p.try(n, b, comm, false) {
		return true
	}
	b.restore(saved)
	if len(p.args) == 2 && len(n.Inputs()) == 2 && comm(opName(n)) {
		if p.try(n, b, comm, true) {
			return true
		}
		b.restore(saved)
	}
	return false
}

// try binds n and its inputs, the first two exchanged if swap.
func (p *pattern) try(n *onnx.Node, b *bindings, comm commutative, swap bool) bool {
	b.all = append(b.all, n)
	if p.label != "" && p.label != "_" {
		b.nodes[p.label] = n
	}
	return p.inputs(n, b, comm, swap)
}

func (p *pattern) names(op string) bool {
	for _, o := range p.ops {
		if o == op {
			return true
		}
	}
	return false
}

// inputs matches the arguments of p with n's inputs, the first two exchanged if swap.
func (p *pattern) inputs(n *onnx.Node, b *bindings, comm commutative, swap bool) bool {
	for i, arg := range p.args {
		k := i
		if swap {
			k = 1 - i
		}
		if !arg.value(n.Input(k), b, comm) {
			return false
		}
	}
	return true
}

func (p *pattern) value(v *onnx.Value, b *bindings, comm commutative) bool {
	if p.ops != nil {
		return v != nil && v.Index() == 0 && p.node(v.Producer(), b, comm)
	}
	if v == nil {
		return p.optional
	}
	if p.label == "_" {
		return true
	}
	if old, bound := b.values[p.label]; bound {
		return old == v
	}
	b.values[p.label] = v
	return true
}

// place says which nodes below the root matched; where there are none, in which
// order its inputs.
func (b *bindings) place() []string {
	var out []string
	for _, n := range b.all[1:] {
		out = append(out, nodeLabel(n))
	}
	if b.swapped && len(out) == 0 {
		out = append(out, "swapped")
	}
	return out
}

// save and restore undo bindings of an attempt that failed.
func (b *bindings) save() *bindings {
	c := &bindings{values: map[string]*onnx.Value{}, nodes: map[string]*onnx.Node{}, all: b.all[:len(b.all):len(b.all)]}
	for k, v := range b.values {
		c.values[k] = v
	}
	for k, n := range b.nodes {
		c.nodes[k] = n
	}
	return c
}

func (b *bindings) restore(c *bindings) {
	d := c.save()
	b.values, b.nodes, b.all = d.values, d.nodes, d.all
}
