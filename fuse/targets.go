package fuse

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// TargetNames lists the targets there are, the default first.
var TargetNames = []string{"portable", "ort-cpu", "ort-cuda", "tensorrt", "openvino"}

// runtime is what is known of the software that a target stands for without
// asking it. ONNX Runtime is asked; of the others it is what they document.
type runtime struct {
	title string // as messages name it
	own   bool   // it has the operators of com.microsoft
	gpu   bool   // it launches kernels on a GPU
	opset int64  // the latest that it reads; 0: it is asked, or reads all
	lacks []string
	// types are the element types of operators that it has for fewer types than
	// it computes with.
	types map[string][]onnx.DType
	// one lists operators of which it gives the first output only.
	one []string
	// codes are the types that it quantizes to, with zero points of 0 only; nil: all there are.
	codes []onnx.DType
	// foreign: it may have operators of other domains than the standard one, of
	// which nothing is said.
	foreign bool
}

// runtimes are all targets. Of tensorrt it is what docs/operators.md of
// onnx-tensorrt says for TensorRT 10.0, which later versions add to: 64-bit
// integers are inputs and outputs since then, normalizations are layers of their
// own, quantization is explicit, by symmetric scales, and there are neither strings nor
// sequences. Of openvino it is the table of supported operators of its ONNX
// front end; what is supported there in certain patterns only, sequences, counts
// as lacking, and operators of other domains are left to the community.
var runtimes = map[string]runtime{
	"portable": {title: "the portable target"},
	"ort-cpu":  {title: "ONNX Runtime", own: true},
	"ort-cuda": {title: "ONNX Runtime", own: true, gpu: true},
	"tensorrt": {
		title: "TensorRT", gpu: true, opset: 20,
		lacks: strings.Fields(`AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow
			CenterCropPad Col2Im Compress ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear HammingWindow HannWindow
			ImageDecoder MatMulInteger MaxRoiPool MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional
			OptionalGetElement OptionalHasElement QLinearConv QLinearMatMul RegexFullMatch STFT SequenceAt SequenceConstruct
			SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence
			StringConcat StringNormalizer StringSplit TfIdfVectorizer Unique`),
		types: map[string][]onnx.DType{"Mish": {onnx.Float, onnx.Float16}},
		one:   []string{"LayerNormalization"},
		codes: []onnx.DType{onnx.Int8, onnx.Int4, onnx.Float8E4M3FN},
	},
	"openvino": {
		title: "OpenVINO", opset: 23, foreign: true,
		lacks: strings.Fields(`Bernoulli ConcatFromSequence DeformConv Det ImageDecoder LpPool MaxUnpool MelWeightMatrix
			Optional OptionalGetElement OptionalHasElement RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty
			SequenceErase SequenceInsert SequenceLength SequenceMap StringConcat StringNormalizer StringSplit TfIdfVectorizer`),
	},
}

// runtime returns what is known of the target.
func (t *Target) runtime() runtime { return runtimes[t.name()] }

// has declines where the runtime is documented not to have an operator of element
// type d, where that is known.
func (r runtime) has(domain, op string, d onnx.DType) error {
	switch {
	case onnx.NormalDomain(domain) != "":
		return nil
	case slices.Contains(r.lacks, op):
		return rewrite.Decline("%s has no %s", r.title, op)
	case r.opset > 0 && opset.Lookup(domain, op, r.opset) == nil:
		return rewrite.Decline("%s came after opset %d, the latest that %s documents", op, r.opset, r.title)
	case d != onnx.Undefined && r.types[op] != nil && !slices.Contains(r.types[op], d):
		return rewrite.Decline("%s has no %s for %v", r.title, op, d)
	}
	return nil
}

// keep makes rules decline where the runtime does not have an operator that they
// would put into a model.
func (t *Target) keep(list []rewrite.Rule) []rewrite.Rule {
	r := t.runtime()
	if r.opset == 0 {
		return list
	}
	for i := range list {
		list[i].Rewrite = r.within(list[i].Rewrite)
	}
	return list
}

// within returns a rewrite that declines what the runtime does not have, unless the
// graph has such operators already.
func (r runtime) within(inner func(*rewrite.Match, *rewrite.Patch) error) func(*rewrite.Match, *rewrite.Patch) error {
	return func(m *rewrite.Match, p *rewrite.Patch) error {
		if err := inner(m, p); err != nil {
			return err
		}
		for _, n := range p.Nodes() {
			d := onnx.Undefined
			if len(n.Inputs()) > 0 {
				d = m.Facts.DType(n.Input(0))
			}
			if err := r.has(n.Domain, n.Op, d); err != nil && !hasOp(m.Root.Graph(), n.Op) {
				return err
			}
			if len(n.Outputs()) > 1 && slices.Contains(r.one, n.Op) {
				return rewrite.Decline("%s gives the first output of %s only", r.title, n.Op)
			}
		}
		return nil
	}
}

// hasOp reports whether a graph has a standard operator.
func hasOp(g *onnx.Graph, op string) bool {
	for n := range g.Nodes() {
		if n.Is(op) {
			return true
		}
	}
	return false
}

// notice tells what of the finished model the runtime is documented not to have.
func (t *Target) notice(m *onnx.Model, log *rewrite.Log) {
	r := t.runtime()
	if r.opset == 0 {
		return
	}
	if v := m.OpsetVersion(""); v > r.opset {
		log.Notice("the model is of opset %d, and %s documents those up to %d", v, r.title, r.opset)
	}
	count, first := map[string]int{}, map[string]*onnx.Node{}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			what := r.missing(m, n)
			if what == "" {
				continue
			}
			if count[what]++; count[what] == 1 {
				first[what] = n
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(count)) {
		log.Notice("%s has no %s: %v%s", r.title, what, first[what], andMore(count[what]-1))
	}
}

// missing says what n needs that the runtime is documented not to have, "" if nothing.
func (r runtime) missing(m *onnx.Model, n *onnx.Node) string {
	switch d := onnx.NormalDomain(n.Domain); {
	case m.FindFunction(n) != nil:
		return ""
	case d != "" && r.foreign:
		return ""
	case d != "":
		return d + "." + n.Op
	case r.has("", n.Op, onnx.Undefined) != nil:
		return n.Op
	case r.codes == nil || !n.Is("QuantizeLinear") && !n.Is("DequantizeLinear") || n.Input(2) == nil:
		return ""
	}
	zero := n.Input(2)
	if d := zero.Type; d.IsTensor() && !slices.Contains(r.codes, d.Elem) {
		return fmt.Sprintf("quantization to %v", d.Elem)
	}
	if c := zero.Constant(); c != nil {
		if x, err := c.Float64s(); err == nil && slices.ContainsFunc(x, func(e float64) bool { return e != 0 }) {
			return "quantization with zero points other than 0"
		}
	}
	return ""
}

func andMore(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}
