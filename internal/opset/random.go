package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// randomRows are the operators that draw random numbers.
func randomRows() []row {
	return []row{
		{"RandomNormal", "1 22", "", "output", "dtype:int=1 mean:float=0 scale:float=1 seed:float shape:ints!", Random, inferRandom, nil},
		{"RandomUniform", "1 22", "", "output", "dtype:int=1 high:float=1 low:float=0 seed:float shape:ints!", Random, inferRandom, nil},
		{"RandomNormalLike", "1 22", "input", "output", "dtype:int mean:float=0 scale:float=1 seed:float", Random, inferLike, nil},
		{"RandomUniformLike", "1 22", "input", "output", "dtype:int high:float=1 low:float=0 seed:float", Random, inferLike, nil},
		{"Bernoulli", "15 22", "input", "output", "dtype:int seed:float", Random, inferLike, nil},
		{"Multinomial", "7 22", "input", "output", "dtype:int=6 sample_size:int=1 seed:float", Random, inferMultinomial, nil},
	}
}

func inferRandom(c *call) {
	c.set(0, dtypeOf(c.int("dtype")), c.asShape(constants(c.intList("shape"))))
}

func inferMultinomial(c *call) {
	c.set(0, dtypeOf(c.int("dtype")), onnx.Shape{c.dim(0, 0), c.asDim(constant(c.int("sample_size")))})
}

// Varies reports whether two runs of n on equal inputs may differ: the operator
// draws random numbers, or is a Dropout that may be training.
func Varies(n *onnx.Node) bool {
	version := n.OpsetVersion(n.Domain)
	row := Lookup(n.Domain, n.Op, version)
	switch {
	case row == nil:
		return false
	case !row.Deterministic():
		return true
	case n.Is("Dropout") && version < 12:
		return version < 7 && n.Int("is_test", 0) == 0
	}
	for i, v := range n.Inputs() {
		if slot := row.Input(i); v != nil && slot != nil && slot.Name == "training_mode" {
			t := v.Constant()
			if t == nil {
				return true
			}
			on, err := t.Ints()
			return err != nil || len(on) != 1 || on[0] != 0
		}
	}
	return false
}
