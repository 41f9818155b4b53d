package upgrade

import "strings"

// changes gives, per operator and version, what brings a node to that form.
var changes = map[string]map[int64]change{
	"Add":                {7: upgradeBroadcast},
	"And":                {7: upgradeBroadcast},
	"AveragePool":        {19: upgradeAveragePool},
	"BatchNormalization": {7: upgradeTest, 9: upgradeBatchNorm, 14: upgradeTraining},
	"Clip":               {11: upgradeClip},
	"DFT":                {20: upgradeDFT},
	"Div":                {7: upgradeBroadcast},
	"Dropout":            {7: upgradeTest, 10: upgradeDropoutMask, 12: upgradeDropout},
	"Equal":              {7: upgradeBroadcast},
	"Gemm":               {7: upgradeGemm},
	"Greater":            {7: upgradeBroadcast},
	"GridSample":         {20: upgradeGridSample},
	"GroupNormalization": {21: upgradeGroupNorm},
	"Hardmax":            {13: flattenAround},
	"Less":               {7: upgradeBroadcast},
	"LogSoftmax":         {13: flattenAround},
	"Softmax":            {13: flattenAround},
	"Mul":                {7: upgradeBroadcast},
	"Or":                 {7: upgradeBroadcast},
	"PRelu":              {7: upgradePRelu},
	"Pad":                {11: upgradePad},
	"Pow":                {7: upgradeBroadcast},
	"ReduceL1":           {18: axesToInput},
	"ReduceL2":           {18: axesToInput},
	"ReduceLogSum":       {18: axesToInput},
	"ReduceLogSumExp":    {18: axesToInput},
	"ReduceMax":          {18: axesToInput},
	"ReduceMean":         {18: axesToInput},
	"ReduceMin":          {18: axesToInput},
	"ReduceProd":         {18: axesToInput},
	"ReduceSum":          {13: axesToInput},
	"ReduceSumSquare":    {18: axesToInput},
	"Resize":             {11: upgradeResize, 13: upgradeResizeModes},
	"RoiAlign":           {16: upgradeRoiAlign},
	"Scatter":            {11: upgradeScatter},
	"Slice":              {10: upgradeSlice},
	"Split":              {13: upgradeSplit, 18: upgradeSplitOutputs},
	"Squeeze":            {13: axesToInput},
	"Sub":                {7: upgradeBroadcast},
	"TopK":               {10: upgradeTopK},
	"Unsqueeze":          {13: axesAlwaysToInput},
	"Xor":                {7: upgradeBroadcast},
	"Upsample":           {9: upgradeUpsampleScales, 10: upgradeUpsample},
}

// unchanged lists, per version, the operators whose form of it needs no change:
// it differs in the types it takes, in attributes and inputs whose default is
// the old behaviour, in negative axes, or in what it allows.
var unchanged = map[int64][]string{
	7:  strings.Fields("AveragePool GRU LSTM RNN"),
	8:  strings.Fields("Max MaxPool Mean Min Sum"),
	9:  strings.Fields("Cast Constant Flatten Gemm Greater Less MatMul PRelu"),
	10: strings.Fields("AveragePool MaxPool"),
	11: strings.Fields("ArgMax ArgMin AveragePool Compress Concat Constant Conv ConvTranspose DepthToSpace Equal Flatten Gather Gemm " +
		"Hardmax If LogSoftmax Loop LpPool MaxPool MaxUnpool NonMaxSuppression OneHot ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp " +
		"ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Scan Slice Softmax Split Squeeze TopK Unsqueeze"),
	12: strings.Fields("ArgMax ArgMin Clip Constant GatherND Max MaxPool Min Pow ReduceMax ReduceMin"),
	13: strings.Fields("Abs Add ArgMax ArgMin Cast Ceil Clip Concat Constant DepthToSpace DequantizeLinear Div Dropout Equal Erf Exp " +
		"Expand Flatten Floor Gather GatherElements GatherND Gemm Greater Identity If IsNaN LRN Less Log Loop MatMul Max Mean " +
		"MeanVarianceNormalization Min Mod Mul Neg NegativeLogLikelihoodLoss NonZero Pad Pow QuantizeLinear Reciprocal ReduceL1 " +
		"ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare Relu Reshape ScatterElements " +
		"ScatterND Shape Sigmoid Sign Size Slice SoftmaxCrossEntropyLoss SpaceToDepth Sqrt Sub Sum Tanh Tile Transpose"),
	14: strings.Fields("Add CumSum Div GRU Identity LSTM Mul RNN Relu Reshape Sub"),
	15: strings.Fields("BatchNormalization Pow Shape"),
	16: strings.Fields("GreaterOrEqual Identity If LeakyRelu LessOrEqual Loop PRelu Scan ScatterElements ScatterND Where"),
	17: strings.Fields("LayerNormalization"), // the runtime has had it before
	18: strings.Fields("LpPool OptionalGetElement OptionalHasElement Pad Resize ScatterElements ScatterND"),
	19: strings.Fields("Cast CastLike Constant DequantizeLinear Equal Identity If Loop Pad QuantizeLinear Reshape Resize Scan Shape Size"),
	20: strings.Fields("ConstantOfShape IsInf IsNaN ReduceMax ReduceMin"),
	21: strings.Fields("Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QLinearMatMul " +
		"QuantizeLinear Reshape Scan Shape Size Squeeze Transpose Unsqueeze"),
	22: strings.Fields("Acos Acosh Asin Asinh Atan Atanh AveragePool Bernoulli Conv ConvTranspose Cos Cosh DeformConv Det Dropout Elu " +
		"EyeLike GRU GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample HardSigmoid HardSwish InstanceNormalization LSTM " +
		"LpNormalization LpPool MaxPool MaxRoiPool MaxUnpool Mish Multinomial NegativeLogLikelihoodLoss RNN RandomNormal " +
		"RandomNormalLike RandomUniform RandomUniformLike RoiAlign Round Selu Sin Sinh Softplus Softsign Tan ThresholdedRelu"),
	23: strings.Fields("Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QuantizeLinear Reshape " +
		"Scan Shape Size Squeeze Transpose Unsqueeze"),
}
