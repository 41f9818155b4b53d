package nets

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Options says which form of a network to build; the zero value is the tiny one
// in the TorchScript style.
type Options struct {
	Style Style // "": TorchScript
	Full  bool  // the published size; else one for unit tests, in the same structure
	Opset int64 // 0: what the style's exporter writes by default
	// Spelled spells norms and activations out, also where the opset has them as
	// operators and the exporter would write those.
	Spelled bool
	Seed    uint64     // of the weights
	DType   onnx.DType // of weights and activations; 0: Float
	Batch   int64      // 0: symbolic, called "batch"
	Seq     int64      // tokens of networks that take any number; 0: symbolic, called "seq"

	// Nodes and Bytes give the networks that may be of any size another one: of
	// nodes, or of weights; 0: their usual one.
	Nodes int
	Bytes int64
}

// net is a network that can be built.
type net struct {
	name   string
	styles []Style
	build  func(b *builder)
	opset  int64 // the first opset that has what it needs; 0: any
	big    bool  // in its published size too big to be written in a test
	grows  axisOfGrowth
}

// axisOfGrowth is what of a network may be of any size.
type axisOfGrowth int

const (
	inNothing axisOfGrowth = iota
	inNodes
	inBytes
)

var torch = []Style{TorchScript, Dynamo, DynamoFunctions}

// list holds every network.
var list = []net{
	{name: "bert", styles: Styles, build: bert},
	{name: "gpt2", styles: torch, build: gpt2},
	{name: "gpt2-past", styles: torch, build: gpt2Past},
	{name: "llama", styles: torch, build: llama},
	{name: "llama-past", styles: torch, build: llamaPast},
	{name: "llama-7b", styles: torch, build: llama7B, big: true},
	{name: "vit", styles: torch, build: vit},
	{name: "transformer", styles: torch[:2], build: transformer},
	{name: "whisper-encoder", styles: torch, build: whisper},
	{name: "resnet50", styles: Styles, build: resnet50},
	{name: "mobilenetv2", styles: Styles, build: mobilenetV2},
	{name: "mobilenetv3", styles: torch[:2], build: mobilenetV3},
	{name: "efficientnet-b0", styles: torch, build: efficientnet},
	{name: "densenet121", styles: torch[:2], build: densenet},
	{name: "vgg19", styles: torch[:2], build: vgg},
	{name: "yolov8n", styles: torch[:2], build: yolo},
	{name: "unet", styles: torch, build: unet},
	{name: "tabular", styles: torch[:2], build: tabular},
	{name: "lstm", styles: torch[:2], build: lstm},
	{name: "gru", styles: torch[:2], build: gru},
	{name: "gtcrn", styles: torch[:2], build: gtcrn},
	{name: "gtcrn-stream", styles: torch[:2], build: gtcrnStream},
	{name: "chain", styles: torch[:2], build: chain, grows: inNodes},
	{name: "wide", styles: torch[:2], build: wide, big: true},
	{name: "layers", styles: torch[:2], build: layers, grows: inBytes},
	{name: "deep", styles: torch[:2], build: deep, grows: inNodes},
	{name: "fan", styles: torch[:2], build: fan, grows: inNodes},
	{name: "branches", styles: torch[:1], build: branches, grows: inNodes},
}

// Names lists the networks.
func Names() []string {
	var out []string
	for _, n := range list {
		out = append(out, n.name)
	}
	return out
}

func find(name string) (*net, error) {
	for i := range list {
		if list[i].name == name {
			return &list[i], nil
		}
	}
	return nil, fmt.Errorf("no network is called %q; there are %v", name, Names())
}

// StylesOf lists the styles that a network can be built in, none for unknown names.
func StylesOf(name string) []Style {
	n, err := find(name)
	if err != nil {
		return nil
	}
	return n.styles
}

// Build makes a network.
func Build(name string, o Options) (*onnx.Model, error) {
	s, err := build(name, o)
	if err != nil {
		return nil, err
	}
	return s.m, nil
}

