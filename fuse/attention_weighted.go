package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// weightedMask is scores·m + fill·(1 − m), as Megatron writes a mask m of ones and
// zeros: where m is 1 the scores stay, and where it is 0 fill takes their place.
type weightedMask struct {
	scores *onnx.Value // behind them comes the product with m
	kept   *onnx.Node  // scores·m
	m      *onnx.Value
	fill   float64
}

// weighted reads n, an Add or Sub, as such a mask, nil where it is none.
func weighted(facts *opset.Facts, n *onnx.Node) *weightedMask {
	for i := range 2 {
		if n.Op == "Sub" && i > 0 {
			break
		}
		kept, rest := n.Input(i).Producer(), n.Input(1-i).Producer()
		if kept == nil || !kept.Is("Mul") || rest == nil || !rest.Is("Mul") && !rest.Is("Sub") {
			continue
		}
		left, fill := n.Input(1-i), 1.0
		if rest.Is("Mul") {
			var ok bool
			if left, fill, ok = scaledByNumber(facts, rest); !ok {
				continue
			}
		}
		sub := left.Producer()
		if sub == nil || !sub.Is("Sub") {
			continue
		}
		if one, ok := filledWith(facts, sub.Input(0)); !ok || one != 1 {
			continue
		}
		if n.Op == "Sub" {
			fill = -fill
		}
		for j := range 2 {
			if kept.Input(j) == sub.Input(1) && reachesProduct(kept.Input(1-j), 24) {
				return &weightedMask{kept.Input(1 - j), kept, kept.Input(j), fill}
			}
		}
	}
	return nil
}

// takeWeighted takes the mask w, which ends with n, into the block and returns
// the scores. It is that of a Where only where m is certain to hold nothing but
// ones and zeros, and what it hides is a number.
func (b *attnBlock) takeWeighted(n *onnx.Node, w *weightedMask) (*onnx.Value, error) {
	if !onesAndZeros(b.facts, w.m, 12) || math.IsInf(w.fill, 0) { // 0·∞ is not a number
		return nil, rewrite.Decline("the scores are multiplied by the mask %q, and %g times 1 less the mask is added: "+
			"that is a mask only where it is 1 or 0, which is not known of it", w.m.Name(), w.fill)
	}
	b.inner[w.kept] = true
	b.passed = append(b.passed, passedScore{w.kept.Output(0), unnamedScores})
	b.terms = append(b.terms, maskTerm{cond: w.m, fill: w.fill, keep: true, flat: b.isFlat(n)})
	return w.scores, nil
}

// onesAndZeros reports whether every element of v is certain to be 1 or 0.
func onesAndZeros(facts *opset.Facts, v *onnx.Value, depth int) bool {
	if v == nil || depth == 0 {
		return false
	}
	if t := v.Constant(); t != nil {
		if n, ok := t.Elements(); !ok || n > maxInspected || t.DType == onnx.String {
			return false
		}
		x, err := t.Float64s()
		for _, e := range x {
			if e != 0 && e != 1 {
				return false
			}
		}
		return err == nil
	}
	n := v.Producer()
	if n == nil || onnx.NormalDomain(n.Domain) != "" {
		return false
	}
	switch n.Op {
	case "Cast":
		return facts.DType(n.Input(0)) == onnx.Bool || onesAndZeros(facts, n.Input(0), depth-1)
	case "Unsqueeze", "Squeeze", "Reshape", "Expand", "Slice", "Transpose", "Identity", "Trilu":
		return onesAndZeros(facts, n.Input(0), depth-1)
	}
	return false
}
