package produce

import "testing"

// TestLost compares graphs by hand.
func TestLost(t *testing.T) {
	type ops map[string]int
	census := func(o ops) *Census {
		c := &Census{Ops: o}
		for op, n := range o {
			c.Nodes += n
			c.Cost += n * costOf(op)
		}
		return c
	}
	for _, c := range []struct {
		name          string
		before, after ops
		want          string
	}{
		{"the same", ops{"Conv": 3, contrib + "FusedConv": 2}, ops{"Conv": 3, contrib + "FusedConv": 2}, ""},
		{"fewer of all", ops{nchwc + "Conv": 3, "Add": 4}, ops{nchwc + "Conv": 2, "Add": 4}, ""},
		{"into the better layout", ops{contrib + "FusedConv": 9, "Conv": 30}, ops{nchwc + "Conv": 39}, ""},
		{"out of the layout", ops{nchwc + "Conv": 3, "Mul": 9}, ops{nchwc + "Conv": 1, "Conv": 2}, "the engine no longer fuses 2 of 3 com.microsoft.nchwc.Conv"},
		{"activation apart", ops{contrib + "FusedConv": 3, "Mul": 9}, ops{contrib + "FusedConv": 2, "Conv": 1, "Relu": 1},
			"the engine no longer fuses 1 of 3 com.microsoft.FusedConv"},
		{"activation gone", ops{contrib + "FusedConv": 3}, ops{contrib + "FusedConv": 2, "Conv": 1}, ""},
		{"skip apart", ops{contrib + "SkipLayerNormalization": 2, "LayerNormalization": 1, "Mul": 9},
			ops{"LayerNormalization": 3, "Add": 2}, "the engine no longer fuses 2 of 2 com.microsoft.SkipLayerNormalization"},
		{"norm into skip", ops{"LayerNormalization": 3, "Add": 3}, ops{contrib + "SkipLayerNormalization": 2, "LayerNormalization": 1}, ""},
		{"norm apart", ops{"LayerNormalization": 1, "Where": 20}, ops{"ReduceMean": 2, "Sub": 1, "Pow": 1, "Add": 1, "Sqrt": 1, "Div": 1},
			"the engine no longer fuses 1 of 1 LayerNormalization"},
		{"attention apart", ops{contrib + "Attention": 2, "Cast": 20}, ops{contrib + "Attention": 1, "MatMul": 4, "Softmax": 1},
			"the engine no longer fuses 1 of 2 com.microsoft.Attention"},
		{"quantized apart", ops{contrib + "QLinearAdd": 1, "Cast": 9}, ops{"DequantizeLinear": 2, "Add": 1, "QuantizeLinear": 1},
			"the engine no longer fuses 1 of 1 com.microsoft.QLinearAdd"},
		{"more nodes", ops{"Add": 3}, ops{"Add": 4}, "the engine is left with 4 nodes instead of 3 (by weight 8 instead of 6)"},
		{"constants weigh nothing", ops{"Add": 3}, ops{"Add": 3, "Constant": 5}, ""},
		{"copies weigh more", ops{"Add": 1, nchwc + "Conv": 2}, ops{nchwc + "ReorderInput": 1, nchwc + "Conv": 2},
			"the engine is left with 3 nodes instead of 3 (by weight 8 instead of 6)"},
		{"views weigh less", ops{"Gather": 2}, ops{"Split": 1, "Squeeze": 2}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Lost(census(c.before), census(c.after)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
