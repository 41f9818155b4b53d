package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// rules are the local rewrites, in the order in which they are tried at a node.
var rules = []rewrite.Rule{
	identity, // first: it only takes names away, and other patterns then see through it
	dropout,
	castToSame,
	reshapeToSame,
	transposeToSame,
	expandToSame,
	sliceWhole,
	padNothing,
	concatOne,
	addZero,
	subZero,
	mulOne,
	divOne,
	powOne,
	convBatchNorm, // before any rule on Conv's consumers: the bias that it makes is theirs to extend
	convTransposeBatchNorm,
	gemmBatchNorm,
	convAdd,
	matmulAdd,
	gemmAdd, // after matmul-add: it extends the Gemm that matmul-add makes
}

// order documents what must come before what.
var order = []rewrite.Constraint{
	{Before: "freeze", After: "fold", Reason: "weights that callers may override are not constants until they are frozen"},
	{Before: "constants", After: "rules", Reason: "rules look for initializers"},
	{Before: "fold", After: "rules", Reason: "weights computed from constants are not constant until they are folded"},
	{Before: "rules", After: "cse", Reason: "rules bring equal computations into equal form"},
	{Before: "cse", After: "weights", Reason: "merging computations leaves fewer weights to compare"},
}

// passes returns all passes in order.
func passes(o Options) ([]rewrite.Pass, error) {
	local, err := rewrite.Rules("rules", rules)
	if err != nil {
		return nil, err
	}
	return []rewrite.Pass{
		freeze{keep: o.KeepInputs},
		constants{},
		fold{limit: o.foldLimit(), large: o.FoldLarge},
		local,
		cse{},
		weights{},
	}, nil
}

// RuleNames returns the names of all rules and passes, in order, with what each does.
func RuleNames() [][2]string {
	out := [][2]string{
		{"freeze", freeze{}.Doc()}, {"constants", constants{}.Doc()}, {"fold", fold{}.Doc()},
	}
	for _, r := range rules {
		out = append(out, [2]string{r.Name, r.Doc})
	}
	return append(out, [2]string{"cse", cse{}.Doc()}, [2]string{"weights", weights{}.Doc()})
}
