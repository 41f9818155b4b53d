package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/report/schematest"
)

// beforeText and afterText are a model before and after a rewrite: normalization
// folded into the convolution, a product and a sum fused, a node taken out.
const (
	beforeText = `<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,8,8] x) => (float[1,4] y)
<float[4,3,3,3] w, float[4] s, float[4] b, float[4] m, float[4] v, float[144,4] k, float[4] c, int64[2] to>
{
  [conv] h = Conv(x, w)
  [norm] n = BatchNormalization(h, s, b, m, v)
  [act] r = Relu(n)
  [same] i = Identity(r)
  [flat] f = Reshape(i, to)
  [mul] p = MatMul(f, k)
  [add] q = Add(p, c)
  y = Softmax(q)
}`
	afterText = `<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,8,8] x) => (float[1,4] y)
<float[4,3,3,3] w, float[4] b, float[144,4] k, float[4] c, int64[2] to>
{
  [n_Conv] n_Conv = Conv(x, w, b)
  [act] r = Relu(n_Conv)
  [flat] f = Reshape(r, to)
  [q_Gemm] q = Gemm(f, k, c)
  y = Softmax(q)
}`
)

// timedDocument writes the profile of a model in text form with the given times
// of nodes: name, operator as run, the model's node, ms.
func timedDocument(t *testing.T, name, text string, nodes ...string) string {
	t.Helper()
	m, err := onnxtext.Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p := New(static(t, m, StaticOptions{}), &TimedProfile{Threads: 2, Batch: 1, Latency: Latency{Runs: 9, P50: &Quantile{MS: 3, CI95: [2]float64{2.9, 3.1}}},
		InputShapes: []string{}, Sessions: []SessionRuns{}, Cold: Cold{OpenMS: 20, FirstRunMS: 5}, PerSecond: 300, SamplesPerSecond: 300})
	total := 0.0
	for _, n := range nodes {
		var x NodeTime
		f := strings.Split(n, "|")
		x.Name, x.Op, x.Original = f[0], f[1], f[2]
		fmt.Sscan(f[3], &x.MS)
		total += x.MS
		p.Timed.Nodes = append(p.Timed.Nodes, x)
	}
	p.Timed.Operators = groupTimes(p.Timed.Nodes, total, func(n *NodeTime) string { return n.Op })
	b, err := p.JSON()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDiffAcrossFusions(t *testing.T) {
	a := timedDocument(t, "a.json", beforeText,
		"conv|Conv|conv|2", "norm|BatchNormalization|norm|0.5", "act|Relu|act|0.4", "flat|Reshape|flat|0.01", "mul|MatMul|mul|0.3", "add|Add|add|0.1", "Softmax_7|Softmax|Softmax_7|0.05")
	b := timedDocument(t, "b.json", afterText,
		"n_Conv|FusedConv|n_Conv|1.8", "reorder|ReorderOutput||0.2", "r_nchwc|Relu||0.3", "flat|Reshape|flat|0.01", "q_Gemm|Gemm|q_Gemm|0.35", "Softmax_4|Softmax|Softmax_4|0.06")
	d, err := DiffFiles(a, b)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range d.Nodes {
		got = append(got, fmt.Sprintf("%s: %s > %s %+.2f", g.Name, strings.Join(g.A, "+"), strings.Join(g.B, "+"), g.Change))
	}
	slices.Sort(got)
	want := []string{
		"Softmax_7: Softmax_7 (Softmax) > Softmax_4 (Softmax) +0.01",
		"act: act (Relu) > r_nchwc (Relu) -0.10",
		"conv: conv (Conv)+norm (BatchNormalization) > n_Conv (FusedConv) -0.70",
		"flat: flat (Reshape) > flat (Reshape) +0.00",
		"mul: mul (MatMul)+add (Add) > q_Gemm (Gemm) -0.05",
		"reorder:  > reorder (ReorderOutput) +0.20",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if d.Nodes[0].Name != "conv" || d.Matched < 0.8 || d.Matched == 1 {
		t.Errorf("largest change %s, matched %.2f", d.Nodes[0].Name, d.Matched)
	}
	checkDiff(t, d)
}

// checkDiff holds a difference to its schema and its table to the width.
func checkDiff(t *testing.T, d *ProfileDiff) {
	t.Helper()
	var table bytes.Buffer
	if err := d.Table(&table, TableOptions{}); err != nil {
		t.Fatal(err)
	}
	checkWidth(t, "diff", table.String(), 80)
	for _, want := range []string{"lapidary validate A B", "latency p50", "faster | slower", "conv (2 > 1)"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, table.String())
		}
	}
	schema, err := os.ReadFile(diffSchema)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := schematest.Validate(schema, b); err != nil {
		t.Errorf("the document: %v", err)
	}
}

const diffSchema = "../docs/schemas/profile-diff-v1.json"

func TestDiffSchema(t *testing.T) {
	want, err := schematest.Generate(".", "ProfileDiff", DiffSchemaURI)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(diffSchema, want, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(diffSchema)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types say; run this test with -update and look at the difference", diffSchema)
	}
}

// TestDiffOfOneWithItself: everything is matched and nothing changes.
func TestDiffOfOneWithItself(t *testing.T) {
	a := timedDocument(t, "a.json", beforeText, "conv|Conv|conv|2", "norm|BatchNormalization|norm|0.5")
	d, err := DiffFiles(a, a)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range d.Nodes {
		if g.Change != 0 || len(g.A) != 1 || len(g.B) != 1 {
			t.Errorf("%+v", g)
		}
	}
	if len(d.Nodes) != 2 || d.Matched != 1 {
		t.Errorf("%d groups, matched %v", len(d.Nodes), d.Matched)
	}
}

func TestDiffErrors(t *testing.T) {
	dir := t.TempDir()
	good := timedDocument(t, "a.json", beforeText, "conv|Conv|conv|2")
	for name, content := range map[string]string{
		"broken.json": "{", "other.json": `{"schema":"https://example.org/x","schemaVersion":"1.0"}`,
		"later.json": `{"schema":"` + SchemaURI + `","schemaVersion":"2.0"}`, "empty.json": `{"schema":"` + SchemaURI + `","schemaVersion":"1.7"}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if !IsProfile(path) {
			t.Errorf("%s is not taken for a document", name)
		}
		if _, err := DiffFiles(good, path); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := DiffFiles(good, filepath.Join(dir, "missing")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v", err)
	}
	if IsProfile(modelFile(t, onnx.NewModel(17))) {
		t.Error("a model is taken for a profile")
	}
}
