package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// normRows are the normalisations, dropout, and the loss functions.
// LayerNormalization below opset 17 is ONNX Runtime's own.
func normRows() []row {
	const consumed = "consumed_inputs:ints@..5"
	return []row{
		{"BatchNormalization", "1 6 7 9 14 15", "X scale B mean var|14:X scale B input_mean input_var",
			"Y mean? var? saved_mean? saved_var?|14:Y running_mean? running_var?", "consumed_inputs:ints!@..5 epsilon:float=1e-05 " +
				"is_test:int=0@..6 momentum:float=0.9 spatial:int=1@..8 training_mode:int=0@14", 0, inferBatchNorm, perOutput(2)},
		{"InstanceNormalization", "1 6 22", "input scale B", "output", consumed + " epsilon:float=1e-05", 0, sameAsFirst, perOutput(7)},
		{"LayerNormalization", "1 17", "X Scale B?", "Y Mean? InvStdDev?", "axis:int=-1 epsilon:float=1e-05 stash_type:int=1", 0, inferLayerNorm, perOutput(8)},
		{"RMSNormalization", "23", "X scale", "Y", "axis:int=-1 epsilon:float=1e-05 stash_type:int=1", 0, inferRMSNorm, perOutput(5)},
		{"GroupNormalization", "18! 21", "X scale bias", "Y", "epsilon:float=1e-05 num_groups:int! stash_type:int=1@21", 0, sameAsFirst, perOutput(7)},
		{"LpNormalization", "1 22", "input", "output", "axis:int=-1 p:int=2", 0, sameAsFirst, perOutput(3)},
		{"MeanVarianceNormalization", "9 13", "X", "Y", "axes:ints=0,2,3", 0, sameAsFirst, perOutput(6)},
		{"LRN", "1 13", "X", "Y", "alpha:float=0.0001 beta:float=0.75 bias:float=1 size:int!", 0, sameAsFirst, costLRN},
		{"Dropout", "1 6 7 10 12 13 22", "data|12:data ratio? training_mode?", "output mask?",
			consumed + " is_test:int=0@..6 ratio:float=0.5@..11 seed:int@12", 0, inferDropout, nil},
		{"NegativeLogLikelihoodLoss", "12 13 22", "input target weight?", "loss", "ignore_index:int reduction:string=mean", 0, inferLoss, perInput(1)},
		{"SoftmaxCrossEntropyLoss", "12 13", "scores labels weights?", "output log_prob?", "ignore_index:int reduction:string=mean", 0, inferLoss, perInput(6)},
	}
}

func inferBatchNorm(c *call) {
	sameAsFirst(c)
	elem := c.elem(0)
	if c.ver() >= 14 {
		elem = c.elem(3)
	}
	for i := 1; i < len(c.out); i++ {
		c.set(i, elem, c.shape(3))
	}
}

// inferLayerNorm gives Mean and InvStdDev the input's shape with 1 from axis on.
// ONNX Runtime's own form has the scale's element type.
func inferLayerNorm(c *call) {
	sameAsFirst(c)
	if c.ver() < 17 {
		c.set(0, c.elem(1), c.shape(0))
	}
	stash := onnx.Float
	if d, ok := c.maybeInt("stash_type"); ok {
		stash = dtypeOf(d)
	}
	s := append(onnx.Shape(nil), c.shape(0)...)
	if axis, ok := axisOf(c.int("axis"), len(s)); ok {
		for i := axis; i < len(s); i++ {
			s[i] = onnx.Fixed(1)
		}
	} else {
		s = nil
	}
	c.set(1, stash, s)
	c.set(2, stash, s)
}

func inferRMSNorm(c *call) { c.set(0, c.elem(1), c.shape(0)) }

func costLRN(c *costing) { c.cost.FLOPs = c.times(constant(max(1, c.int("size"))+3), c.outCount(0)) }

// inferDropout: the mask is Bool from opset 10 on, of the data's type before.
func inferDropout(c *call) {
	sameAsFirst(c)
	elem := onnx.Bool
	if c.ver() < 10 {
		elem = c.elem(0)
	}
	c.set(1, elem, c.shape(0))
}

func inferLoss(c *call) {
	s := onnx.Shape{}
	if c.str("reduction") == "none" {
		s = c.shape(1)
	}
	c.set(0, c.elem(0), s)
	c.set(1, c.elem(0), c.shape(0))
}
