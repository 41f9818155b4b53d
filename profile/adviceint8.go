package profile

import (
	"fmt"
	"slices"
	"strings"
)

// costed is a timed node as predictions see it.
type costed struct {
	roof    *NodeRoof
	time    *NodeTime
	file    *Node  // nil where the engine made it of others
	class   string // of the operator table; "" for what that has not
	macs    int64  // of one call
	weights bool   // it multiplies by constants
	float   bool   // it computes in float32
	main    bool   // it is in the main graph
}

func (a *adviser) costs() []costed {
	out := make([]costed, len(a.t.Nodes))
	for i := range a.t.Nodes {
		n := &a.t.Nodes[i]
		c := costed{roof: &a.r.Nodes[i], time: n, weights: n.ParamBytes > 0, main: true}
		if c.file, _ = n.leading(a.s); c.file != nil {
			c.weights, c.main = c.file.Parameters > 0 || c.weights, c.file.Path == ""
		}
		in := inputsSeen(n, c.file)
		c.float = len(in) > 0 && in[0].elem == "float"
		c.class = classOf(n.Op, in)
		c.macs = int64(float64(c.roof.MACs) / max(1, n.Calls))
		out[i] = c
	}
	return out
}

// classOf is the class in the operator table, "" for none.
func classOf(op string, in []tensorSeen) string {
	if len(in) < 2 {
		return ""
	}
	a, b := in[0], in[1]
	switch op[strings.LastIndexByte(op, '.')+1:] {
	case "Conv", "FusedConv", "NhwcFusedConv":
		switch {
		case len(b.dims) < 3:
			return ""
		case b.dims[1] == 1 && len(a.dims) > 1 && a.dims[1] > 1:
			return "depthwise"
		case !slices.ContainsFunc(b.dims[2:], func(d int64) bool { return d > 1 }):
			return "pointwise"
		}
		return "conv"
	case "MatMul", "Gemm", "FusedMatMul", "FusedGemm":
		if k := len(a.dims); k > 0 && a.dims[k-1] > 0 && a.elements()/a.dims[k-1] <= 4 {
			return "product"
		}
		return "matmul"
	}
	return ""
}

// convolves reports whether a node is a convolution.
func (c *costed) convolves() bool {
	return c.class == "conv" || c.class == "pointwise" || c.class == "depthwise"
}

// int8Movers are operators that pass codes on, so that no number is taken back
// to float32 on its way through them.
var int8Movers = []string{"Relu", "Clip", "LeakyRelu", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Add", "Mul", "Reshape", "Transpose",
	"Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Pad", "Dropout", "Identity", "BatchNormalization", "Resize", "Softmax", "DepthToSpace", "SpaceToDepth"}

// int8Saved predicts what a static int8 model saves in ms: nodes between which
// codes are passed on are taken together, and stay in float32 where they save
// less than coding and decoding costs.
func (a *adviser) int8Saved() (saved float64, taken int) {
	p := a.r.Peaks
	byFile := map[*Node]*costed{}
	var loose float64 // what nodes that the engine made save
	looseTaken := 0
	gain := func(c *costed) float64 {
		ratio, ok := p.ratio(c.class, variantInt8, c.macs)
		if !ok || !c.float || !c.weights || !c.main || c.roof.Type != variantFloat {
			return 0
		}
		return c.roof.MS * (1 - ratio)
	}
	for i := range a.nodes {
		c := &a.nodes[i]
		switch {
		case c.file != nil:
			byFile[c.file] = c
		case strings.HasPrefix(c.time.Op, "Reorder"):
			loose += c.roof.MS // layouts of float32 kernels
		case gain(c) > 0:
			loose += gain(c)
			looseTaken++
		}
	}
	var segment, crossing float64
	n := 0
	end := func(out int64) {
		if n > 0 {
			if s := segment - crossing - 1e3*p.convert("decode", out); s > 0 {
				saved += s
				taken += n
			}
		}
		segment, crossing, n = 0, 0, 0
	}
	last := int64(0)
	for i := range a.s.Nodes {
		f := &a.s.Nodes[i]
		if f.Path != "" || f.Runs == 0 {
			continue
		}
		c := byFile[f]
		switch {
		case c != nil && c.class != "" && c.weights && c.float:
			if n == 0 {
				crossing = 1e3 * p.convert("code", adviceElements(f.Inputs))
			}
			segment += gain(c)
			n++
			last = adviceElements(f.Outputs)
		case n > 0 && !slices.Contains(int8Movers, f.Op):
			end(last)
		}
	}
	end(last)
	if looseTaken > 0 {
		if loose -= 1e3 * (p.convert("code", 1<<16) + p.convert("decode", 1<<10)); loose > 0 {
			saved, taken = saved+loose, taken+looseTaken
		}
	} else if taken > 0 {
		saved += loose
	}
	return saved, taken
}

