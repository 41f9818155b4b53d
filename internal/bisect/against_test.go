package bisect_test

import (
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/bisect"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestAgainst: the first bad node is found, not those that follow from it.
func TestAgainst(t *testing.T) {
	bad := strings.Replace(chain, "g = Mul (f, two)", "g = Mul (f, one)", 1)
	found, c, err := bisect.Against(t.Context(), store(t, chain), store(t, bad), options(nil))
	if err != nil {
		t.Fatal(err)
	}
	if found.First == nil || found.First.Value != "g" || found.Fault == nil || found.Fault.Kind != bisect.Wrong {
		t.Fatalf("found %+v", found)
	}
	if !strings.Contains(found.First.Node, "Mul (f, one)") || !strings.Contains(found.First.Reference, "Mul (f, two)") {
		t.Errorf("node %q, reference %q", found.First.Node, found.First.Reference)
	}
	defer c.Close()
	if n := c.Model.Graph.Len(); n != 1 || len(c.Feed) != 1 || c.Want["g"] == nil {
		t.Errorf("the case has %d nodes, inputs %v, wants %v", n, c.Feed, c.Want)
	}
}

// TestAgainstMasked: a node that differs is found although the outputs agree.
func TestAgainstMasked(t *testing.T) {
	good := strings.Replace(chain, "z = Abs (x)", "s = Add (x, one)\n  z0 = Sub (s, s)\n  z = Abs (z0)", 1)
	bad := strings.Replace(good, "s = Add (x, one)", "s = Add (x, two)", 1)
	found, c, err := bisect.Against(t.Context(), store(t, good), store(t, bad), options(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if found.First == nil || found.First.Value != "s" || found.Fault != nil {
		t.Errorf("found %+v", found)
	}
}

func TestAgainstEqual(t *testing.T) {
	found, c, err := bisect.Against(t.Context(), store(t, chain), store(t, chain), options(nil))
	if err != nil || found.Bad() || c != nil || found.Values != 12 {
		t.Errorf("found %+v, %v", found, err)
	}
	if _, _, err := bisect.Against(t.Context(), store(t, chain), store(t, strings.NewReplacer("y", "u", "z", "v",
		"a =", "a1 =", "(a)", "(a1)").Replace(`<ir_version: 8, opset_import: ["" : 17]>
main (float[N,4] x) => (float[N,4] q) { q = Abs (x) }`)), options(nil)); err == nil || !strings.Contains(err.Error(), "no value of the same name") {
		t.Errorf("models without a common value: %v", err)
	}
}

// TestModelThatDoesNotLoad: of twelve nodes the one is found that has no kernel.
func TestModelThatDoesNotLoad(t *testing.T) {
	found, err := bisect.Model(t.Context(), store(t, chain), options(func(n *onnx.Node) bool { return n.Is("Mul") }))
	if err != nil {
		t.Fatal(err)
	}
	defer found.Case.Close()
	if found.Fault.Kind != bisect.Load || len(found.Nodes) != 1 || !strings.Contains(found.Nodes[0], "Mul") {
		t.Errorf("found %+v", found)
	}
}

// TestModelThatDoesNotRun: the fault depends on a value far from the inputs.
func TestModelThatDoesNotRun(t *testing.T) {
	text := strings.Replace(chain, "z = Abs (x)", "s = Shape (x)\n  t = Reshape (g, bad)\n  z = Abs (t)", 1)
	text = strings.Replace(text, "<float[4] one", "<int64[1] bad = {7}, float[4] one", 1)
	text = strings.Replace(text, "float[N,4] z", "float[M] z", 1)
	found, err := bisect.Model(t.Context(), store(t, text), options(nil))
	if err != nil {
		t.Fatal(err)
	}
	if found == nil {
		t.Fatal("nothing found")
	}
	defer found.Case.Close()
	if found.Fault.Kind != bisect.Run || len(found.Nodes) != 1 || !strings.Contains(found.Nodes[0], "Reshape") {
		t.Errorf("found %+v", found)
	}
	if found, err := bisect.Model(t.Context(), store(t, chain), options(nil)); err != nil || found != nil {
		t.Errorf("a sound model: %+v, %v", found, err)
	}
}
