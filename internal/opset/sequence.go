package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// sequenceRows are the operators on sequences, optionals and strings.
func sequenceRows() []row {
	return []row{
		{"SequenceAt", "11", "input_sequence position", "tensor", "", 0, inferSequenceAt, nil},
		{"SequenceConstruct", "11", "inputs+", "output_sequence", "", 0, inferSequenceConstruct, nil},
		{"SequenceEmpty", "11", "", "output", "dtype:int", 0, inferSequenceEmpty, nil},
		{"SequenceErase", "11", "input_sequence position?", "output_sequence", "", 0, sameAsFirst, nil},
		{"SequenceInsert", "11", "input_sequence tensor position?", "output_sequence", "", 0, inferSequenceInsert, nil},
		{"SequenceLength", "11", "input_sequence", "length", "", 0, func(c *call) { c.set(0, onnx.Int64, onnx.Shape{}) }, nil},
		{"SplitToSequence", "11 24", "input split?", "output_sequence", "axis:int=0 keepdims:int=1", 0, inferSplitToSequence, nil},
		{"ConcatFromSequence", "11", "input_sequence", "concat_result", "axis:int! new_axis:int=0", 0, inferConcatFromSequence, nil},
		{"Optional", "15", "input?", "output", "type:type_proto", 0, inferOptional, nil},
		{"OptionalGetElement", "15 18", "input", "output", "", 0, inferOptionalGet, nil},
		{"OptionalHasElement", "15 18", "input|18:input?", "output", "", 0, func(c *call) { c.set(0, onnx.Bool, onnx.Shape{}) }, nil},
		{"RegexFullMatch", "20", "X", "Y", "pattern:string", Elementwise, toBool, nil},
		{"StringNormalizer", "10", "X", "Y", "case_change_action:string=NONE is_case_sensitive:int=0 locale:string stopwords:strings", 0, inferStringNormalizer, nil},
		{"StringSplit", "20", "X", "Y Z", "delimiter:string maxsplit:int", 0, inferStringSplit, nil},
		{"TfIdfVectorizer", "9", "X", "Y", "max_gram_length:int! max_skip_count:int! min_gram_length:int! mode:string! ngram_counts:ints! " +
			"ngram_indexes:ints! pool_int64s:ints pool_strings:strings weights:floats", 0, inferTfIdf, nil},
	}
}

// sequenceOf returns the type of a sequence of t; nil where t is nil.
func sequenceOf(t *onnx.Type) *onnx.Type {
	if t == nil {
		return nil
	}
	return &onnx.Type{Kind: onnx.KindSequence, Of: t}
}

// elementOf returns the type of the elements of a sequence or optional.
func elementOf(t *onnx.Type, kind onnx.TypeKind) *onnx.Type {
	if t == nil || t.Kind != kind {
		return nil
	}
	return t.Of
}

func inferSequenceAt(c *call) { c.setType(0, elementOf(c.typ(0), onnx.KindSequence)) }

func inferSequenceConstruct(c *call) {
	t := c.typ(0)
	for i := 1; i < len(c.n.Inputs()); i++ {
		t = c.f.joinTypes(t, c.typ(i))
	}
	c.setType(0, sequenceOf(t))
}

func inferSequenceEmpty(c *call) {
	elem := onnx.Float
	if d, ok := c.maybeInt("dtype"); ok {
		elem = dtypeOf(d)
	}
	c.setType(0, sequenceOf(onnx.TensorType(elem, nil)))
}

func inferSequenceInsert(c *call) {
	c.setType(0, sequenceOf(c.f.joinTypes(elementOf(c.typ(0), onnx.KindSequence), c.typ(1))))
}

func inferSplitToSequence(c *call) {
	s := append(onnx.Shape(nil), c.shape(0)...)
	axis, ok := axisOf(c.int("axis"), len(s))
	if !ok {
		c.setType(0, sequenceOf(onnx.TensorType(c.elem(0), nil)))
		return
	}
	total := c.ex(s[axis])
	s[axis] = onnx.Symbol("")
	switch {
	case !c.has(1) && c.int("keepdims") == 0:
		s = without(s, []int{axis}, false)
	case !c.has(1):
		s[axis] = onnx.Fixed(1)
	default:
		s[axis] = c.partSize(total)
	}
	c.setType(0, sequenceOf(onnx.TensorType(c.elem(0), s)))
}

// partSize returns the size of every part of a split of total by input 1, where
// all are equal.
func (c *call) partSize(total *expr) onnx.Dim {
	parts, ok := c.numbers(1)
	if !ok || len(parts) == 0 {
		return onnx.Symbol("")
	}
	if len(c.shape(1)) == 0 {
		if n, ok := total.known(); !ok || parts[0] <= 0 || n%parts[0] != 0 {
			return onnx.Symbol("")
		}
	}
	for _, p := range parts {
		if p != parts[0] {
			return onnx.Symbol("")
		}
	}
	return c.asDim(constant(parts[0]))
}

func inferConcatFromSequence(c *call) {
	t := elementOf(c.typ(0), onnx.KindSequence)
	if !t.IsTensor() {
		return
	}
	rank := len(t.Shape)
	if c.int("new_axis") != 0 {
		rank++
	}
	axis, ok := axisOf(c.int("axis"), rank)
	if t.Shape == nil || !ok {
		c.set(0, t.Elem, nil)
		return
	}
	out := append(onnx.Shape{}, t.Shape...)
	if c.int("new_axis") != 0 {
		out = concatShape(t.Shape[:axis], onnx.Shape{onnx.Symbol("")}, t.Shape[axis:])
	}
	out[axis] = onnx.Symbol("")
	c.set(0, t.Elem, out)
}

func inferOptional(c *call) {
	if c.has(0) {
		if t := c.typ(0); t != nil {
			c.setType(0, &onnx.Type{Kind: onnx.KindOptional, Of: t})
		}
		return
	}
	if a := c.attr("type"); a != nil && a.TP != nil {
		c.setType(0, &onnx.Type{Kind: onnx.KindOptional, Of: c.f.resolve(a.TP)})
	}
}

func inferOptionalGet(c *call) {
	if t := c.typ(0); t != nil && t.Kind == onnx.KindOptional {
		c.setType(0, t.Of)
		return
	}
	c.same(0, 0)
}

// inferStringNormalizer keeps the shape where no word can be dropped.
func inferStringNormalizer(c *call) {
	s := c.shape(0)
	if a := c.attr("stopwords"); a != nil && len(a.Strings) > 0 && s != nil {
		s = append(onnx.Shape{}, s...)
		if len(s) > 0 {
			s[len(s)-1] = onnx.Symbol("")
		}
	}
	c.set(0, onnx.String, s)
}

func inferStringSplit(c *call) {
	s := c.shape(0)
	c.set(1, onnx.Int64, s)
	c.set(0, onnx.String, concatShape(s, unknownShape(1)))
}

func inferTfIdf(c *call) {
	width := int64(-1)
	for _, i := range c.intList("ngram_indexes") {
		if i < 1<<31 {
			width = max(width, i)
		}
	}
	s := append(onnx.Shape(nil), c.shape(0)...)
	if c.shape(0) == nil || len(s) > 2 {
		c.set(0, onnx.Float, nil)
		return
	}
	if len(s) > 0 {
		s = s[:len(s)-1]
	}
	c.set(0, onnx.Float, append(append(onnx.Shape{}, s...), c.asDim(constant(width+1))))
}