func adviceElements(types []string) int64 {
	if len(types) == 0 {
		return 0
	}
	return parseSeen(types[0]).elements()
}

func (a *adviser) staticInt8() {
	item := Advised{What: "static-int8", Verdict: verdictNo, SizeRatio: a.sizeRatio(0.25, quantizable)}
	saved, taken := a.int8Saved()
	command := fmt.Sprintf("lapidary quantize %s -o %s --to int8 %s", Quoted(a.o.Model), Quoted(a.output("int8")), a.dataFlag())
	switch {
	case item.SizeRatio == nil:
		item.Reason = "it has no convolution or product with weights in float32"
	case a.r.Peaks.Int8 == nil:
		item.Reason = "this engine has no 8-bit matrix product"
	default:
		item.Predicted = a.gain(saved, "operators")
		item.judge(command, command+" --for size", "faster in 8 bits here: "+several(taken, "node"), a.whyNot(taken))
	}
	a.add(item)
}

// whyNot says why nodes would not be faster in 8 bits.
func (a *adviser) whyNot(taken int) string {
	bound := "what its nodes with weights take"
	if len(a.r.Bounds) > 0 {
		bound = fmt.Sprintf("%s binds %s of the time", a.r.Bounds[0].Bound, percent(a.r.Bounds[0].Share))
	}
	var weighted float64
	for _, n := range a.nodes {
		if n.weights && n.class != "" {
			weighted += n.roof.MS
		}
	}
	if taken == 0 {
		return fmt.Sprintf("nodes with weights take %s of the time, each too little work for 8 bits to save more than coding and decoding cost; %s", percent(weighted/a.wall), bound)
	}
	return fmt.Sprintf("nodes with weights take %s of the time, and 8 bits save little of it; %s", percent(weighted/a.wall), bound)
}

// smallEnough is the predicted size, over that before, below which something is
// called smaller: a check may put nodes back.
const smallEnough = 0.85

// judge sets the verdict by the prediction: faster, else smaller.
func (x *Advised) judge(faster, smaller, why, whyNot string) {
	switch {
	case x.Predicted != nil && x.Predicted.High < worthwhile:
		x.Verdict, x.Command, x.Reason = verdictFaster, faster, why
	case x.SizeRatio != nil && *x.SizeRatio < smallEnough:
		x.Verdict, x.Command, x.Reason = verdictSmaller, smaller, "not faster: "+whyNot
	default:
		x.Verdict, x.Reason = verdictNo, whyNot
	}
}

// products predicts what is saved where products with constant weights, and no
// others, compute in a variant. More than none may be lost.
func (a *adviser) products(variant string) (saved float64, taken int, known bool) {
	for i := range a.nodes {
		c := &a.nodes[i]
		if c.class != "matmul" && c.class != "product" || !c.weights || !c.float {
			continue
		}
		if ratio, ok := a.r.Peaks.ratio(c.class, variant, c.macs); ok {
			saved += c.roof.MS * (1 - ratio)
			taken, known = taken+1, true
		}
	}
	return saved, taken, known
}

