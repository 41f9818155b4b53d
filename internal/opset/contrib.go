package opset

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// legacyRows are operators of the standard domain that only ONNX Runtime defines.
func legacyRows() []row {
	return []row{
		{"SimplifiedLayerNormalization", "1", "X scale", "Y inv_std_var?", "axis:int=-1 epsilon:float=1e-05 stash_type:int=1", 0, inferSimplifiedNorm, perOutput(5)},
		{"Affine", "1", "X", "Y", "alpha:float=1 beta:float=0", Elementwise, sameAsFirst, perOutput(2)},
		{"ImageScaler", "1", "input", "output", "bias:floats scale:float=1", 0, sameAsFirst, perOutput(2)},
		{"ParametricSoftplus", "1", "X", "Y", "alpha:float beta:float", Elementwise, sameAsFirst, perOutput(4)},
		{"Scale", "1", "input", "output", "scale:float=1", Elementwise, sameAsFirst, perOutput(1)},
		{"ScaledTanh", "1", "input", "output", "alpha:float beta:float", Elementwise, sameAsFirst, perOutput(3)},
	}
}

// contribRows are the float operators of com.microsoft outside attention.
func contribRows() []row {
	const gemmAct = "activation:string activation_alpha:float activation_beta:float activation_gamma:float "
	const trans = "alpha:float=1 transA:int=0 transB:int=0"
	const convAct = "activation:string activation_params:floats " + convAttrs
	return []row{
		{"FusedConv", "1", "X W B? Z?", "Y", convAct, 0, convType(0, 1, firstElem), costConv(1, 2)},
		{"NhwcConv", "1", "X W B?", "Y", convAttrs, 0, channelsLast(inferNhwcConv), costConv(1, 2)},
		{"NhwcFusedConv", "1", "X W B? Z?", "Y", convAct, 0, channelsLast(inferNhwcConv), costConv(1, 2)},
		{"NhwcMaxPool", "1", "x", "y", "auto_pad:string=NOTSET ceil_mode:int=0 dilations:ints kernel_shape:ints! pads:ints strides:ints", 0, channelsLast(inferPool), costPool},
		{"FusedGemm", "1", "A B C?", "Y", gemmAct + "alpha:float=1 beta:float=1 transA:int=0 transB:int=0", 0, inferGemm, costGemm},
		{"FusedMatMul", "1", "A B", "Y", trans + " transBatchA:int=0 transBatchB:int=0", 0, inferFusedMatMul, costFusedMatMul},
		{"FusedMatMulActivation", "1", "A B", "Y", "activation:string! activation_alpha:float activation_axis:int activation_beta:float activation_gamma:float " +
			trans + " transBatchA:int=0 transBatchB:int=0", 0, inferFusedMatMul, costFusedMatMul},
		{"TransposeMatMul", "1", "A B", "Y", trans, 0, inferFusedMatMul, costFusedMatMul},
		{"GemmFastGelu", "1", "X W bias?", "Y", "", 0, inferMatMul, costMatMul},
		{"Gelu", "1", "X", "Y", "", Elementwise, sameAsFirst, perOutput(5)},
		{"QuickGelu", "1", "X", "Y", "alpha:float=1.702", Elementwise, sameAsFirst, perOutput(5)},
		{"BiasGelu", "1", "A B", "C", "", Elementwise | Commutative, binary, perOutput(6)},
		{"FastGelu", "1", "X bias?", "Y", "", Elementwise, sameAsFirst, perOutput(8)},
		{"BiasSoftmax", "1", "data bias", "output", "axis:int=1 is_inner_broadcast:int!", 0, sameAsFirst, perOutput(6)},
		{"BiasDropout", "1", "data bias residual? ratio? training_mode?", "output mask?", "seed:int", 0, inferDropout, perOutput(1)},
		{"BitmaskDropout", "1", "data ratio? training_mode?", "output mask?", "seed:int", 0, sameAsFirst, nil},
		{"BitmaskBiasDropout", "1", "data bias residual? ratio? training_mode?", "output mask?", "seed:int", 0, sameAsFirst, perOutput(1)},
		{"BiasAdd", "1", "X bias skip", "Y", "", 0, sameAsFirst, perOutput(2)},
		{"BiasSplitGelu", "1", "X bias", "Y", "", 0, inferBiasSplitGelu, perOutput(6)},
		{"ComplexMul", "1", "A B", "C", "", 0, binary, perOutput(3)},
		{"ComplexMulConj", "1", "A B", "C", "", 0, binary, perOutput(3)},
		{"GroupNorm", "1", "X gamma beta", "Y", "activation:int! channels_last:int=1 epsilon:float=1e-05 groups:int!", 0, sameAsFirst, perOutput(7)},
		{"SkipGroupNorm", "1", "X gamma beta skip bias?", "Y S?", "activation:int! channels_last:int=1 epsilon:float=1e-05 groups:int!", 0, allAsFirst, perOutput(8)},
		{"SkipLayerNormalization", "1", "input skip gamma beta? bias?", "output mean? inv_std_var? input_skip_bias_sum?", "epsilon:float=1e-12", 0, inferSkipNorm, perOutput(10)},
		{"SkipSimplifiedLayerNormalization", "1", "input skip gamma bias?", "output mean? inv_std_var? input_skip_bias_sum?", "epsilon:float=1e-12", 0, inferSkipNorm, perOutput(7)},
		{"EmbedLayerNormalization", "1", "input_ids segment_ids? word_embedding position_embedding segment_embedding? gamma beta mask? position_ids?",
			"output mask_index? embedding_sum?", "epsilon:float=1e-12 mask_index_type:int", 0, inferEmbedNorm, perOutput(10)},
		{"Inverse", "1", "X", "Y", "", 0, sameAsFirst, nil},
		{"Trilu", "1", "X k?", "Y", "upper:int=1", 0, sameAsFirst, nil},
		{"ExpandDims", "1", "X axis", "Y", "", 0, inferExpandDims, nil},
		{"GatherND", "1", "data indices", "output", "", 0, inferGatherND, nil},
		{"GridSample", "1", "X Grid", "Y", "align_corners:int=0 mode:string=bilinear padding_mode:string=zeros", 0, inferGridSample, perOutput(8)},
		{"IsAllFinite", "1", "input*", "output", "isinf_only:int=0 isnan_only:int=0", 0, func(c *call) { c.set(0, onnx.Bool, onnx.Shape{}) }, nil},
		{"MurmurHash3", "1", "X", "Y", "positive:int=1 seed:int=0", Elementwise, inferMurmur, nil},
		{"CDist", "1", "A B", "C", "metric:string=sqeuclidean", 0, func(c *call) { c.set(0, c.elem(0), onnx.Shape{c.dim(0, 0), c.dim(1, 0)}) }, nil},
		{"Range", "1", "start limit delta?", "Y", "", 0, func(c *call) { c.set(0, c.elem(0), unknownShape(1)) }, nil},
	}
}

