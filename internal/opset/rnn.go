package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// rnnRows are the recurrent layers.
func rnnRows() []row {
	const tail = " layout:int=0@14"
	const acts = "activation_alpha:floats activation_beta:floats "
	return []row{
		{"RNN", "1 7 14 22", "X W R B? sequence_lens? initial_h?", "Y? Y_h?",
			acts + "activations:strings=Tanh,Tanh clip:float direction:string=forward hidden_size:int output_sequence:int=0@..6" + tail, 0, inferRecurrent, costRecurrent},
		{"GRU", "1 3 7 14 22", "X W R B? sequence_lens? initial_h?", "Y? Y_h|3:Y? Y_h?",
			acts + "activations:strings clip:float direction:string=foward@..2 hidden_size:int output_sequence:int=0@..6 " +
				"direction:string=forward@3 linear_before_reset:int=0@3" + tail, 0, inferRecurrent, costRecurrent},
		{"LSTM", "1 7 14 22", "X W R B? sequence_lens? initial_h? initial_c? P?", "Y? Y_h? Y_c?",
			acts + "activations:strings clip:float direction:string=forward hidden_size:int input_forget:int=0 output_sequence:int=0@..6" + tail, 0, inferRecurrent, costRecurrent},
	}
}

// inferRecurrent: X [T, N, in], W [D, gates·H, in], R [D, gates·H, H] give Y
// [T, D, N, H] and final states [D, N, H]; with layout 1, the batch comes first.
func inferRecurrent(c *call) {
	hidden := c.dim(2, 2)
	if h, ok := c.maybeInt("hidden_size"); ok && h > 0 {
		hidden = onnx.Fixed(h)
	}
	dirs := c.dim(1, 0)
	switch c.str("direction") {
	case "forward", "reverse", "foward":
		dirs = onnx.Fixed(1)
	case "bidirectional":
		dirs = onnx.Fixed(2)
	}
	steps, batch := c.dim(0, 0), c.dim(0, 1)
	y, state := onnx.Shape{steps, dirs, batch, hidden}, onnx.Shape{dirs, batch, hidden}
	if c.int("layout") != 0 {
		steps, batch = batch, steps
		y, state = onnx.Shape{batch, steps, dirs, hidden}, onnx.Shape{batch, dirs, hidden}
	}
	c.set(0, c.elem(0), y)
	c.set(1, c.elem(0), state)
	c.set(2, c.elem(0), state)
}

// costRecurrent counts the products with W and R at every step.
func costRecurrent(c *costing) {
	per := c.plus(c.inCount(1), c.inCount(2))
	c.cost.MACs = c.times(c.sizeAt(0, 0), c.sizeAt(0, 1), per)
}
