package grad

// gradCase is a small model whose gradient is checked against differences. A size that is written 2:N is 2, and the symbol N
// in the variant in which sizes are known only to the run.
type gradCase struct {
	name      string
	in        string // inputs; the gradient is taken by those of type double
	body      string // nodes that compute y
	consts    string // initializers
	low, high float64
	like      string // nodes that compute what the gradient is that of, where y itself is a staircase
	single    bool   // in single precision and linear in the inputs, so that large steps are exact
	opset     int    // 0: 20
	noRuntime string // why ONNX Runtime does not run it
}

// cases hold every rule, each over its parameters.
var cases = []gradCase{
	// functions of one variable
	{name: "neg abs", in: "double[2:N,3] x", body: "a = Neg(x) b = Abs(a) y = Mul(b, a)"},
	{name: "exp log", in: "double[2:N,3] x", body: "a = Exp(x) b = Log(x) y = Add(a, b)", low: 0.2, high: 2},
	{name: "sqrt reciprocal", in: "double[4] x", body: "a = Sqrt(x) b = Reciprocal(x) y = Mul(a, b)", low: 0.3, high: 2},
	{name: "erf", in: "double[4] x", body: "y = Erf(x)"},
	{name: "sin cos tan", in: "double[4] x", body: "a = Sin(x) b = Cos(x) c = Tan(x) y = Sum(a, b, c)", low: -1, high: 1, noRuntime: "no Tan of doubles"},
	{name: "asin acos atan", in: "double[4] x", body: "a = Asin(x) b = Acos(x) c = Atan(x) d = Mul(a, c) y = Add(d, b)", low: -0.9, high: 0.9},
	{name: "sinh cosh", in: "double[4] x", body: "a = Sinh(x) b = Cosh(x) y = Mul(a, b)"},
	{name: "asinh atanh", in: "double[4] x", body: "a = Asinh(x) b = Atanh(x) y = Mul(a, b)", low: -0.9, high: 0.9},
	{name: "acosh", in: "double[4] x", body: "y = Acosh(x)", low: 1.2, high: 3},

	// activations
	{name: "relu", in: "double[2:N,5] x", body: "y = Relu(x)"},
	{name: "leaky relu", in: "double[2:N,5] x", body: "a = LeakyRelu(x) b = LeakyRelu<alpha=0.3>(x) y = Mul(a, b)"},
	{name: "thresholded relu", in: "double[9] x", body: "a = ThresholdedRelu<alpha=0.5>(x) b = ThresholdedRelu(x) y = Add(a, b)"},
	{name: "prelu", in: "double[2:N,3,4] x, double[3,1] s", body: "y = PRelu(x, s)"},
	{name: "prelu scalar slope", in: "double[2:N,3] x, double[1] s", body: "y = PRelu(x, s)"},
	{name: "elu selu celu", in: "double[9] x", body: "a = Elu<alpha=0.7>(x) b = Selu(x) c = Celu<alpha=1.4>(x) d = Elu(x) y = Sum(a, b, c, d)"},
	{name: "selu parameters", in: "double[9] x", body: "y = Selu<alpha=1.2, gamma=0.8>(x)"},
	{name: "sigmoid tanh", in: "double[9] x", body: "a = Sigmoid(x) b = Tanh(x) y = Mul(a, b)"},
	{name: "hard sigmoid", in: "double[12] x", body: "a = HardSigmoid(x) b = HardSigmoid<alpha=0.6, beta=0.4>(x) y = Add(a, b)", low: -4, high: 4},
	{name: "hard swish", in: "double[12] x", body: "y = HardSwish(x)", low: -5, high: 5},
	{name: "softplus softsign mish", in: "double[9] x", body: "a = Softplus(x) b = Softsign(x) c = Mish(x) y = Sum(a, b, c)"},
	{name: "gelu", in: "double[9] x", body: `a = Gelu(x) b = Gelu<approximate="tanh">(x) y = Mul(a, b)`},
	{name: "swish", in: "double[9] x", body: "a = Swish(x) b = Swish<alpha=1.7>(x) y = Mul(a, b)", opset: 24, noRuntime: "opset 24"},
	{name: "clip", in: "double[12] x", body: "a = Clip(x, l, h) b = Clip(x, , h) c = Clip(x) y = Sum(a, b, c)", consts: "double l = {-0.5}, double h = {0.7}"},
	{name: "clip of opset 6", in: "double[12] x", body: "y = Clip<min=-0.5, max=0.8>(x)", opset: 9, noRuntime: "old opset with doubles"},

	// arithmetic
	{name: "add sub", in: "double[2:N,3] a, double[3:M] b", body: "c = Add(a, b) d = Sub(b, c) e = Sub(d, a) y = Mul(e, e)"},
	{name: "mul div", in: "double[2:N,1,3] a, double[4:M,1] b", body: "c = Mul(a, b) d = Div(a, b) y = Add(c, d)", low: 0.5, high: 2},
	{name: "broadcast of axes of size 1", in: "double[1:N,3] a, double[2:M,1:K] b", body: "y = Mul(a, b)"},
	{name: "broadcast scalars", in: "double[2:N,3] a, double b", body: "y = Mul(b, a)"},
	{name: "shared value", in: "double[2:N,3] x", body: "a = Mul(x, x) b = Add(a, x) c = Mul(b, a) y = Add(c, x)"},
	{name: "pow", in: "double[2:N,3] x, double[3] p", body: "y = Pow(x, p)", low: 0.3, high: 2},
	{name: "pow of negative numbers", in: "double[6] x", body: "y = Pow(x, p)", consts: "double p = {3.0}"},
	{name: "pow by integers", in: "double[6] x", body: "y = Pow(x, p)", consts: "int64 p = {2}"},
	{name: "sum mean", in: "double[2:N,3] a, double[3] b, double[2:N,1] c", body: "d = Sum(a, b, c) e = Mean(c, a, b) y = Mul(d, e)"},
	{name: "max min", in: "double[2:N,3] a, double[3] b, double[2:N,1] c", body: "d = Max(a, b, c) e = Min(a, c) f = Max(b) g = Mul(d, e) y = Add(g, f)"},
	{name: "where", in: "double[2:N,3] a, double[3] b", body: "y = Where(c, a, b)", consts: "bool[2,1] c = {1, 0}"},
	{name: "where by comparison", in: "double[5] a, double[5] b", body: "c = Greater(a, b) d = Mul(a, b) y = Where(c, d, b)"},

	// products of matrices
	{name: "matmul", in: "double[2:N,3] a, double[3,4] b", body: "y = MatMul(a, b)"},
	{name: "matmul batches", in: "double[2:N,1,3,2] a, double[5,2,4] b", body: "y = MatMul(a, b)"},
	{name: "matmul vectors", in: "double[3] a, double[3] b", body: "y = MatMul(a, b)"},
	{name: "matmul vector left", in: "double[3] a, double[2:N,3,4] b", body: "y = MatMul(a, b)"},
	{name: "matmul vector right", in: "double[2:N,4,3] a, double[3] b", body: "y = MatMul(a, b)"},
	{name: "gemm", in: "double[2:N,3] a, double[3,4] b, double[4] c", body: "y = Gemm<alpha=0.7, beta=1.3>(a, b, c)"},
	{name: "gemm transposed b", in: "double[2:N,3] a, double[4,3] b, double[2:N,1] c", body: "y = Gemm<transB=1>(a, b, c)"},
	{name: "gemm transposed a", in: "double[3,2] a, double[3,4] b", body: "y = Gemm<transA=1, alpha=0.5>(a, b)"},
	{name: "gemm transposed both", in: "double[3,2] a, double[4,3] b, double c", body: "y = Gemm<transA=1, transB=1>(a, b, c)"},
	{name: "einsum", in: "double[2:N,3,4] a, double[2:N,4,5] b", body: `y = Einsum<equation="bij,bjk->bki">(a, b)`},
	{name: "einsum implied result", in: "double[3,4] a, double[4,2] b", body: `y = Einsum<equation="ij,jk">(a, b)`},
	{name: "einsum three operands", in: "double[3,4] a, double[4,2] b, double[2] c", body: `y = Einsum<equation="ij,jk,k->ik">(a, b, c)`},

	// convolutions
	{name: "conv", in: "double[2:N,3,6:H,5:W] x, double[4,3,3,2] w, double[4] b", body: "y = Conv(x, w, b)"},
	{name: "conv strides pads", in: "double[1:N,2,7:H,6:W] x, double[3,2,3,3] w, double[3] b", body: "y = Conv<strides=[2,3], pads=[1,2,0,1]>(x, w, b)"},
	{name: "conv dilations", in: "double[1:N,2,8:H,7:W] x, double[3,2,2,3] w", body: "y = Conv<dilations=[3,2], pads=[1,1,1,1]>(x, w)"},
	{name: "conv dilations and strides", in: "double[2:N,2,9:H,8:W] x, double[2,2,3,2] w", body: "y = Conv<dilations=[2,3], strides=[3,2], pads=[2,1,1,2]>(x, w)"},
	{name: "conv stride above kernel", in: "double[1:N,2,8:H,8:W] x, double[2,2,1,1] w", body: "y = Conv<strides=[3,2]>(x, w)"},
	{name: "conv groups", in: "double[2:N,4,5:H,4:W] x, double[6,2,3,2] w, double[6] b", body: "y = Conv<group=2, pads=[1,0,1,0]>(x, w, b)"},
	{name: "conv depthwise", in: "double[2:N,3,6:H,5:W] x, double[3,1,3,3] w", body: "y = Conv<group=3, strides=[2,2], pads=[1,1,1,1]>(x, w)"},
	{name: "conv 1d", in: "double[2:N,3,9:L] x, double[2,3,4] w, double[2] b", body: "y = Conv<strides=[2], pads=[1,2], dilations=[2]>(x, w, b)"},
	{name: "conv 3d", in: "double[1:N,2,4:D,5:H,4:W] x, double[2,1,2,3,2] w", body: "y = Conv<group=2, strides=[1,2,2], pads=[0,1,1,1,0,1]>(x, w)"},
	{name: "conv same upper", in: "double[1:N,2,7:H,6:W] x, double[2,2,3,2] w", body: `y = Conv<auto_pad="SAME_UPPER", strides=[2,3]>(x, w)`},
	{name: "conv same lower", in: "double[1:N,2,7:H,6:W] x, double[2,2,4,2] w", body: `y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)`},
	{name: "conv valid", in: "double[1:N,2,7:H,6:W] x, double[2,2,3,2] w", body: `y = Conv<auto_pad="VALID", strides=[3,2]>(x, w)`},
	{name: "conv wide padding", in: "double[1:N,2,3:H,3:W] x, double[2,2,1,2] w", body: "y = Conv<pads=[2,3,1,2]>(x, w)"},
	{name: "transposed conv", in: "double[2:N,3,4:H,3:W] x, double[3,2,3,2] w, double[2] b", body: "y = ConvTranspose<strides=[2,3], pads=[1,0,0,1], output_padding=[1,1]>(x, w, b)"},
	{name: "transposed conv groups", in: "double[2:N,4,3:H,3:W] x, double[4,2,2,3] w", body: "y = ConvTranspose<group=2, dilations=[2,1]>(x, w)"},
	{name: "transposed conv 1d", in: "double[2:N,2,5:L] x, double[2,3,3] w", body: "y = ConvTranspose<strides=[2]>(x, w)"},
	{name: "transposed conv output shape", in: "double[1:N,2,4,4] x, double[2,2,3,3] w", body: "y = ConvTranspose<strides=[2,2], output_shape=[8,8]>(x, w)"},
	{name: "transposed conv same upper", in: "double[1:N,2,4,4] x, double[2,2,3,3] w", body: `y = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, w)`},

	// poolings
	{name: "max pool", in: "double[2:N,3,6:H,5:W] x", body: "y = MaxPool<kernel_shape=[2,3], strides=[2,1], pads=[0,1,1,1]>(x)"},
	{name: "max pool overlapping", in: "double[1:N,2,7:H,7:W] x", body: "y = MaxPool<kernel_shape=[3,3], dilations=[2,1], ceil_mode=1, strides=[2,2]>(x)"},
	{name: "max pool 1d", in: "double[1:N,2,9:L] x", body: "y = MaxPool<kernel_shape=[3]>(x)"},
	{name: "max pool with positions", in: "double[1:N,2,4:H,4:W] x", body: "y, i = MaxPool<kernel_shape=[2,2]>(x)"},
	{name: "average pool", in: "double[2:N,3,6:H,5:W] x", body: "y = AveragePool<kernel_shape=[2,3], strides=[2,2]>(x)"},
	{name: "average pool pads", in: "double[1:N,2,5:H,5:W] x", body: "y = AveragePool<kernel_shape=[3,3], strides=[2,1], pads=[1,1,0,1]>(x)"},
	{name: "average pool counting pads", in: "double[1:N,2,5:H,5:W] x", body: "y = AveragePool<kernel_shape=[3,2], pads=[1,1,1,0], count_include_pad=1>(x)"},
	{name: "average pool ceil", in: "double[1:N,2,6:H,7:W] x", body: "y = AveragePool<kernel_shape=[3,2], strides=[2,2], ceil_mode=1>(x)"},
	{name: "average pool ceil counting pads", in: "double[1:N,2,6:H,6:W] x", body: "y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1, pads=[1,1,1,1], count_include_pad=1>(x)"},
	{name: "average pool same", in: "double[1:N,2,5:H,6:W] x", body: `y = AveragePool<kernel_shape=[3,2], strides=[2,2], auto_pad="SAME_UPPER">(x)`},
	{name: "average pool 1d", in: "double[1:N,2,9:L] x", body: "y = AveragePool<kernel_shape=[4], strides=[3]>(x)"},
	{name: "global average pool", in: "double[2:N,3,4:H,3:W] x", body: "y = GlobalAveragePool(x)"},
	{name: "global max pool", in: "double[2:N,3,4:H,3:W] x", body: "y = GlobalMaxPool(x)"},

	// normalizations
	{name: "batch normalization", in: "double[2:N,3,2:H,2] x, double[3] s, double[3] b", body: "y = BatchNormalization<epsilon=0.01>(x, s, b, m, v)", consts: "double[3] m = {0.1, -0.2, 0.3}, double[3] v = {0.5, 1.5, 2.0}"},
	{name: "batch normalization of rank 2", in: "double[2:N,3] x, double[3] s, double[3] b", body: "y = BatchNormalization(x, s, b, m, v)", consts: "double[3] m = {0.1, -0.2, 0.3}, double[3] v = {0.5, 1.5, 2.0}"},
	{name: "batch normalization by its statistics", in: "double[2:N,3,2:H] x, double[3] s, double[3] b, double[3] m, double[3] v", body: "y = BatchNormalization<epsilon=0.01>(x, s, b, m, v)", low: 0.3, high: 2},
	{name: "instance normalization", in: "double[2:N,3,4:H,2] x, double[3] s, double[3] b", body: "y = InstanceNormalization<epsilon=0.01>(x, s, b)"},
	{name: "layer normalization", in: "double[2:N,3,4] x, double[4] s, double[4] b", body: "y = LayerNormalization<epsilon=0.01>(x, s, b)"},
	{name: "layer normalization over two axes", in: "double[2:N,3,4] x, double[3,4] s", body: "y = LayerNormalization<axis=1>(x, s)"},
	{name: "group normalization", in: "double[2:N,4,3:H,2] x, double[2] s, double[2] b", body: "y = GroupNormalization<num_groups=2, epsilon=0.01>(x, s, b)"},
	{name: "group normalization of opset 21", in: "double[2:N,4,3:H,2] x, double[4] s, double[4] b", body: "y = GroupNormalization<num_groups=2, epsilon=0.01>(x, s, b)", opset: 21},
	{name: "rms normalization", in: "double[2:N,3,4] x, double[4] s", body: "y = RMSNormalization<epsilon=0.01>(x, s)", opset: 23},
	{name: "simplified layer normalization", in: "double[2:N,3,4] x, double[4] s", body: "y = SimplifiedLayerNormalization<epsilon=0.01>(x, s)"},
	{name: "mean variance normalization", in: "double[2:N,3,4:H,2] x", body: "a = MeanVarianceNormalization(x) b = MeanVarianceNormalization<axes=[1,3]>(x) y = Add(a, b)"},
	{name: "lp normalization", in: "double[2:N,3,4] x", body: "a = LpNormalization(x) b = LpNormalization<axis=1>(x) y = Add(a, b)"},
	{name: "local response normalization", in: "double[2:N,5,2:H,3] x", body: "y = LRN<size=3, alpha=0.5, bias=1.5>(x)"},
	{name: "local response normalization of even size", in: "double[2:N,5,2:H,3] x", body: "y = LRN<size=4, alpha=0.7, beta=0.6>(x)", noRuntime: "odd sizes only"},
	{name: "softmax", in: "double[2:N,3,4] x", body: "a = Softmax(x) b = Softmax<axis=1>(x) y = Mul(a, b)"},
	{name: "softmax of opset 11", in: "double[2:N,3,4] x", body: "y = Softmax(x)", opset: 11},
	{name: "log softmax", in: "double[2:N,3,4] x", body: "a = LogSoftmax(x) b = LogSoftmax<axis=0>(x) y = Add(a, b)"},

	// reductions
	{name: "reduce sum", in: "double[2:N,3,4:M] x", body: "a = ReduceSum(x, k) b = ReduceSum<keepdims=0>(x, k) c = ReduceSum(x) d = Mul(a, c) y = Add(d, b)", consts: "int64[1] k = {-2}"},
	{name: "reduce mean", in: "double[2:N,3,4:M] x", body: "a = ReduceMean(x, k) b = ReduceMean<keepdims=0>(x, k) c = Add(a, b) y = Mul(c, c)", consts: "int64[2] k = {2, 0}"},
	{name: "reduce mean of opset 13", in: "double[2:N,3,4:M] x", body: "y = ReduceMean<axes=[-1], keepdims=0>(x)", opset: 13},
	{name: "reduce max min", in: "double[2:N,3,4:M] x", body: "a = ReduceMax<keepdims=0>(x, k) b = ReduceMin<keepdims=0>(x, k) y = Mul(a, b)", consts: "int64[2] k = {0, 2}"},
	{name: "reduce l1 l2", in: "double[2:N,3,4:M] x", body: "a = ReduceL1(x, k) b = ReduceL2(x, k) y = Mul(a, b)", consts: "int64[1] k = {1}"},
	{name: "reduce sum square", in: "double[2:N,3,4:M] x", body: "y = ReduceSumSquare<keepdims=0>(x, k)", consts: "int64[1] k = {1}"},
	{name: "reduce log sum", in: "double[2:N,3,4:M] x", body: "a = ReduceLogSum<keepdims=0>(x, k) b = ReduceLogSumExp<keepdims=0>(x, k) y = Mul(a, b)", consts: "int64[1] k = {1}", low: 0.2, high: 2},

	// elements in other places
	{name: "reshape", in: "double[2:N,3,4] x", body: "a = Reshape(x, s) b = Flatten<axis=2>(a) c = Identity(b) y = Mul(c, c)", consts: "int64[3] s = {0, 2, -1}"},
	{name: "squeeze unsqueeze", in: "double[2:N,1,4] x", body: "a = Squeeze(x, k) b = Unsqueeze(a, j) y = Mul(b, b)", consts: "int64[1] k = {1}, int64[2] j = {0, -1}"},
	{name: "transpose", in: "double[2:N,3,4] x", body: "a = Transpose(x) b = Transpose<perm=[1,2,0]>(x) c = Transpose<perm=[1,0,2]>(a) d = Mul(c, w) y = Mul(d, b)", consts: "double[3,4,2] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24}"},
	{name: "expand", in: "double[3,1] x", body: "a = Expand(x, s) y = Mul(a, a)", consts: "int64[3] s = {2, 1, 4}"},
	{name: "cast", in: "double[2:N,3] x", body: "a = Cast<to=11>(x) b = CastLike(a, x) y = Mul(b, x)"},
	{name: "dropout", in: "double[2:N,3] x", body: "a = Dropout(x) b = Dropout(x, r) y = Mul(a, b)", consts: "double r = {0.3}"},
	{name: "concat", in: "double[2:N,3] a, double[2:N,2:M] b", body: "c = Concat<axis=-1>(a, b, a) d = Concat<axis=1>(c) y = Mul(d, d)"},
	{name: "split", in: "double[2:N,6] x", body: "a, b, c = Split<axis=1>(x, s) y = Mul(a, c)", consts: "int64[3] s = {2, 2, 2}"},
	{name: "split evenly", in: "double[2:N,6] x", body: "a, b = Split<axis=-1, num_outputs=2>(x) y = Mul(b, a)"},
	{name: "pad", in: "double[2:N,3:M] x", body: "a = Pad(x, p, v) y = Mul(a, a)", consts: "int64[4] p = {1, -1, 2, 1}, double v = {0.5}"},
	{name: "pad axes", in: "double[2:N,3:M] x", body: "a = Pad(x, p, , k) y = Mul(a, a)", consts: "int64[2] p = {1, 2}, int64[1] k = {1}"},
	{name: "pad reflect edge", in: "double[2:N,4:M] x", body: `a = Pad<mode="reflect">(x, p) b = Pad<mode="edge">(x, p) y = Mul(a, b)`, consts: "int64[4] p = {1, 2, 0, 3}"},
	{name: "depth to space", in: "double[1:N,8,2:H,3:W] x", body: `a = DepthToSpace<blocksize=2>(x) b = DepthToSpace<blocksize=2, mode="CRD">(x) y = Mul(a, b)`},
	{name: "space to depth", in: "double[1:N,2,4:H,6:W] x", body: "a = SpaceToDepth<blocksize=2>(x) y = Mul(a, a)"},
	{name: "cumulative sum", in: "double[2:N,4] x", body: "a = CumSum(x, k) b = CumSum<exclusive=1, reverse=1>(x, k) y = Mul(a, b)", consts: "int64 k = {1}"},
	{name: "triangles", in: "double[2:N,3,4] x", body: "a = Trilu(x) b = Trilu<upper=0>(x, k) c = Mul(a, a) y = Add(c, b)", consts: "int64 k = {-1}"},

	// elements by position
	{name: "slice", in: "double[3:N,5] x", body: "a = Slice(x, s, e, k) y = Mul(a, a)", consts: "int64[2] s = {-4, 1}, int64[2] e = {9, 3}, int64[2] k = {1, 0}"},
	{name: "slice steps", in: "double[3:N,7] x", body: "a = Slice(x, s, e, k, t) y = Mul(a, a)", consts: "int64[1] s = {-1}, int64[1] e = {-9}, int64[1] k = {1}, int64[1] t = {-2}"},
	{name: "slice of opset 9", in: "double[3:N,5] x", body: "y = Slice<starts=[1], ends=[-1], axes=[1]>(x)", opset: 9, noRuntime: "old opset with doubles"},
	{name: "gather", in: "double[3:N,4] x", body: "a = Gather<axis=1>(x, i) b = Gather(x, j) c = ReduceSum(b) y = Mul(a, c)", consts: "int64[2,2] i = {0, -1, 0, 2}, int64 j = {1}"},
	{name: "gather elements", in: "double[2:N,3] x", body: "a = GatherElements<axis=1>(x, i) y = Mul(a, a)", consts: "int64[2,2] i = {0, 0, 2, -1}"},
	{name: "gather nd", in: "double[2:N,3,2] x", body: "a = GatherND(x, i) y = Mul(a, a)", consts: "int64[3,2] i = {0, 1, 1, -1, 0, 1}"},
	{name: "tile", in: "double[2:N,3] x", body: "a = Tile(x, r) y = Mul(a, a)", consts: "int64[2] r = {2, 3}"},
	{name: "compress", in: "double[2:N,3] x", body: "a = Compress<axis=1>(x, k) y = Mul(a, a)", consts: "bool[3] k = {1, 0, 1}"},
	{name: "top k", in: "double[2:N,5] x", body: "a, i = TopK(x, k) b, j = TopK<axis=1, largest=0>(x, k) y = Mul(a, b)", consts: "int64[1] k = {3}"},
	{name: "scatter elements", in: "double[2:N,4] x, double[2,2] u", body: `a = ScatterElements<axis=1>(x, i, u) b = ScatterElements<axis=1, reduction="add">(x, i, u) y = Mul(a, b)`, consts: "int64[2,2] i = {0, 2, 3, 1}"},
	{name: "scatter nd", in: "double[3:N,2] x, double[2,2] u", body: `a = ScatterND(x, i, u) b = ScatterND<reduction="add">(x, i, u) y = Mul(a, b)`, consts: "int64[2,1] i = {2, 0}"},

	// interpolation
	{name: "resize linear", in: "double[1:N,2,3:H,4:W] x", body: `y = Resize<mode="linear">(x, , s)`, consts: "float[4] s = {1, 1, 2, 1.5}"},
	{name: "resize nearest", in: "double[1:N,2,3:H,4:W] x", body: `y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , s)`, consts: "float[4] s = {1, 1, 2, 2}"},
	{name: "resize cubic", in: "double[1:N,2,4:H,5:W] x", body: `y = Resize<mode="cubic", cubic_coeff_a=-0.5, coordinate_transformation_mode="align_corners">(x, , , s)`, consts: "int64[4] s = {1, 2, 7, 3}"},
	{name: "resize down", in: "double[1:N,2,6:H,5:W] x", body: `y = Resize<mode="linear", coordinate_transformation_mode="pytorch_half_pixel">(x, , , s)`, consts: "int64[4] s = {1, 2, 3, 1}"},
	{name: "upsample of opset 9", in: "double[1:N,2,3:H,4:W] x", body: `y = Upsample<mode="nearest">(x, s)`, consts: "float[4] s = {1, 1, 2, 2}", opset: 9, noRuntime: "old opset with doubles"},

	// operators that ONNX Runtime adds
	{name: "contrib gelu", in: "double[2:N,3] x, double[3] b", body: "c = com.microsoft.Gelu(x) d = com.microsoft.QuickGelu(x) e = com.microsoft.QuickGelu<alpha=1.0>(x) f = com.microsoft.BiasGelu(x, b) g = com.microsoft.FastGelu(x, b) h = com.microsoft.FastGelu(x) y = Sum(c, d, e, f, g, h)"},
	{name: "fused matmul", in: "double[2:N,3,4] a, double[2:N,5,3] b", body: "y = com.microsoft.FusedMatMul<transA=1, transB=1, alpha=0.5>(a, b)"},
	{name: "fused matmul broadcast", in: "double[2:N,3,4] a, double[5,4] b", body: "y = com.microsoft.FusedMatMul<transB=1>(a, b)"},
	{name: "fused conv relu", in: "double[1:N,2,5:H,5:W] x, double[3,2,3,3] w, double[3] b", body: `y = com.microsoft.FusedConv<activation="Relu", strides=[2,2], pads=[1,1,1,1]>(x, w, b)`},
	{name: "fused conv sum", in: "double[1:N,2,4:H,4:W] x, double[3,2,3,3] w, double[3] b, double[1:N,3,2,2] z", body: `y = com.microsoft.FusedConv<activation="Tanh">(x, w, b, z)`, noRuntime: "the form with a sum is for other activations"},
	{name: "fused conv clip", in: "double[1:N,2,4:H,4:W] x, double[3,2,3,3] w", body: `a = com.microsoft.FusedConv<activation="Clip", activation_params=[-1.0, 1.5]>(x, w) b = com.microsoft.FusedConv<activation="LeakyRelu", activation_params=[0.1]>(x, w) c = com.microsoft.FusedConv<activation="HardSigmoid", activation_params=[0.3, 0.4]>(x, w) d = com.microsoft.FusedConv<activation="Sigmoid">(x, w) y = Sum(a, b, c, d)`},
	{name: "skip layer normalization", in: "double[2:N,3,4] x, double[2:N,3,4] s, double[4] g, double[4] b, double[4] c", body: "a, , , t = com.microsoft.SkipLayerNormalization<epsilon=0.01>(x, s, g, b, c) y = Mul(a, t)"},
	{name: "skip layer normalization alone", in: "double[2:N,3,4] x, double[2:N,3,4] s, double[4] g", body: "y = com.microsoft.SkipLayerNormalization<epsilon=0.01>(x, s, g)"},
	{name: "skip simplified layer normalization", in: "double[2:N,3,4] x, double[2:N,3,4] s, double[4] g, double[4] c", body: "a, , , t = com.microsoft.SkipSimplifiedLayerNormalization<epsilon=0.01>(x, s, g, c) y = Mul(a, t)"},

	// quantization: the gradient of what it would be without rounding
	{name: "quantize dequantize", in: "double[2:N,8] x", body: "q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z) y = Mul(a, w)",
		consts: "double s = {0.006}, int8 z = {10}, double[8] w = {1,2,3,4,5,6,7,8}, double l = {-0.831}, double h = {0.705}",
		like:   "a = Clip(x, l, h) y = Mul(a, w)", noRuntime: "no quantization of doubles"},
	{name: "quantize without zero point", in: "double[12] x", body: "q = QuantizeLinear(x, s) a = DequantizeLinear(q, s) y = Mul(a, w)", low: -0.5, high: 1.5,
		consts: "double s = {0.004}, double[12] w = {1,2,3,4,5,6,7,8,9,10,11,12}, double l = {-0.002}, double h = {1.022}",
		like:   "a = Clip(x, l, h) y = Mul(a, w)", noRuntime: "no quantization of doubles"},
	{name: "quantize per axis", in: "double[2:N,3,2] x", body: "q = QuantizeLinear<axis=1>(x, s, z) r = Transpose<perm=[1,0,2]>(q) a = DequantizeLinear<axis=0>(r, s, z) y = Mul(a, w)",
		consts: "double[3] s = {0.001, 0.005, 0.02}, uint8[3] z = {128, 100, 3}, double[2] w = {1,2}, double[3,1] l = {-0.1285, -0.5025, -0.07}, double[3,1] h = {0.1275, 0.7775, 5.05}",
		like:   "b = Max(x, l) c = Min(b, h) a = Transpose<perm=[1,0,2]>(c) y = Mul(a, w)", noRuntime: "no quantization of doubles"},
	{name: "moves of integers", in: "double[1:N,1,2,8] x",
		body:   "q = QuantizeLinear(x, s, z) r = MaxPool<kernel_shape=[1,2], strides=[1,2]>(q) t = Reshape(r, k) u = Concat<axis=1>(t, t) v = Slice(u, b, e) i = Identity(v) a = DequantizeLinear(i, s, z) y = Mul(a, w)",
		consts: "double s = {0.012}, int8 z = {0}, int64[2] k = {0, -1}, int64[2] b = {0, 1}, int64[2] e = {9, 15}, double[14] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14}",
		like:   "r = MaxPool<kernel_shape=[1,2], strides=[1,2]>(x) t = Reshape(r, k) u = Concat<axis=1>(t, t) a = Slice(u, b, e) y = Mul(a, w)", noRuntime: "no quantization of doubles"},
	{name: "dynamic quantization", in: "float[2:N,3] x", single: true,
		body:   "q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z, o) f = Cast<to=1>(i) t = Mul(s, d) y = Mul(f, t)",
		consts: "int8[3,2] w = {10, -20, 30, 40, -50, 60}, int8 o = {3}, float d = {0.02}, float[3,2] r = {0.14, -0.46, 0.54, 0.74, -1.06, 1.14}",
		like:   "y = MatMul(x, r)"},
	{name: "dynamic quantization per column", in: "float[2:N,3] x", single: true,
		body:   "q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, w, z, o) f = Cast<to=1>(i) t = Mul(s, d) y = Mul(f, t)",
		consts: "int8[3,2] w = {10, -20, 30, 40, -50, 60}, int8[2] o = {3, 0}, float[2] d = {0.02, 0.01}, float[3,2] r = {0.14, -0.2, 0.54, 0.4, -1.06, 0.6}",
		like:   "y = MatMul(x, r)"},
	{name: "dynamic quantization of a convolution", in: "float[1:N,1,4:H,4:W] x", single: true,
		body:   "q, s, z = DynamicQuantizeLinear(x) i = ConvInteger<strides=[2,1], pads=[1,0,0,1]>(q, w, z, o) f = Cast<to=1>(i) t = Mul(s, d) y = Mul(f, t)",
		consts: "uint8[2,1,2,2] w = {10, 20, 30, 40, 50, 60, 5, 0}, uint8 o = {25}, float d = {0.02}, float[2,1,2,2] r = {-0.3, -0.1, 0.1, 0.3, 0.5, 0.7, -0.4, -0.5}",
		like:   "y = Conv<strides=[2,1], pads=[1,0,0,1]>(x, r)"},
	{name: "weights of four bits", in: "float[2:N,16] x, float[2] b", single: true, body: "y = com.microsoft.MatMulNBits<K=16, N=2, bits=4, block_size=16>(x, w, s, , , b)",
		consts: "uint8[2,1,8] w = {18,52,86,120,154,188,222,240,240,222,188,154,120,86,52,18}, float[2] s = {0.1, 0.2}"},
	{name: "contrib quantization", in: "float[2:N,3] x", single: true, body: "q = com.microsoft.QuantizeLinear(x, s, z) a = com.microsoft.DequantizeLinear(q, s, z) y = Mul(a, w)",
		consts: "float s = {0.02}, uint16 z = {1000}, float[3] w = {1,2,3}", like: "y = Mul(x, w)"},
}