// allAsFirst gives every output the type of the first input.
func allAsFirst(c *call) {
	for i := range c.out {
		c.setType(i, c.typ(0))
	}
}

func inferSimplifiedNorm(c *call) {
	inferLayerNorm(c)
	c.set(0, c.elem(1), c.shape(0))
}

// channelsLast runs an inference of [N, C, spatial…] on [N, spatial…, C] data.
func channelsLast(infer func(*call)) func(*call) {
	return func(c *call) {
		v := c.n.Input(0)
		s := c.shape(0)
		if len(s) < 3 {
			c.set(0, c.elem(0), nil)
			return
		}
		saved, had := c.f.facts[v]
		last := len(s) - 1
		c.f.facts[v] = fact{typ: onnx.TensorType(c.elem(0), concatShape(s[:1], s[last:], s[1:last]))}
		infer(c)
		if c.f.facts[v] = saved; !had {
			delete(c.f.facts, v)
		}
		for i := range c.out {
			if t := c.out[i].typ; t.IsTensor() && len(t.Shape) == len(s) {
				c.out[i].typ = t.WithShape(concatShape(t.Shape[:1], t.Shape[2:], t.Shape[1:2]))
			}
		}
	}
}

// inferNhwcConv is the convolution of channels-last data, whose weight need not
// be laid out as Conv's: the window is known from the attribute only.
func inferNhwcConv(c *call) {
	convType(0, 1, firstElem)(c)
	if t := c.out[0].typ; c.intList("kernel_shape") == nil && len(t.Shape) > 2 {
		c.set(0, t.Elem, concatShape(t.Shape[:2], unknownShape(len(t.Shape)-2)))
	}
}

