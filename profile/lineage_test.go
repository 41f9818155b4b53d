package profile

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// TestLineage traces graphs as an engine leaves them back to their model: each
// node with what it stands for, what was folded, and what is gone.
func TestLineage(t *testing.T) {
	const header = "<ir_version: 8, opset_import: [\"\" : 17, \"com.microsoft\" : 1, \"com.microsoft.nchwc\" : 1]>\n"
	tests := []struct{ name, model, run, want string }{
		{
			"fused by the name of the result",
			`g (float[1,4,8,8] x, float[4,4,1,1] w, float[4] b) => (float[1,4,8,8] y) {
				[conv] c = Conv(x, w, b)
				[relu] y = Relu(c)
			}`,
			`g (float[1,4,8,8] x, float[4,4,1,1] w, float[4] b) => (float[1,4,8,8] y) {
				[fused] y = com.microsoft.FusedConv <activation = "Relu"> (x, w, b)
			}`,
			"fused: conv relu",
		},
		{
			"another layout, with names made of the values'",
			`g (float[1,8,8,8] x, float[8,8,1,1] w) => (float[1,8,8,8] y) {
				[first] c = Conv(x, w)
				[sum] s = Add(c, x)
				[relu] r = Relu(s)
				[second] d = Conv(r, w)
				[tail] y = Sigmoid(d)
			}`,
			`g (float[1,8,8,8] x, float[8,8,1,1] w2, float[8] b) => (float[1,8,8,8] y) {
				[ReorderInput] reorder = com.microsoft.nchwc.ReorderInput (x)
				[c_nchwc] reorder_1 = com.microsoft.nchwc.Conv <activation = "Relu"> (reorder, w2, b, reorder)
				[d_nchwc] reorder_2 = com.microsoft.nchwc.Conv (reorder_1, w2)
				[ReorderOutput] d = com.microsoft.nchwc.ReorderOutput (reorder_2)
				[tail] y = Sigmoid(d)
			}`,
			"ReorderInput for first, c_nchwc: first sum relu, d_nchwc: second, ReorderOutput for second, tail: tail",
		},
		{
			"computed in another precision",
			`g (float16[1,4,8,8] x, float16[4,4,1,1] w) => (float16[1,4,8,8] y) {
				[conv] c = Conv(x, w)
				[relu] r = Relu(c)
				[out] y = Sigmoid(r)
			}`,
			`g (float16[1,4,8,8] x, float[4,4,1,1] w) => (float16[1,4,8,8] y) {
				[cast_in] InsertedPrecisionFreeCast_x = Cast <to = 1> (x)
				[fused] InsertedPrecisionFreeCast_r = com.microsoft.FusedConv <activation = "Relu"> (InsertedPrecisionFreeCast_x, w)
				[out] InsertedPrecisionFreeCast_y = Sigmoid(InsertedPrecisionFreeCast_r)
				[cast_out] y = Cast <to = 10> (InsertedPrecisionFreeCast_y)
			}`,
			"cast_in for conv, fused: conv relu, out: out, cast_out for out",
		},
		{
			"constants folded, a node without effect removed",
			`g (float[2,3] x) => (float[3,2] y) <int64[2] s = {3,2}, float[3] one = {1,1,1}> {
				[shape] t = Identity(s)
				[twice] two = Add(one, one)
				[scale] m = Mul(x, two)
				[keep] k = Identity(m)
				[view] y = Reshape(k, t)
			}`,
			`g (float[2,3] x) => (float[3,2] y) <int64[2] t = {3,2}, float[3] two = {2,2,2}> {
				[scale] m = Mul(x, two)
				[view] y = Reshape(m, t)
			}`,
			"scale: scale, view: keep view, folded shape twice",
		},
		{
			"bodies beside the bodies of the file",
			`g (bool c, float[2] x) => (float[2] y) {
				[choose] y = If(c) <then_branch = a () => (float[2] p) {
					[neg] p = Neg(x)
				}, else_branch = b () => (float[2] q) {
					[abs] r = Abs(x)
					[more] q = Exp(r)
				}>
			}`,
			`g (bool c, float[2] x) => (float[2] y) {
				[choose] y = If(c) <then_branch = a () => (float[2] p) {
					[neg] p = Neg(x)
				}, else_branch = b () => (float[2] q) {
					[abs] r = Abs(x)
					[more] q = Exp(r)
				}>
			}`,
			"choose: choose, neg: choose.then_branch/neg, abs: choose.else_branch/abs, more: choose.else_branch/more",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			model, run := textModel(t, header+tt.model), textModel(t, header+tt.run)
			o := newOriginals(model, nil)
			if d := cmp.Diff(tt.want, lineageText(o.trace(run), run)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func textModel(t *testing.T, text string) *onnx.Model {
	t.Helper()
	m, err := onnxtext.Parse("model", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// lineageText writes what the nodes of run stand for.
func lineageText(l *lineage, run *onnx.Model) string {
	var out, folded []string
	for _, g := range run.Graphs() {
		for n := range g.Nodes() {
			switch row, serves := l.serves[n]; {
			case len(l.rows[n]) > 0:
				s := n.Name + ":"
				for _, r := range l.rows[n] {
					s += " " + l.o.rows[r].Label
				}
				out = append(out, s)
			case serves:
				out = append(out, fmt.Sprintf("%s for %s", n.Name, l.o.rows[row].Label))
			default:
				out = append(out, n.Name)
			}
		}
	}
	for r := range l.o.rows {
		if l.folded[r] {
			folded = append(folded, l.o.rows[r].Label)
		}
	}
	if len(folded) > 0 {
		out = append(out, "folded "+strings.Join(folded, " "))
	}
	return strings.Join(slices.Clip(out), ", ")
}
