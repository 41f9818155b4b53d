package grad

import (
	"sync"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// rule computes the gradients of what one operator reads from those of what it produces.
type rule struct {
	name     string // of the operator, behind its domain where that is not the standard one
	integers integers
	straight bool // the slope is that of a surrogate
	do       func(*call)
}

// integers says whether gradients pass through integers that an operator produces.
type integers int

const (
	none   integers = iota // integers have no slope
	passes                 // integers made of such as have a gradient have one too
	makes                  // the operator quantizes: its first output stands for real numbers
)

// table has all rules by operator.
var table struct {
	once  sync.Once
	rules map[string]*rule
}

func allRules() map[string]*rule {
	table.once.Do(func() {
		table.rules = map[string]*rule{}
		for _, family := range [][]rule{
			unaryRules(), arithmeticRules(), activationRules(), matmulRules(), convRules(), poolRules(), normRules(), softmaxRules(),
			reduceRules(), moveRules(), selectRules(), resizeRules(), quantRules(), contribRules(),
		} {
			for _, r := range family {
				if table.rules[r.name] != nil {
					panic("grad: two rules for " + r.name)
				}
				table.rules[r.name] = &r
			}
		}
	})
	return table.rules
}

// ruleOf returns the rule for n's operator, nil if there is none.
func ruleOf(n *onnx.Node) *rule { return allRules()[nameOf(n)] }

// nameOf returns n's operator, behind its domain where that is not the standard one.
func nameOf(n *onnx.Node) string {
	if d := onnx.NormalDomain(n.Domain); d != "" {
		return d + "." + n.Op
	}
	return n.Op
}