func (a *adviser) dynamicInt8() {
	item := Advised{What: "dynamic-int8", Verdict: verdictNo, SizeRatio: a.sizeRatio(0.25, product)}
	saved, taken, known := a.products(variantDynamic)
	command := fmt.Sprintf("lapidary quantize %s -o %s --to int8 --dynamic%s", Quoted(a.o.Model), Quoted(a.output("dynamic")), a.givenData())
	switch {
	case item.SizeRatio == nil:
		item.Reason = "it takes matrix products with weights only, and there are none in float32"
	case !known:
		item.Reason = "no product with weights was timed"
		if *item.SizeRatio < smallEnough {
			item.Verdict, item.Command = verdictSmaller, command+" --for size"
		}
	default:
		item.Predicted = a.gain(saved, "operators")
		item.judge(command, command+" --for size", "faster with codes that are found at run time: "+several(taken, "product"),
			"its products are too small for finding ranges at run time to pay")
	}
	a.add(item)
}

func (a *adviser) int4() {
	item := Advised{What: "int4", Verdict: verdictNo, SizeRatio: a.sizeRatio(0.14, func(n *Node) bool { return product(n) || n.Op == "Gather" })}
	saved, taken, known := a.products(variantInt4)
	command := fmt.Sprintf("lapidary quantize %s -o %s --to int4%s", Quoted(a.o.Model), Quoted(a.output("int4")), a.givenData())
	switch {
	case item.SizeRatio == nil:
		item.Reason = "it takes matrix products and embeddings, and there are none in float32"
	case !known:
		item.Reason = "no product with weights was timed"
		if *item.SizeRatio < smallEnough {
			item.Verdict, item.Command = verdictSmaller, command
		}
	default:
		item.Predicted = a.gain(saved, "operators")
		item.judge(command, command, "an eighth of the weights to read for "+several(taken, "product"),
			"its products do not wait for memory, and decoding 4 bits is work")
	}
	a.add(item)
}

// half says what FP16 does, by what the engine makes of the model's operators.
func (a *adviser) half() {
	item := Advised{What: "fp16", Verdict: verdictNo, SizeRatio: a.sizeRatio(0.5, func(n *Node) bool { return n.Parameters > 0 })}
	command := fmt.Sprintf("lapidary quantize %s -o %s --to fp16%s", Quoted(a.o.Model), Quoted(a.output("fp16")), a.givenData())
	var borrowed, native []string
	for _, h := range a.r.Peaks.Half {
		if !slices.ContainsFunc(a.s.Nodes, func(n Node) bool { return n.Op == h.Op && n.Parameters > 0 }) {
			continue
		}
		if h.Answer == "native" {
			native = append(native, h.Op)
		} else {
			borrowed = append(borrowed, h.Op)
		}
	}
	switch {
	case item.SizeRatio == nil:
		item.Reason = "there are no weights in float32"
	case len(borrowed) > 0 || len(native) == 0:
		item.judge(command, command, "", fmt.Sprintf("this engine has no float16 kernel of %s here and computes in float32 between casts", orText(strings.Join(borrowed, ", "), "its operators")))
	default:
		item.Verdict, item.Command = verdictUnknown, command
		item.Reason = fmt.Sprintf("this engine has float16 kernels of %s here; run it and compare", strings.Join(native, ", "))
	}
	a.add(item)
}

// quantizable are operators whose weights static int8 codes.
func quantizable(n *Node) bool {
	return n.Parameters > 0 && slices.Contains([]string{"Conv", "MatMul", "Gemm"}, n.Op)
}

func product(n *Node) bool { return n.Parameters > 0 && (n.Op == "MatMul" || n.Op == "Gemm") }

// sizeRatio predicts the file's size where the weights of some nodes shrink to a
// share; nil where there are none in float32. A weight that several nodes read
// counts once for each, so the result is bounded by all of them.
func (a *adviser) sizeRatio(share float64, which func(*Node) bool) *float64 {
	var float, all int64
	for _, x := range a.s.Weights.Types {
		if all = plus(all, x.Bytes); x.Type == "float" {
			float = x.Bytes
		}
	}
	var bytes int64
	for i := range a.s.Nodes {
		if n := &a.s.Nodes[i]; which(n) {
			bytes = plus(bytes, times(4, n.Parameters))
		}
	}
	bytes = min(bytes, float)
	if bytes == 0 {
		return nil
	}
	total := all
	if f := a.s.File; f != nil {
		total = max(1, f.Bytes+f.ExternalBytes)
	}
	return pointer(min(1, max(0, 1-(1-share)*float64(min(bytes, total))/float64(total))))
}