// transposed returns s with the last two dimensions exchanged where flag is not 0.
func transposed(s onnx.Shape, flag int64) onnx.Shape {
	if flag == 0 || len(s) < 2 {
		return s
	}
	out, n := slices.Clone(s), len(s)
	out[n-2], out[n-1] = out[n-1], out[n-2]
	return out
}

// operand returns the shape of input i of a fused product as multiplied:
// transBatch moves the first dimension behind the batch dimensions, trans
// exchanges the last two.
func (c *call) operand(i int, trans, transBatch string) onnx.Shape {
	s := c.shape(i)
	if n := len(s); c.int(transBatch) != 0 && n > 2 {
		s = concatShape(s[1:n-1], s[:1], s[n-1:])
	}
	return transposed(s, c.int(trans))
}

func inferFusedMatMul(c *call) {
	c.set(0, c.elem(0), c.matmulShape(c.operand(0, "transA", "transBatchA"), c.operand(1, "transB", "transBatchB")))
}

func costFusedMatMul(c *costing) {
	s := c.operand(0, "transA", "transBatchA")
	if len(s) == 0 {
		c.unknown = true
		return
	}
	c.cost.MACs = c.times(c.outCount(0), c.count(s[len(s)-1:]))
}

func inferBiasSplitGelu(c *call) {
	s := slices.Clone(c.shape(0))
	if len(s) > 0 {
		s[len(s)-1] = c.asDim(quotient(c.size(0, -1), constant(2)))
	}
	c.set(0, c.elem(0), s)
}

// inferSkipNorm: mean and inverse deviation have the input's shape with last
// dimension 1; the sum has the input's type.
func inferSkipNorm(c *call) {
	sameAsFirst(c)
	s := slices.Clone(c.shape(0))
	if len(s) > 0 {
		s[len(s)-1] = onnx.Fixed(1)
	}
	c.set(1, onnx.Float, s)
	c.set(2, onnx.Float, s)
	c.setType(3, c.typ(0))
}

func inferEmbedNorm(c *call) {
	s := onnx.Shape{c.dim(0, 0), c.dim(0, 1), c.dim(2, 1)}
	c.set(0, c.elem(2), s)
	c.set(1, onnx.Int32, onnx.Shape{c.dim(0, 0)})
	c.set(2, c.elem(2), s)
}

func inferExpandDims(c *call) {
	s := c.shape(0)
	axis, ok := c.number(1)
	at, inRange := axisOf(axis, len(s)+1)
	if s == nil {
		c.set(0, c.elem(0), nil)
		return
	}
	if !ok || !inRange {
		c.set(0, c.elem(0), unknownShape(len(s)+1))
		return
	}
	c.set(0, c.elem(0), concatShape(s[:at], onnx.ShapeOf(1), s[at:]))
}

func inferMurmur(c *call) {
	elem := onnx.Uint32
	if c.int("positive") == 0 {
		elem = onnx.Int32
	}
	c.set(0, elem, c.shape(0))
}
