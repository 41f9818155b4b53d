package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// tidy are the rules that take away names and copies only: every other pattern
// then sees through them.
func tidy(*Target) []rewrite.Rule {
	return []rewrite.Rule{
		identity,
		dropout,
		castLike,
		castToSame,
		concatOne,
	}
}

// reroll are the rules that recognise an operator in the arithmetic that spells
// it out. They come before fold-weights and simplify, which take arithmetic
// apart that belongs to a pattern.
func reroll(t *Target) []rewrite.Rule {
	return []rewrite.Rule{
		sigmoid.rule(t),
		tanh.rule(t),
		softplus.rule(t),
		softplusGuard,
		softsign.rule(t),
		mish.rule(t),
		swish.rule(t),
		swishSpelling.rule(t), // each spelling after the rule for its operator, which says why there is none
		gelu.rule(t),
		geluSpelling.rule(t),
		geluTanh.rule(t),
		geluTanhSpelling.rule(t),
		hardSwish.rule(t), // before hardsigmoid, which may be a part of it
		hardSwishSpelling.rule(t),
		hardSigmoid.rule(t),
		elu.rule(t),
		celu.rule(t), // before selu, which is another reading of it without the scale
		selu.rule(t),
		relu.rule(t),
		abs.rule(t),
		leakyRelu.rule(t),
		thresholdedRelu.rule(t),
		shrink.rule(t),
		prelu(t),
		softmax(t), // before attention, which is built around it
		logSoftmax(t),
		logOfSoftmax,
		expOfLogSoftmax,
		softmaxReshape,
		crossEntropy,
		instanceNorm(t), // before layernorm: over the last axis of three both fit, and the scale tells
		groupNorm(t),    // after instancenorm, which it is built on
		groupNormParts(t),
		layerNorm(t),
		layerNormSpelling(t),
		rmsNorm(t),
		rmsNormSpelling(t),
		axisNorm(t),
		normCast(t),    // after what it takes casts from
		normArithmetic, // after layernorm and rmsnorm, which leave a scale that is applied in another type
		meanVariance.rule(t),
		reduceLogSumExp, // before reduce-log-sum, which is a part of it
		logSumExpMax(t), // after reduce-log-sum-exp, of which it extends the result
		reduceLogSum,
		reduceL2, // before reduce-sum-square, which is a part of it
		reduceSumSquare,
		reduceL1,
		rotaryEmbedding(t),
		groupQueryAttention(t), // before the others: what they have no groups, cache or causality for
		multiHeadAttention(t),
		attention(t),
		embedLayerNorm(t), // before skip-layer-norm: the sum is of embeddings
		skipLayerNorm(t),
		skipRMSNorm(t),
		biasGelu(t),
		quickGelu(t),
	}
}

// runtimeBlocks are the rules that put whole blocks into one operator of the
// runtime's own, and need what the other rules leave of them.
func runtimeBlocks(t *Target) []rewrite.Rule {
	return []rewrite.Rule{
		packedAttention(t),
	}
}

// runtimeOwn are the rules that put neighbours into one operator of the runtime's
// own, for targets that have those. They come last: nothing else knows the result.
func runtimeOwn(t *Target) []rewrite.Rule {
	return []rewrite.Rule{
		matmulNBits(t), // before fused-matmul, which takes the Transpose of a weight
		fusedMatMul(t),
		fusedMatMulScale(t),
		fusedMatMulTranspose(t),
		fusedConv(t),
		fusedGemm(t),
	}
}

// flatten are the rules that make a Reshape of what moves no element, and join
// Reshapes. They come last, with runtimeOwn: no pattern knows the result.
func flatten(*Target) []rewrite.Rule {
	return []rewrite.Rule{
		transposeReshape,
		concatReshaped,
	}
}

// foldWeights are the rules that move arithmetic into weights.
func foldWeights(t *Target) []rewrite.Rule {
	return []rewrite.Rule{
		padConv, // before rules that must know whether Conv pads
		padAveragePool,
		padMaxPool,
		convBatchNorm(t), // before any rule on Conv's consumers: the bias that it makes is theirs to extend
		convTransposeBatchNorm(t),
		gemmBatchNorm(t),
		matmulBatchNorm(t),
		batchNormThrough(t), // after the rules for what stands directly before it, which say more in the log
		convAdd(t),
		convMul(t),
		matmulMul(t),
		matmulAdd,
		gemmAdd(t), // after matmul-add: it extends the Gemm that matmul-add makes
		gemmSum,
		gemmMul(t),
		arithmeticThrough(t),
		convInput(t), // after the rules that go back: what can go either way goes into the weights before it
		matmulInput(t),
		gemmInput(t),
		convChain(t), // after all that extends a bias: it composes them too
		matmulChain(t),
		normMatMul(t),
		convUnfold,
		convShuffle,
		concatConv, // after conv-batchnorm, whose Convs it merges
		convMerge(t),
		matmulMerge(t),
	}
}

