package opset

import (
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// symbols gives every dimension string of one model its expression.
type symbols struct {
	byText map[string]*expr
	plain  map[string]bool // the model's symbols that are plain identifiers
	fixed  map[string]int64
	fresh  int
}

func newSymbols(fixed map[string]int64) *symbols {
	return &symbols{byText: map[string]*expr{}, plain: map[string]bool{}, fixed: fixed}
}

// meaningless are the dim_param strings that exporters write for "not known";
// two dimensions that share one are not equal.
var meaningless = map[string]bool{"?": true, "None": true, "none": true, "-1": true, "unknown": true, "*": true}

// Named reports whether a dimension has a symbol that stands for one size
// wherever it occurs, and not for an unknown one.
func Named(d onnx.Dim) bool { return !d.Known() && d.Param != "" && !meaningless[d.Param] }

// learn notes the symbols of a type, so that expressions over them are recognised.
func (s *symbols) learn(t *onnx.Type) {
	for ; t != nil; t = t.Of {
		for _, d := range t.Shape {
			if !d.Known() && isIdentifier(d.Param) {
				s.plain[d.Param] = true
			}
		}
	}
}

// expr returns the expression of a dimension; nil where it is unknown.
func (s *symbols) expr(d onnx.Dim) *expr {
	if d.Known() {
		return constant(d.Value)
	}
	if d.Param == "" || meaningless[d.Param] {
		return nil
	}
	if e, ok := s.byText[d.Param]; ok {
		return e
	}
	e := s.parse(d.Param)
	s.byText[d.Param] = e
	return e
}

// parse reads a symbol of the model. It is taken as an expression only where
// every name in it is a symbol that the model also uses alone, so that a name
// such as "batch-size" stays a name.
func (s *symbols) parse(text string) *expr {
	if n, ok := s.fixed[text]; ok {
		return constant(n)
	}
	if !isIdentifier(text) {
		p := parser{s: s, rest: text}
		if e := p.sum(0); e != nil && p.rest == "" && !p.failed {
			return e
		}
	}
	return s.symbol(text, 0, 1)
}

// symbol returns the atom of a name.
func (s *symbols) symbol(name string, fresh int, least int64) *expr {
	if !isIdentifier(name) {
		name = "{" + strings.NewReplacer("{", "(", "}", ")").Replace(name) + "}"
	}
	return ofAtom(&atom{kind: symbolAtom, name: name, fresh: fresh, least: least})
}

// unknown returns a fresh symbol, for a size that is not known but may recur.
func (s *symbols) unknown(least int64) *expr {
	for {
		s.fresh++
		name := "unk" + strconv.Itoa(s.fresh)
		if _, used := s.byText[name]; !used && !s.plain[name] {
			e := s.symbol(name, s.fresh, least)
			s.byText[name] = e
			return e
		}
	}
}

// dim returns the dimension that e is, unknown where e is unknown or negative.
func (s *symbols) dim(e *expr) onnx.Dim {
	if e == nil {
		return onnx.Symbol("")
	}
	if n, ok := e.known(); ok {
		if n < 0 {
			return onnx.Symbol("")
		}
		return onnx.Fixed(n)
	}
	if _, ok := s.byText[e.text]; !ok {
		s.byText[e.text] = e
	}
	return onnx.Symbol(e.text)
}

// isIdentifier reports whether name reads as one symbol inside an expression.
func isIdentifier(name string) bool {
	if name == "" || name[0] >= '0' && name[0] <= '9' || meaningless[name] {
		return false
	}
	return !strings.ContainsAny(name, "+-*/(),{} \t\n")
}

// parser reads the notation that expressions are printed in.
type parser struct {
	s      *symbols
	rest   string
	failed bool
}

func (p *parser) next(c byte) bool {
	if p.rest != "" && p.rest[0] == c {
		p.rest = p.rest[1:]
		return true
	}
	return false
}

func (p *parser) fail() *expr {
	p.failed = true
	return nil
}

// sum reads terms joined by + and -.
func (p *parser) sum(depth int) *expr {
	if depth > maxDepth {
		return p.fail()
	}
	minus := p.next('-')
	e := p.product(depth)
	if minus {
		e = neg(e)
	}
	for !p.failed {
		switch {
		case p.next('+'):
			e = add(e, p.product(depth))
		case p.next('-'):
			e = sub(e, p.product(depth))
		default:
			return e
		}
	}
	return nil
}

// product reads factors joined by * and /.
func (p *parser) product(depth int) *expr {
	e := p.factor(depth)
	for !p.failed {
		switch {
		case p.next('*'):
			e = mul(e, p.factor(depth))
		case p.next('/'):
			e = quotient(e, p.factor(depth))
		default:
			return e
		}
	}
	return nil
}

// factor reads a number, a name, a function call or a parenthesis.
func (p *parser) factor(depth int) *expr {
	if p.next('(') {
		e := p.sum(depth + 1)
		if !p.next(')') {
			return p.fail()
		}
		return e
	}
	if p.next('{') {
		name, rest, ok := strings.Cut(p.rest, "}")
		if !ok {
			return p.fail()
		}
		p.rest = rest
		return p.s.symbol(name, 0, 1)
	}
	i := strings.IndexAny(p.rest, "+-*/(),{} \t\n")
	if i < 0 {
		i = len(p.rest)
	}
	word := p.rest[:i]
	p.rest = p.rest[i:]
	if n, err := strconv.ParseInt(word, 10, 64); err == nil {
		return constant(n)
	}
	if p.next('(') {
		return p.call(word, depth)
	}
	if !p.s.plain[word] {
		return p.fail()
	}
	return p.s.expr(onnx.Symbol(word))
}

// call reads the arguments of floor, trunc, max or min.
func (p *parser) call(name string, depth int) *expr {
	var e *expr
	switch name {
	case "floor", "trunc":
		a := p.factor(depth + 1)
		if p.failed || !p.next('/') {
			return p.fail()
		}
		b := p.factor(depth + 1)
		if name == "floor" {
			e = floorDiv(a, b)
		} else {
			e = truncDiv(a, b)
		}
	case "max", "min":
		a := p.sum(depth + 1)
		if p.failed || !p.next(',') {
			return p.fail()
		}
		b := p.sum(depth + 1)
		if name == "max" {
			e = maximum(a, b)
		} else {
			e = minimum(a, b)
		}
	default:
		return p.fail()
	}
	if p.failed || !p.next(')') {
		return p.fail()
	}
	return e
}
