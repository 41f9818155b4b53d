package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// relateIf: outputs of both branches and of the node go together.
func relateIf(r *relating) {
	for _, g := range r.n.Subgraphs() {
		for i, v := range g.Outputs() {
			r.alike(v, r.n.Output(i))
		}
	}
}

// alike ties all axes of two values.
func (r *relating) alike(v, w *onnx.Value) {
	if v == nil || w == nil {
		return
	}
	for i := range r.f.Shape(v) {
		a, okA := r.at(v, i)
		b, okB := r.at(w, i)
		r.tie(a, okA, b, okB)
	}
}

// stacked ties the axes of v, one of a sequence, to those of w that holds it
// along axis 0.
func (r *relating) stacked(v, w *onnx.Value) {
	if v == nil || w == nil {
		return
	}
	for i := range r.f.Shape(v) {
		a, okA := r.at(v, i)
		b, okB := r.at(w, i+1)
		r.tie(a, okA, b, okB)
	}
}

// relateLoop: body inputs are iteration, condition and states; outputs are
// condition, states and what is stacked.
func relateLoop(r *relating) {
	for _, g := range r.n.Subgraphs() {
		in, out := g.Inputs(), g.Outputs()
		states := len(in) - 2
		for i := range states {
			r.alike(r.n.Input(i+2), in[i+2])
			if i+1 < len(out) {
				r.alike(out[i+1], in[i+2])
			}
			r.alike(in[i+2], r.n.Output(i))
		}
		for i := states + 1; i < len(out); i++ {
			r.stacked(out[i], r.n.Output(i-1))
		}
	}
}

// relateScan: body inputs are states and slices; outputs the same.
func relateScan(r *relating) {
	if r.ver() < 9 || r.intList("scan_input_axes") != nil || r.intList("scan_output_axes") != nil {
		r.unknown = true
		return
	}
	slices := int(r.int("num_scan_inputs"))
	for _, g := range r.n.Subgraphs() {
		in, out := g.Inputs(), g.Outputs()
		states := len(in) - slices
		for i := range in {
			if i < states {
				r.alike(r.n.Input(i), in[i])
				if i < len(out) {
					r.alike(out[i], in[i])
				}
				r.alike(in[i], r.n.Output(i))
			} else {
				r.stacked(in[i], r.n.Input(i))
			}
		}
		for i := max(states, 0); i < len(out); i++ {
			r.stacked(out[i], r.n.Output(i))
		}
	}
}
