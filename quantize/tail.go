package quantize

import (
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// farApart is the ratio of two ranges from which on one scale for both leaves the
// smaller one about five codes of 256.
const farApart = 50

// refuseJoin says why the tensors that a Concat joins must not share a scale, as
// the boxes and the scores of a detector: the scores would all become 0.
func (p *plan) refuseJoin(n *onnx.Node) string {
	if !n.Is("Concat") {
		return ""
	}
	var least, most *onnx.Value
	for _, v := range n.Inputs() {
		x := p.magnitude(v)
		if x == 0 {
			continue // always zero, which every scale codes
		}
		if least == nil || x < p.magnitude(least) {
			least = v
		}
		if most == nil || x > p.magnitude(most) {
			most = v
		}
	}
	if least == nil || !(p.magnitude(most) > farApart*p.magnitude(least)) {
		return ""
	}
	return fmt.Sprintf("it joins %q, up to %.3g, and %q, up to %.3g: one scale for both would leave nothing of the latter",
		most.Name(), p.magnitude(most), least.Name(), p.magnitude(least))
}

// magnitude returns the largest magnitude that v had.
func (p *plan) magnitude(v *onnx.Value) float64 {
	lo, hi, _ := p.rangeOf(v)
	return math.Max(-float64(lo), float64(hi))
}
