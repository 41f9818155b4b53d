package randgraph

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// TestModel holds that models of random bytes have what makes them worth fuzzing
// with: they can be encoded, the same bytes give the same model, many are valid,
// and together they call most operators.
func TestModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ops := map[string]bool{}
	nodes, valid := 0, 0
	const models = 2000
	for range models {
		data := make([]byte, r.IntN(400))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		m := Model(data)
		once, err := onnxfile.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := onnxfile.Encode(Model(data)); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("the same bytes give two models (%v)", err)
		}
		if m.Check() == nil {
			valid++
		}
		for _, g := range m.Graphs() {
			for n := range g.Nodes() {
				ops[onnx.NormalDomain(n.Domain)+"."+n.Op] = true
				nodes++
			}
		}
	}
	t.Logf("%d nodes of %d operators, %d of %d models valid", nodes, len(ops), valid, models)
	if nodes < 5*models || len(ops) < 200 || valid < models/4 {
		t.Errorf("%d nodes of %d operators, %d of %d models valid", nodes, len(ops), valid, models)
	}
}
