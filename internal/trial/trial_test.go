package trial

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

var near = cmpopts.EquateApprox(1e-9, 1e-9)

// TestDistance: by hand, of a distribution and of plain outputs.
func TestDistance(t *testing.T) {
	h := &Held{names: []string{"p"}, distribution: true, Labels: [][]int64{{1}}}
	tensors := func(x ...float32) map[string]*onnx.Tensor {
		return map[string]*onnx.Tensor{"p": onnx.FromFloats("p", []int64{1, int64(len(x))}, x)}
	}
	n := noise{signal: make([]float64, 1), error: make([]float64, 1)}
	h.want = []map[string]*onnx.Tensor{tensors(0.5, 0.5)}
	if !n.add(h, 0, tensors(0.25, 0.75)) {
		t.Fatal("they cannot be compared")
	}
	got := n.score(h)
	// Equal weights: the change of the logit, ln 3, is half of it on either side.
	want := Score{DB: -10 * math.Log10(math.Pow(math.Log(3)/2, 2)), SQNR: -10 * math.Log10(0.125/0.5),
		KL: -10 * math.Log10(0.5*math.Log(2)+0.5*math.Log(2./3)), Nats: 0.5*math.Log(2) + 0.5*math.Log(2./3), Right: 1, Rows: 1, Gains: 1}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Score{}, "Runs"), near); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n.add(h, 0, tensors(1)) {
		t.Error("outputs of other sizes were compared")
	}
}