// simplify are the rules that take away what does nothing and shorten what does little.
func simplify(t *Target) []rewrite.Rule {
	return []rewrite.Rule{
		reshapeToSame,
		squeezeUnsqueeze, // before reshape-chain: nothing is left
		unsqueezeChain,
		squeezeChain,
		reduceUnsqueeze,
		reshapeChain,
		reshapeConstant,
		transposeToSame,
		transposeChain,
		transposeDequantize,
		expandToSame,
		expandConstant,
		expandBroadcast,
		sliceWhole,
		sliceChain,
		sliceConcat,
		sliceShape,
		padNothing,
		tileOnce,
		resizeToSame,
		concatEmpty,
		castChain,
		splitConcat, // before concat-chain: it takes the parts of one Split together
		concatChain,
		concatSplit,
		splitOne,
		gatherConcat,
		gatherUnsqueeze,
		whereConstant,
		whereNot,
		whereNaN,
		undone,
		again,
		lessOrEqual,
		greaterOrEqual,
		whereLower,
		whereUpper,
		clipBounds,
		clipChain,
		minMax,
		einsum,
		sequenceAt,
		sequenceLength,
		concatFromSequence,
		optionalElement,
		optionalHas,
		gemmTranspose,
		transposeGemm,
		matmulTranspose,
		matmulTransposes,
		imageMean,
		qdqAgain,
		integerMatMul(t),
		integerMatMulBias(t), // after integer-matmul: it extends what that makes
		addZero,
		subZero,
		mulOne,
		divOne,
		powOne,
		powTwo,
		constChain,
		divToMul, // after const-chain: two constants are one first
	}
}

// groups are the passes made of rules, in order. A rule stands in exactly one,
// and rules of a group are tried at a node in its order.
var groups = []struct {
	name  string
	rules func(*Target) []rewrite.Rule
	late  bool // waits until nothing before it fires
}{
	{"tidy", tidy, false},
	{"reroll", reroll, false},
	{"fold-weights", foldWeights, false},
	{"simplify", simplify, false},
	{"runtime-blocks", runtimeBlocks, true},
	{"runtime-own", runtimeOwn, true},
	{"flatten", flatten, true},
}

// order documents what must come before what.
var order = []rewrite.Constraint{
	{Before: "freeze", After: "fold", Reason: "weights that callers may override are not constants until they are frozen"},
	{Before: "constants", After: "tidy", Reason: "rules look for initializers"},
	{Before: "fold", After: "tidy", Reason: "weights computed from constants are not constant until they are folded"},
	{Before: "tidy", After: "reroll", Reason: "a pattern does not look through Identity"},
	{Before: "reroll", After: "fold-weights", Reason: "a scale that belongs to a normalization must not move into the weights behind it first"},
	{Before: "reroll", After: "simplify", Reason: "a factor of one belongs to a normalization's pattern"},
	{Before: "inline-functions", After: "opset", Reason: "what is inlined needs not be raised as a function, where less is known"},
	{Before: "opset", After: "reroll", Reason: "later opsets have more operators"},
	{Before: "constants", After: "if-constant", Reason: "a condition may be a Constant"},
	{Before: "simplify", After: "runtime-own", Reason: "no other rule knows the runtime's own operators"},
	{Before: "simplify", After: "runtime-blocks", Reason: "what is read before a block only for its size is gone"},
	{Before: "runtime-blocks", After: "runtime-own", Reason: "products that have taken transposes in are no parts of a block any more"},
	{Before: "transposes", After: "flatten", Reason: "a Transpose that can be moved away must not become a Reshape, which cannot"},
	{Before: "runtime-own", After: "flatten", Reason: "the runtime's own operators take Transposes in"},
	{Before: "simplify", After: "transposes", Reason: "pairs that cancel by themselves are gone, which leaves fewer to move"},
	{Before: "simplify", After: "hoist", Reason: "a pattern is found where all of it is in one body"},
	{Before: "hoist", After: "cse", Reason: "what leaves a loop may be computed there already"},
	{Before: "simplify", After: "cse", Reason: "rules bring equal computations into equal form"},
	{Before: "cse", After: "weights", Reason: "merging computations leaves fewer weights to compare"},
	{Before: "cse", After: "reorder", Reason: "an order is for the nodes that are left"},
}

// passes returns all passes in order.
func passes(o Options) ([]rewrite.Pass, error) {
	t := o.Target
	t.maxGrowth, t.enabled = o.foldLimit(), slices.Concat(o.Enable, o.Rewrite.Only)
	list := []rewrite.Pass{
		freeze{keep: o.KeepInputs},
		inlineFunctions{all: o.InlineFunctions, own: t.Own()},
		raise{to: o.Opset, target: &t},
		constants{},
		fold{limit: o.foldLimit(), large: o.FoldLarge},
		ifConstant{},
		unroll{most: o.Unroll},
	}
	end := &roundEnd{}
	var last []rewrite.Pass
	for _, g := range groups {
		p, err := rewrite.Rules(g.name, t.keep(g.rules(&t)))
		if err != nil {
			return nil, err
		}
		if g.late {
			last = append(last, late{p, end})
			continue
		}
		list = append(list, p)
	}
	list = append(append(list, transposes{}, hoist{limit: o.foldLimit()}, cse{}, weights{o.prints}), last...)
	return append(list, reorder{o.Reorder}, end), nil
}

// RuleNames returns the names of all rules and passes, in order, with what each does.
func RuleNames() [][2]string {
	out := [][2]string{
		{"freeze", freeze{}.Doc()}, {"inline-functions", inlineFunctions{}.Doc()}, {"opset", raise{}.Doc()}, {"constants", constants{}.Doc()},
		{"fold", fold{}.Doc()}, {"if-constant", ifConstant{}.Doc()}, {"unroll", unroll{}.Doc()},
	}
	named := func(late bool) {
		for _, g := range groups {
			if g.late != late {
				continue
			}
			for _, r := range g.rules(&Target{}) {
				out = append(out, [2]string{r.Name, r.Doc})
			}
		}
	}
	named(false)
	out = append(out, [2]string{"transposes", transposes{}.Doc()}, [2]string{"hoist", hoist{}.Doc()}, [2]string{"cse", cse{}.Doc()}, [2]string{"weights", weights{}.Doc()})
	named(true)
	return append(out, [2]string{"reorder", reorder{}.Doc()})
}
