package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// signalRows are the Fourier transforms and window functions.
func signalRows() []row {
	const window = "output_datatype:int=1 periodic:int=1"
	return []row{
		{"DFT", "17 20", "input dft_length?|20:input dft_length? axis?", "output", "axis:int=1@..19 inverse:int=0 onesided:int=0", 0, inferDFT, nil},
		{"STFT", "17", "signal frame_step window? frame_length?", "output", "onesided:int=1", 0, inferSTFT, nil},
		{"BlackmanWindow", "17", "size", "output", window, 0, inferWindow, nil},
		{"HammingWindow", "17", "size", "output", window, 0, inferWindow, nil},
		{"HannWindow", "17", "size", "output", window, 0, inferWindow, nil},
		{"MelWeightMatrix", "17", "num_mel_bins dft_length sample_rate lower_edge_hertz upper_edge_hertz", "output",
			"output_datatype:int=1", 0, inferMel, nil},
	}
}

// only returns the one element of integer input i, nil where it is unknown.
func (c *call) only(i int) *expr {
	if e := c.ints(i); len(e) == 1 {
		return e[0]
	}
	return nil
}

// half returns n/2 + 1, the number of bins of a one-sided transform.
func half(n *expr) *expr { return add(floorDiv(n, constant(2)), constant(1)) }

func inferDFT(c *call) {
	s := append(onnx.Shape(nil), c.shape(0)...)
	axis := c.int("axis")
	known := true
	if c.ver() >= 20 {
		if axis = -2; c.has(2) {
			axis, known = c.number(2)
		}
	}
	at, ok := axisOf(axis, len(s))
	if !ok || len(s) < 2 {
		c.set(0, c.elem(0), nil)
		return
	}
	onesided, inverse := c.int("onesided") != 0, c.int("inverse") != 0
	if !known || onesided && inverse {
		c.set(0, c.elem(0), unknownShape(len(s)))
		return
	}
	length := c.ex(s[at])
	if c.has(1) {
		length = c.only(1)
	}
	if onesided {
		length = half(length)
	}
	s[at] = c.asDim(length)
	s[len(s)-1] = onnx.Fixed(2)
	c.set(0, c.elem(0), s)
}

// inferSTFT: signal [N, L, 1 or 2] gives [N, frames, bins, 2].
func inferSTFT(c *call) {
	out := onnx.Shape{c.dim(0, 0), onnx.Symbol(""), onnx.Symbol(""), onnx.Fixed(2)}
	var frame *expr
	if c.has(3) {
		frame = c.only(3)
	} else if c.has(2) {
		frame = c.size(2, 0)
	}
	step := c.only(1)
	if n, ok := step.known(); ok && n > 0 {
		out[1] = c.asDim(add(floorDiv(sub(c.size(0, 1), frame), step), constant(1)))
	}
	if bins := frame; c.int("onesided") != 0 {
		out[2] = c.asDim(half(bins))
	} else {
		out[2] = c.asDim(bins)
	}
	c.set(0, c.elem(0), out)
}

func inferWindow(c *call) {
	c.set(0, dtypeOf(c.int("output_datatype")), onnx.Shape{c.asDim(c.only(0))})
}

func inferMel(c *call) {
	c.set(0, dtypeOf(c.int("output_datatype")), onnx.Shape{c.asDim(half(c.only(1))), c.asDim(c.only(0))})
}
