package quantize

import "github.com/lapidary-ml/lapidary/internal/onnx"

// cascade takes nodes out of a plan, and with them the followers that no longer
// stand between quantized nodes. It knows how many read each value, so that a step
// costs what is next to the node, however large the model is.
type cascade struct {
	p  *plan
	by map[*onnx.Value]*readings
}

// readings counts the readings of a value.
type readings struct {
	coded    int // as an activation, by chosen nodes
	floating int // all others
	anchors  int // as the first input of chosen anchors
}

func newCascade(p *plan) *cascade { return &cascade{p: p, by: map[*onnx.Value]*readings{}} }

// of returns the readers of v as the plan is now.
func (k *cascade) of(v *onnx.Value) *readings {
	if r := k.by[v]; r != nil {
		return r
	}
	r := &readings{}
	for _, u := range v.Uses() {
		chosen := k.p.chosen[u.Node]
		if chosen && activation(u.Node, u.Index) {
			r.coded++
		} else {
			r.floating++
		}
		if chosen && place(u.Node) == anchor && u.Index == 0 {
			r.anchors++
		}
	}
	k.by[v] = r
	return r
}

// set puts n into the plan or takes it out.
func (k *cascade) set(n *onnx.Node, chosen bool) {
	for _, v := range n.Inputs() {
		if v != nil {
			k.of(v) // as it was before
		}
	}
	one := 1
	if chosen {
		k.p.chosen[n] = true
	} else {
		delete(k.p.chosen, n)
		one = -1
	}
	for i, v := range n.Inputs() {
		if v == nil {
			continue
		}
		r := k.of(v)
		if activation(n, i) {
			r.coded, r.floating = r.coded+one, r.floating-one
		}
		if place(n) == anchor && i == 0 {
			r.anchors += one
		}
	}
}

// stray says why n, a follower, does not stand between quantized nodes; "" if it does.
func (k *cascade) stray(n *onnx.Node) string {
	for i, v := range n.Inputs() {
		if v != nil && activation(n, i) && v.Constant() == nil && !k.p.chosen[v.Producer()] && k.of(v).anchors == 0 {
			return "its input is not quantized"
		}
	}
	if v := n.Output(0); (v == nil || v.IsOutput() || len(v.Uses()) == 0 || k.of(v).floating > 0) && !k.p.clips(n) {
		return "its output is not read by quantized nodes only"
	}
	return ""
}

// settle takes out every follower that does not stand between quantized nodes.
func (k *cascade) settle() {
	for n := range k.p.nodes() {
		if !k.p.chosen[n] || place(n) == anchor {
			continue
		}
		if why := k.stray(n); why != "" {
			k.p.reasons[n] = why
			k.remove([]*onnx.Node{n}, k.p.reasons)
		}
	}
}

// remove takes nodes out, and followers with them, whose reasons it notes; it
// returns all that went.
func (k *cascade) remove(list []*onnx.Node, reasons map[*onnx.Node]string) (gone []*onnx.Node) {
	check := func(n *onnx.Node) {
		if n == nil || !k.p.chosen[n] || place(n) == anchor {
			return
		}
		if why := k.stray(n); why != "" {
			reasons[n] = why
			list = append(list, n)
		}
	}
	for i := 0; i < len(list); i++ {
		n := list[i]
		if !k.p.chosen[n] {
			continue
		}
		k.set(n, false)
		gone = append(gone, n)
		for i, v := range n.Inputs() {
			if v == nil || !activation(n, i) {
				continue
			}
			check(v.Producer())
			if place(n) == anchor && k.of(v).anchors == 0 && !k.p.chosen[v.Producer()] {
				for _, u := range v.Uses() {
					check(u.Node)
				}
			}
		}
		if out := n.Output(0); out != nil {
			for _, u := range out.Uses() {
				check(u.Node)
			}
		}
	}
	return gone
}

// restore puts back what remove took out.
func (k *cascade) restore(gone []*onnx.Node) {
	for _, n := range gone {
		k.set(n, true)
	}
}