// Truth counts what a network is made of, zeros left out.
func Truth(name string, o Options) (map[Kind]int, error) {
	s, err := build(name, o)
	if err != nil {
		return nil, err
	}
	return s.truth, nil
}

func build(name string, o Options) (*state, error) {
	n, err := find(name)
	if err != nil {
		return nil, err
	}
	if err := o.complete(n); err != nil {
		return nil, err
	}
	s := &state{m: onnx.NewModel(o.Opset), o: o, counts: map[string]int{}, truth: map[Kind]int{}, functions: map[string]*onnx.Function{}}
	s.m.IRVersion = irVersion(o.Opset)
	s.m.ProducerName, s.m.ProducerVersion = o.Style.producer()
	s.m.Graph.Name = name
	n.build(&builder{state: s, g: s.m.Graph})
	if err := s.m.Check(); err != nil {
		return nil, fmt.Errorf("building %s in the style of %s: %w", name, o.Style, err)
	}
	return s, nil
}

// complete fills in the defaults of o and says what a network cannot be.
func (o *Options) complete(n *net) error {
	if o.Style == "" {
		o.Style = TorchScript
	}
	if !slices.Contains(n.styles, o.Style) {
		return fmt.Errorf("%s cannot be built in the style %q; there are %v", n.name, o.Style, n.styles)
	}
	if o.Opset == 0 {
		o.Opset = max(o.Style.opset(), n.opset)
	}
	least := max(11, n.opset)
	if o.Style.traced() {
		least = max(least, 18)
	}
	if o.Opset < least {
		return fmt.Errorf("%s in the style of %s needs opset %d, not %d", n.name, o.Style, least, o.Opset)
	}
	if o.Nodes < 0 || o.Bytes < 0 || o.Nodes > 0 && n.grows != inNodes || o.Bytes > 0 && n.grows != inBytes {
		return fmt.Errorf("%s cannot be built with %d nodes or %d bytes of weights", n.name, o.Nodes, o.Bytes)
	}
	if o.DType == onnx.Undefined {
		o.DType = onnx.Float
	}
	if !floatBits[o.DType] {
		return fmt.Errorf("weights cannot be of type %v", o.DType)
	}
	return nil
}

// pick returns the published size or the one for tests.
func pick[T any](b *builder, full, tiny T) T {
	if b.o.Full {
		return full
	}
	return tiny
}

// dims makes a shape: negative one is the batch, negative two the sequence.
func (b *builder) dims(list ...int64) onnx.Shape {
	var out onnx.Shape
	for _, n := range list {
		switch {
		case n >= 0:
			out = append(out, onnx.Fixed(n))
		case n == anyBatch && b.o.Batch > 0:
			out = append(out, onnx.Fixed(b.o.Batch))
		case n == anyBatch:
			out = append(out, onnx.Symbol("batch"))
		case b.o.Seq > 0:
			out = append(out, onnx.Fixed(b.o.Seq))
		default:
			out = append(out, onnx.Symbol("seq"))
		}
	}
	return out
}

const (
	anyBatch = -1 // the batch in a list of dimensions
	anySeq   = -2 // the sequence
)

// input adds an input of the network's element type.
func (b *builder) input(name string, dims ...int64) *onnx.Value {
	return b.g.AddInput(name, onnx.TensorType(b.o.DType, b.dims(dims...)))
}

// tokens adds an int64 input of [batch, seq].
func (b *builder) tokens(name string) *onnx.Value {
	return b.g.AddInput(name, onnx.TensorType(onnx.Int64, b.dims(anyBatch, anySeq)))
}

// output makes v an output under a name of its own.
func (b *builder) output(name string, v *onnx.Value, dims ...int64) {
	if err := v.Rename(name); err != nil {
		panic("nets: " + err.Error())
	}
	v.Type = onnx.TensorType(b.o.DType, b.dims(dims...))
	b.g.AddOutput(v)
}
