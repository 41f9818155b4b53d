package opset_test

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// example is one model with the inputs and outputs of its test data, if it has any.
type example struct {
	name    string
	model   []byte
	inputs  map[int][]byte
	outputs map[int][]byte
}

// examples calls f for every model of every archive, and for every trained model.
func examples(t *testing.T, f func(example)) {
	t.Helper()
	trained, err := filepath.Glob(filepath.Join(zootest.Dir(t), "models", "*.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range trained {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f(example{name: filepath.Base(file), model: b})
	}
	for _, archive := range zootest.Archives(t) {
		content := zootest.Archive(t, archive)
		var names []string
		for name := range content {
			if strings.HasSuffix(name, ".onnx") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			x := example{name: archive + ".zip:" + name, model: content[name], inputs: map[int][]byte{}, outputs: map[int][]byte{}}
			data := path.Join(path.Dir(name), "test_data_set_0")
			for i := range 40 {
				if b, ok := content[path.Join(data, "input_"+strconv.Itoa(i)+".pb")]; ok {
					x.inputs[i] = b
				}
				if b, ok := content[path.Join(data, "output_"+strconv.Itoa(i)+".pb")]; ok {
					x.outputs[i] = b
				}
			}
			f(x)
		}
	}
}

// tensorOf decodes test data of a value that is declared as a tensor.
func tensorOf(v *onnx.Value, b []byte) *onnx.Tensor {
	if b == nil || v.Type != nil && !v.Type.IsTensor() {
		return nil
	}
	x, err := onnxfile.DecodeTensor(b)
	if err != nil {
		return nil
	}
	return x
}

// coverage counts what is known of node outputs.
type coverage struct{ values, typed, ranked, sized, numbers int }

func (k *coverage) add(f *opset.Facts, g *onnx.Graph) {
	fresh := func(d onnx.Dim) bool { return !d.Known() && (d.Param == "" || strings.Contains(d.Param, "unk")) }
	for n := range g.Nodes() {
		for _, v := range n.Outputs() {
			if v == nil {
				continue
			}
			k.values++
			ty := f.Type(v)
			if ty != nil && (!ty.IsTensor() || ty.Elem != onnx.Undefined) {
				k.typed++
			}
			if ty == nil || ty.IsTensor() && ty.Shape == nil {
				continue
			}
			k.ranked++
			if !slices.ContainsFunc(ty.Shape, fresh) {
				k.sized++
			}
			if _, ok := ty.Shape.Static(); ok || !ty.IsTensor() {
				k.numbers++
			}
		}
	}
}

// TestCorpus infers every model, with its declared inputs and with the shapes of
// its test data, and compares with the expected outputs.
func TestCorpus(t *testing.T) {
	var k coverage
	var models, compared, contradictions int
	unsupported := map[string]int{}
	examples(t, func(x example) {
		m, err := onnxfile.Decode(x.model)
		if err != nil || m.Graph == nil {
			return
		}
		models++
		checkExample(t, x, m, &compared)
		f, err := opset.Infer(m, opset.Options{ReadOnly: true})
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
			return
		}
		for _, op := range f.Unsupported {
			unsupported[op]++
		}
		contradictions += len(f.Contradictions)
		for _, c := range f.Contradictions {
			t.Logf("%s: %s is declared %v, inferred %v", x.name, c.Value.Name(), c.Declared, c.Inferred)
		}
		for _, g := range m.Graphs() {
			k.add(f, g)
		}
	})
	share := func(n int) float64 { return 100 * float64(n) / float64(max(1, k.values)) }
	t.Logf("%d models, %d node outputs: element type known %.1f %%, rank %.1f %%, shape in numbers and the model's symbols %.1f %%, in numbers %.1f %%",
		models, k.values, share(k.typed), share(k.ranked), share(k.sized), share(k.numbers))
	t.Logf("%d outputs compared with test data; %d declared types contradicted", compared, contradictions)
	t.Logf("operators without a row: %v", unsupported)
}

// checkExample compares what is inferred from the shapes of the test inputs
// with the test outputs.
func checkExample(t *testing.T, x example, m *onnx.Model, compared *int) {
	t.Helper()
	o := opset.Options{InputShapes: map[string]onnx.Shape{}, ReadOnly: true}
	var free []*onnx.Value
	for _, v := range m.Graph.Inputs() {
		if v.Const == nil {
			free = append(free, v)
		}
	}
	for i, v := range free {
		if in := tensorOf(v, x.inputs[i]); in != nil && !v.Shape().Contradicts(onnx.ShapeOf(in.Shape...)) {
			o.InputShapes[v.Name()] = onnx.ShapeOf(in.Shape...)
		}
	}
	for _, ignore := range []bool{true, false} {
		o.IgnoreValueInfo = ignore
		f, err := opset.Infer(m, o)
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		for i, v := range m.Graph.Outputs() {
			out := tensorOf(v, x.outputs[i])
			if out == nil {
				continue
			}
			*compared++
			if got := f.Type(v); got.Contradicts(out.Type()) {
				t.Errorf("%s: output %s inferred as %v, is %v (value_info ignored: %v)", x.name, v.Name(), got, out.Type(), ignore)
			}
		}
	}
}
