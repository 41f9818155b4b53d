package eval

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// recurrentOperators are the recurrent layers.
func recurrentOperators() []operator {
	const attrs = "activations direction hidden_size layout"
	return []operator{
		{"RNN", 7, latest, attrs, func(c *call) []*array { return c.recurrent(1, rnnStep, "Tanh") }},
		{"GRU", 7, latest, attrs + " linear_before_reset", func(c *call) []*array { return c.recurrent(3, gruStep, "Sigmoid", "Tanh") }},
		{"LSTM", 7, latest, attrs + " input_forget", func(c *call) []*array { return c.recurrent(4, lstmStep, "Sigmoid", "Tanh", "Tanh") }},
	}
}

// recurrence is one direction of a recurrent layer of h units and gates. The
// weights are w [gates·h, in], r [gates·h, h] and bias, those of w then of r.
type recurrence struct {
	h, in, gates int
	w, r, bias   []float64
	peep         []float64 // of the gates i, o and f; nil for none
	act          []func(float64) float64
	linear       bool // GRU: multiply by r before the reset
	coupled      bool // LSTM: the forget gate is what the input gate leaves
}

// step computes the next hidden and cell state of one batch element in place.
type step func(l *recurrence, x, h, cell []float64)

// row multiplies row i of a matrix with as many columns as v has elements.
func row(m []float64, i int, v []float64) float64 {
	sum := 0.0
	for k, x := range v {
		sum += m[i*len(v)+k] * x
	}
	return sum
}

// gate returns what gate g of unit j adds up to.
func (l *recurrence) gate(g, j int, x, h []float64) float64 {
	i := g*l.h + j
	return row(l.w, i, x) + row(l.r, i, h) + l.bias[i] + l.bias[l.gates*l.h+i]
}

func rnnStep(l *recurrence, x, h, _ []float64) {
	old := slices.Clone(h)
	for j := range h {
		h[j] = l.act[0](l.gate(0, j, x, old))
	}
}

// gruStep: the gates are z (update), r (reset) and h (new).
func gruStep(l *recurrence, x, h, _ []float64) {
	old, reset := slices.Clone(h), make([]float64, l.h)
	for j := range h {
		reset[j] = l.act[0](l.gate(1, j, x, old))
	}
	kept := make([]float64, l.h)
	for j := range kept {
		kept[j] = reset[j] * old[j]
	}
	for j := range h {
		z, i := l.act[0](l.gate(0, j, x, old)), 2*l.h+j
		sum := row(l.w, i, x) + l.bias[i]
		if back := l.bias[l.gates*l.h+i]; l.linear {
			sum += reset[j] * (row(l.r, i, old) + back)
		} else {
			sum += row(l.r, i, kept) + back
		}
		h[j] = (1-z)*l.act[1](sum) + z*old[j]
	}
}

// lstmStep: the gates are i (input), o (output), f (forget) and c (cell).
func lstmStep(l *recurrence, x, h, cell []float64) {
	old := slices.Clone(h)
	for j := range h {
		peep := func(k int, c float64) float64 {
			if l.peep == nil {
				return 0
			}
			return l.peep[k*l.h+j] * c
		}
		i := l.act[0](l.gate(0, j, x, old) + peep(0, cell[j]))
		f := 1 - i
		if !l.coupled {
			f = l.act[0](l.gate(2, j, x, old) + peep(2, cell[j]))
		}
		cell[j] = f*cell[j] + i*l.act[1](l.gate(3, j, x, old))
		o := l.act[0](l.gate(1, j, x, old) + peep(1, cell[j]))
		h[j] = o * l.act[2](cell[j])
	}
}

