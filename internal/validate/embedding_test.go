package validate

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// tokenCase is a model of the corpus that takes tokens.
type tokenCase struct {
	model, data string
	token       int64
	named       bool   // whether the path starts at the token's embedding
	head        string // weights of the last layer, or their transposed table
	samples     int
	residual    float64 // what attributions may lack
	large       bool    // takes a minute
}

// randomTokens writes samples for tf-bert-qa-tiny, of which the corpus has none.
func randomTokens(t *testing.T) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 8))
	const n, length = 4, 7
	ids, mask, types := make([]float64, n*length), make([]float64, n*length), make([]float64, n*length)
	for i := range ids {
		ids[i], mask[i], types[i] = float64(1+rng.IntN(19)), 1, float64(i%length/4)
	}
	arrays := map[string]*onnx.Tensor{}
	for name, v := range map[string][]float64{"input_ids": ids, "attention_mask": mask, "token_type_ids": types} {
		a, err := onnx.FromFloat64s(name, onnx.Int32, []int64{n, length}, v)
		if err != nil {
			t.Fatal(err)
		}
		arrays[name] = a
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "tokens.npz"))
	if err != nil {
		t.Fatal(err)
	}
	if err := dataset.WriteNpz(f, arrays); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func (c tokenCase) run(t *testing.T, candidate string, methods ...string) *report.Report {
	t.Helper()
	path := zootest.Path(t, "models/"+c.model+".onnx")
	data := c.data
	if !filepath.IsAbs(data) {
		data = zootest.Path(t, "data/"+data)
	}
	if candidate == "" {
		candidate = path
	}
	o := runtimeOptions(t, path, candidate, data)
	o.Explain.Samples, o.Explain.Budget, o.Explain.Perturbations = c.samples, time.Hour, 16
	o.Explain.Token, o.Explain.NamedToken = c.token, c.named
	r := explained(t, o, methods...)
	if r.Explanation == nil {
		t.Fatalf("no explanation: %v", r.Skipped)
	}
	return r
}

// shuffledHead shuffles the weights that one of the two operands of the last product is made of.
func (c tokenCase) shuffledHead(t *testing.T) string {
	return edited(t, zootest.Path(t, "models/"+c.model+".onnx"), func(m *onnx.Model) {
		for v := range m.Graph.Values() {
			if v.Name() != c.head {
				continue
			}
			if v.Const != nil {
				shuffled(t, v)
				return
			}
			w := v.Producer().Input(0).Const // a transposed table, which stays as it is where it embeds
			own := m.Graph.NewConst(&onnx.Tensor{Name: m.Fresh("head"), DType: w.DType, Shape: w.Shape, Data: w.Data})
			shuffled(t, own)
			v.Producer().SetInput(0, own)
			return
		}
		t.Fatalf("there is no value %q", c.head)
	})
}

// Models of tokens are explained by the gradient of their embedding: identical ones have identical maps, a shuffled last layer
// spoils them, and integrated gradients add up.
func TestGradientsOfTokens(t *testing.T) {
	for _, c := range []tokenCase{
		{model: "stories260K", data: "stories.npz", token: 1, named: true, head: "lm_head.weight_T", samples: 4, residual: 0.2},
		{model: "tf-bert-qa-tiny", data: randomTokens(t), head: "tf_bert_for_question_answering/qa_outputs/Tensordot/Reshape_1:0_resize", samples: 4, residual: 0.1},
		{model: "magika-fast", data: "magika-fast.npz", token: 256, named: true, head: "model/target_label/MatMul/ReadVariableOp:0", samples: 2, residual: 0.3, large: true},
	} {
		t.Run(c.model, func(t *testing.T) {
			if c.large && !zootest.All() {
				t.Skip("takes a minute: set LAPIDARY_CORPUS=all")
			}
			same := c.run(t, "", "integrated-gradients", "gradient-input")
			for _, e := range all(same.Explanation) {
				if *e.Spearman != 1 || *e.SpearmanP10 != 1 || *e.SelfCheck != 1 || *e.StraightThrough != 0 || *e.BaselineStraightThrough != 0 {
					t.Errorf("%s: %+v, want a rank correlation of exactly 1 and no surrogate", e.Method, e)
				}
				if c.samples > 3 && (e.Calibrated == nil || *e.Calibrated.Spearman < 0.8) {
					t.Errorf("%s: calibrated %+v", e.Method, e.Calibrated)
				}
			}
			e := same.Explanation
			if want := map[bool]string{true: "token", false: "zero-embedding"}[c.named]; e.Fill != want || !(*e.CompletenessResidual < c.residual) {
				t.Errorf("fill %q, completeness residual %v", e.Fill, *e.CompletenessResidual)
			}
			rho := similarityOfAll(t, c.run(t, c.shuffledHead(t), "integrated-gradients").Explanation)
			t.Logf("%.3f with a shuffled last layer; deletion %.3f, completeness residual %.3g", rho, *e.Deletion.Baseline, *e.CompletenessResidual)
			if rho > 0.6 {
				t.Errorf("rank correlation %.3f with a shuffled last layer, want less", rho)
			}
		})
	}
}

// A quantized model of tokens is explained by its own embedding, through a surrogate that is counted.
func TestGradientsOfQuantizedTokens(t *testing.T) {
	c := tokenCase{model: "magika-fast", data: "magika-fast.npz", token: 256, named: true, samples: 2}
	int8 := filepath.Join(t.TempDir(), "int8.onnx")
	if _, err := quantize.File(t.Context(), int8, zootest.Path(t, "models/magika-fast.onnx"), quantize.Options{Dynamic: true}); err != nil {
		t.Fatal(err)
	}
	r := c.run(t, int8, "integrated-gradients")
	e := r.Explanation
	rho := similarityOfAll(t, e)
	t.Logf("int8: %.3f, straight through %d nodes, completeness residual %.3g", rho, *e.StraightThrough, *e.CompletenessResidual)
	if rho < 0.5 || *e.StraightThrough == 0 || *e.BaselineStraightThrough != 0 || !strings.Contains(strings.Join(r.Warnings, "\n"), "candidate's gradients are straight-through") {
		t.Errorf("rank correlation %.3f, straight through %d and %d nodes, warnings %q", rho, *e.BaselineStraightThrough, *e.StraightThrough, r.Warnings)
	}
}
