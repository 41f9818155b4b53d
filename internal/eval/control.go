package eval

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// controlOperators run the graphs in their attributes.
func controlOperators() []operator {
	return []operator{
		{"If", 1, latest, "then_branch else_branch", ifElse},
		{"Loop", 1, latest, "body", loop},
		{"Scan", 9, latest, "body num_scan_inputs scan_input_axes scan_input_directions scan_output_axes scan_output_directions", scan},
	}
}

// truth returns the one element of a Bool array.
func (c *call) truth(a *array, what string) bool {
	if a == nil || a.dt != onnx.Bool || a.len() != 1 {
		c.fail("%s is not one bool", what)
	}
	return a.raw[0] != 0
}

func ifElse(c *call) []*array {
	branch := "else_branch"
	if c.truth(c.input(0), "the condition") {
		branch = "then_branch"
	}
	return c.body(c.graphAttr(branch), nil)
}

// loop runs its body up to M times while the condition holds. Outputs are the
// carried values, then each scan output stacked over the iterations.
func loop(c *call) []*array {
	body := c.graphAttr("body")
	limit := int64(1<<63 - 1)
	if c.opt(0) != nil {
		limit = c.scalar(0)
	}
	cond := c.opt(1) == nil || c.truth(c.opt(1), "the condition")
	carried := slices.Clone(c.in[min(2, len(c.in)):])
	scans := len(body.Outputs()) - 1 - len(carried)
	if scans < 0 || len(body.Inputs()) != 2+len(carried) {
		c.fail("the body has %d inputs and %d outputs for %d carried values", len(body.Inputs()), len(body.Outputs()), len(carried))
	}
	stacks := make([][]*array, scans)
	for i := int64(0); i < limit && cond; i++ {
		args := append([]*array{c.int64s(nil, []int64{i}), store(c, onnx.Bool, nil, []int64{1})}, carried...)
		out := c.body(body, args)
		cond = c.truth(out[0], "the condition")
		carried = out[1 : 1+len(carried)]
		for k, a := range out[1+len(carried):] {
			if a == nil {
				c.fail("scan output %d has no value", k)
			}
			stacks[k] = append(stacks[k], a)
			c.charge(a.bytes(), 1)
		}
	}
	out := slices.Clone(carried)
	for k, list := range stacks {
		out = append(out, c.stack(list, 0, body.Outputs()[1+len(carried)+k]))
	}
	return out
}

// stack joins arrays of one shape along a new axis; declared gives the type
// where there are none.
func (c *call) stack(list []*array, axis int64, declared *onnx.Value) *array {
	if len(list) == 0 {
		shape, ok := declared.Shape().Static()
		if !ok || !declared.DType().Valid() || axis != 0 {
			c.unsupported("no iteration ran, and the type of %q is not known", declared.Name())
		}
		return c.blank(&array{dt: declared.DType(), wide: c.wideZeros(declared.DType())}, slices.Concat([]int64{0}, shape))
	}
	first := list[0]
	if first.seq != nil || first.absent {
		c.unsupported("scan outputs that are sequences or optional values")
	}
	at := c.axis(axis, first.rank()+1)
	for _, a := range list {
		if a.dt != first.dt || !slices.Equal(a.shape, first.shape) {
			c.fail("a scan output changes from %v%v to %v%v", first.dt, first.shape, a.dt, a.shape)
		}
	}
	out := c.blank(first, slices.Insert(slices.Clone(first.shape), at, int64(len(list))))
	inner := product(first.shape[at:])
	for k, a := range list {
		for o := range product(first.shape[:at]) {
			copyElems(out, (o*len(list)+k)*inner, a, o*inner, inner)
		}
	}
	return out
}

// wideZeros returns an empty wide content where dt is kept wide, else nil.
func (c *call) wideZeros(dt onnx.DType) []float64 {
	if c.r.wide && dt.IsFloat() {
		return []float64{}
	}
	return nil
}

// scan runs its body over slices of its last inputs.
func scan(c *call) []*array {
	body := c.graphAttr("body")
	m := int(c.int("num_scan_inputs", 0))
	if m < 1 || m > len(c.in) || len(body.Inputs()) != len(c.in) {
		c.fail("num_scan_inputs is %d for %d inputs and a body of %d", m, len(c.in), len(body.Inputs()))
	}
	state := slices.Clone(c.in[:len(c.in)-m])
	k := len(body.Outputs()) - len(state)
	if k < 0 {
		c.fail("the body has %d outputs for %d state values", len(body.Outputs()), len(state))
	}
	inAxes, inDirs := c.perScan("scan_input_axes", m), c.perScan("scan_input_directions", m)
	outAxes, outDirs := c.perScan("scan_output_axes", k), c.perScan("scan_output_directions", k)
	length := int64(-1)
	axes := make([]int, m)
	for i := range m {
		a := c.input(len(state) + i)
		axes[i] = c.axis(inAxes[i], a.rank())
		if d := a.shape[axes[i]]; length >= 0 && d != length {
			c.fail("scan inputs have lengths %d and %d", length, d)
		}
		length = a.shape[axes[i]]
	}
	stacks := make([][]*array, k)
	for t := range length {
		args := slices.Clone(state)
		for i := range m {
			at := t
			if inDirs[i] != 0 {
				at = length - 1 - t
			}
			args = append(args, c.pick(c.in[len(state)+i], axes[i], int(at)))
		}
		out := c.body(body, args)
		state = out[:len(state)]
		for i, a := range out[len(state):] {
			if a == nil {
				c.fail("scan output %d has no value", i)
			}
			c.charge(a.bytes(), 1)
			stacks[i] = append(stacks[i], a)
		}
	}
	out := slices.Clone(state)
	for i, list := range stacks {
		if outDirs[i] != 0 {
			slices.Reverse(list)
		}
		out = append(out, c.stack(list, outAxes[i], body.Outputs()[len(state)+i]))
	}
	return out
}

// perScan returns an ints attribute with one element per scan value, zeros where it is absent.
func (c *call) perScan(name string, n int) []int64 {
	v := c.ints(name)
	if v == nil {
		return make([]int64, n)
	}
	if len(v) != n {
		c.fail("attribute %q has %d elements, want %d", name, len(v), n)
	}
	return v
}

// pick returns the slice of a at one position of an axis, without that axis.
func (c *call) pick(a *array, axis, at int) *array {
	shape := slices.Delete(slices.Clone(a.shape), axis, axis+1)
	made := c.made
	out := c.blank(a, shape)
	c.made = made // gone after one iteration
	inner, row := product(a.shape[axis+1:]), product(a.shape[axis:])
	for o := range product(a.shape[:axis]) {
		copyElems(out, o*inner, a, o*row+at*inner, inner)
	}
	return out
}
