package opset

import (
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// linalgRows are the products and decompositions beside MatMul and Gemm.
func linalgRows() []row {
	return []row{
		{"Einsum", "12", "Inputs+", "Output", "equation:string!", 0, inferEinsum, costEinsum},
		{"Det", "11 22", "X", "Y", "", 0, inferDet, nil},
	}
}

// equation is a parsed Einsum equation: the labels of each input and of the
// output; '.' stands for the ellipsis.
type equation struct {
	in  []string
	out string
}

// parseEquation reads an equation; an implicit output has the ellipsis first,
// then the labels that occur once, in order. False where it is malformed.
func parseEquation(s string) (equation, bool) {
	s = strings.ReplaceAll(strings.ReplaceAll(s, " ", ""), "...", ".")
	left, out, explicit := strings.Cut(s, "->")
	e := equation{in: strings.Split(left, ","), out: out}
	for _, part := range append(slices.Clone(e.in), out) {
		if strings.Count(part, ".") > 1 || len(part) > maxRank {
			return e, false
		}
		for _, r := range part {
			if r != '.' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				return e, false
			}
		}
	}
	if explicit {
		return e, true
	}
	joined := strings.Join(e.in, "")
	if strings.Contains(joined, ".") {
		e.out = "."
	}
	var once []byte
	for i := range len(joined) {
		if joined[i] != '.' && strings.Count(joined, joined[i:i+1]) == 1 {
			once = append(once, joined[i])
		}
	}
	slices.Sort(once)
	e.out += string(once)
	return e, true
}

// labels assigns a dimension to every label of the inputs, '.' to the
// broadcast ellipsis; false where shapes do not fit the equation.
func (c *call) labels(e equation) (map[byte]onnx.Shape, bool) {
	dims := map[byte]onnx.Shape{}
	for i, part := range e.in {
		s := c.shape(i)
		plain := len(strings.ReplaceAll(part, ".", ""))
		if s == nil || len(s) < plain || plain == len(part) && len(s) != plain {
			return nil, false
		}
		for j := range len(part) {
			n := 1
			if part[j] == '.' {
				n = len(s) - plain
			}
			d := append(onnx.Shape{}, s[:n]...)
			s = s[n:]
			if old, seen := dims[part[j]]; seen {
				if d = c.broadcast(old, d); d == nil {
					return nil, false
				}
			}
			dims[part[j]] = d
		}
	}
	return dims, true
}

func inferEinsum(c *call) {
	e, ok := parseEquation(c.str("equation"))
	c.set(0, c.elem(0), nil)
	if !ok || len(e.in) != len(c.n.Inputs()) {
		return
	}
	dims, ok := c.labels(e)
	if !ok {
		return
	}
	out := onnx.Shape{}
	for i := range len(e.out) {
		d, ok := dims[e.out[i]]
		if !ok && e.out[i] != '.' {
			return
		}
		out = append(out, d...)
	}
	c.set(0, c.elem(0), out)
}

// costEinsum counts one MAC per point of the index space for each product of
// inputs; a single input is only moved and added.
func costEinsum(c *costing) {
	e, ok := parseEquation(c.str("equation"))
	if !ok || len(e.in) != len(c.n.Inputs()) {
		c.unknown = true
		return
	}
	dims, ok := c.labels(e)
	if !ok {
		c.unknown = true
		return
	}
	n := constant(1)
	for _, d := range dims {
		n = c.times(n, c.count(d))
	}
	if len(e.in) == 1 {
		c.cost.FLOPs = n
		return
	}
	c.cost.MACs = c.times(n, constant(int64(len(e.in)-1)))
}

func inferDet(c *call) {
	s := c.shape(0)
	if len(s) < 2 {
		c.set(0, c.elem(0), nil)
		return
	}
	c.set(0, c.elem(0), append(onnx.Shape{}, s[:len(s)-2]...))
}
