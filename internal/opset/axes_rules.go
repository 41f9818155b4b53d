package opset

import "sync"

// axisRules returns the rules by operator. An operator without one that is
// [Elementwise] broadcasts; any other pins its axes.
var axisRules = sync.OnceValue(func() map[string]func(*relating) {
	rules := map[string]func(*relating){
		"Conv": relateConv, "ConvTranspose": relateConvTranspose, "com.microsoft.FusedConv": relateConv,
		"AveragePool": relateChannelwise, "MaxPool": relateChannelwise, "LpPool": relateChannelwise,
		"GlobalAveragePool": relateChannelwise, "GlobalMaxPool": relateChannelwise, "GlobalLpPool": relateChannelwise,
		"Resize": relateResize, "Upsample": relateResize,
		"DepthToSpace": relateDepthToSpace, "SpaceToDepth": relateSpaceToDepth,

		"MatMul": relateMatMul, "Gemm": relateGemm, "Einsum": relateEinsum,
		"com.microsoft.FusedMatMul": relateFusedMatMul, "com.microsoft.FusedGemm": relateGemm,
		"LSTM": relateRecurrent, "GRU": relateRecurrent, "RNN": relateRecurrent,

		"BatchNormalization": relateBatchNorm, "InstanceNormalization": relateInstanceNorm,
		"LayerNormalization": relateLayerNorm, "RMSNormalization": relateLayerNorm, "SimplifiedLayerNormalization": relateLayerNorm,
		"com.microsoft.SimplifiedLayerNormalization": relateLayerNorm,
		"GroupNormalization":                         relateGroupNorm, "LpNormalization": relateAlong, "LRN": relateLRN,
		"MeanVarianceNormalization": relateMVN, "Dropout": relateSame,
		"com.microsoft.SkipLayerNormalization": relateSkipNorm, "com.microsoft.SkipSimplifiedLayerNormalization": relateSkipNorm,
		"com.microsoft.BiasDropout": relateBroadcast, "com.microsoft.BiasAdd": relateBroadcast,

		"Softmax": relateSoftmax, "LogSoftmax": relateSoftmax, "Hardmax": relateSoftmax,
		"ArgMax": relateArg, "ArgMin": relateArg, "TopK": relateTopK, "CumSum": relateCumSum,

		"Reshape": relateReshape, "Flatten": relateReshape, "Squeeze": relateSqueeze, "Unsqueeze": relateUnsqueeze,
		"Transpose": relateTranspose, "Concat": relateConcat, "Split": relateSplit, "Slice": relateSlice, "Pad": relatePad,
		"Expand": relateExpand, "Tile": relateTile, "Gather": relateGather, "Shape": relateShape, "ConstantOfShape": relateFill, "Trilu": relateTrilu,
		"Identity": relateSame, "Cast": relateSame, "CastLike": relateCastLike,
		"QuantizeLinear": relateQuantize, "DequantizeLinear": relateQuantize,

		"Attention": relateAttention, "RotaryEmbedding": relateRotary,
		"com.microsoft.RotaryEmbedding": relateRotary, "com.microsoft.MultiHeadAttention": relateMultiHead,
		"com.microsoft.GroupQueryAttention": relateMultiHead, "com.microsoft.Attention": relatePackedAttention,

		"If": relateIf, "Loop": relateLoop, "Scan": relateScan,
	}
	for _, name := range []string{"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
		"ReduceProd", "ReduceSum", "ReduceSumSquare"} {
		rules[name] = relateReduce
	}
	return rules
})