// recurrent runs a layer of so many gates; defaults name its activations.
func (c *call) recurrent(gates int, f step, defaults ...string) []*array {
	x, w, r := c.input(0), c.input(1), c.input(2)
	c.sameFloats(x, w, r, c.opt(3), c.opt(5))
	if c.int("layout", 0) != 0 {
		c.unsupported("batches first")
	}
	if x.rank() != 3 || w.rank() != 3 || r.rank() != 3 {
		c.fail("input %v, weights %v and %v", x.shape, w.shape, r.shape)
	}
	steps, batch, dirs, h := x.shape[0], x.shape[1], w.shape[0], r.shape[2]
	if !slices.Equal(w.shape, []int64{dirs, int64(gates) * h, x.shape[2]}) || !slices.Equal(r.shape, []int64{dirs, int64(gates) * h, h}) {
		c.fail("input %v, weights %v and %v", x.shape, w.shape, r.shape)
	}
	back := c.directions(dirs)
	shape, state := []int64{steps, dirs, batch, h}, []int64{dirs, batch, h}
	c.count(x.dt, shape)
	c.work(steps, dirs, batch, int64(gates)*h, x.shape[2]+h)
	hidden, cells := c.initial(5, state), c.initial(6, state)
	out, v, lengths := make([]float64, product(shape)), load[float64](x), c.lengths(steps, batch)
	in, n := int(x.shape[2]), int(h)
	for d := range int(dirs) {
		l := c.direction(d, gates, n, in, defaults)
		for b := range int(batch) {
			at := (d*int(batch) + b) * n
			for i := range lengths[b] {
				t := i
				if back[d] {
					t = lengths[b] - 1 - i
				}
				row := (t*int(batch) + b) * in
				f(l, v[row:row+in], hidden[at:at+n], cells[at:at+n])
				copy(out[((t*int(dirs)+d)*int(batch)+b)*n:], hidden[at:at+n])
			}
		}
	}
	results := []*array{store(c, x.dt, shape, out), store(c, x.dt, state, hidden)}
	if gates == 4 {
		results = append(results, store(c, x.dt, state, cells))
	}
	return results
}

// directions says of each direction whether it runs backwards.
func (c *call) directions(n int64) []bool {
	name := c.str("direction", "forward")
	back := map[string][]bool{"forward": {false}, "reverse": {true}, "bidirectional": {false, true}}[name]
	if int64(len(back)) != n {
		c.fail("direction %q with weights for %d directions", name, n)
	}
	return back
}

// initial returns the elements of input i, a state, or zeros.
func (c *call) initial(i int, state []int64) []float64 {
	if c.opt(i) == nil || i == 6 && c.n.Op != "LSTM" {
		return make([]float64, product(state))
	}
	if !slices.Equal(c.opt(i).shape, state) {
		c.fail("input %d: want shape %v, have %v", i, state, c.opt(i).shape)
	}
	return slices.Clone(load[float64](c.opt(i)))
}

// lengths returns how many steps each batch element takes.
func (c *call) lengths(steps, batch int64) []int {
	out := slices.Repeat([]int{int(steps)}, int(batch))
	if c.opt(4) == nil {
		return out
	}
	given := c.intInput(4)
	if int64(len(given)) != batch {
		c.fail("%d lengths for a batch of %d", len(given), batch)
	}
	for i, n := range given {
		if n < 0 || n > steps {
			c.fail("a length of %d for %d steps", n, steps)
		}
		out[i] = int(n)
	}
	return out
}

// direction reads the weights and attributes of direction d.
func (c *call) direction(d, gates, h, in int, defaults []string) *recurrence {
	l := &recurrence{h: h, in: in, gates: gates, bias: make([]float64, 2*gates*h),
		linear: c.int("linear_before_reset", 0) != 0, coupled: c.int("input_forget", 0) != 0}
	cut := func(a *array) []float64 {
		n := a.len() / int(c.input(1).shape[0])
		return load[float64](a)[d*n : (d+1)*n]
	}
	l.w, l.r = cut(c.input(1)), cut(c.input(2))
	if b := c.opt(3); b != nil {
		if l.bias = cut(b); b.rank() != 2 || len(l.bias) != 2*gates*h || int(b.shape[1]) != 2*gates*h {
			c.fail("a bias of shape %v", b.shape)
		}
	}
	if p := c.opt(7); p != nil {
		if l.peep = cut(p); len(l.peep) != 3*h {
			c.fail("peepholes of shape %v", p.shape)
		}
	}
	names := defaults
	if a := c.typed("activations", onnx.AttrStrings); a != nil {
		if len(a.Strings) < (d+1)*len(defaults) {
			c.fail("%d activations", len(a.Strings))
		}
		names = nil
		for _, s := range a.Strings[d*len(defaults) : (d+1)*len(defaults)] {
			names = append(names, string(s))
		}
	}
	for _, name := range names {
		if name != "Sigmoid" && name != "Tanh" && name != "Relu" {
			c.unsupported("activation %q", name)
		}
		l.act = append(l.act, c.activation(name))
	}
	return l
}
