package quantize

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/kernels"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/upgrade"
)

// wideOpset is the version of the standard operators from which QuantizeLinear and
// DequantizeLinear have codes of 16 bits.
const wideOpset = 21

// raise brings m to an opset whose QuantizeLinear and DequantizeLinear have the
// codes in force, or imports ONNX Runtime's own ones, which have 16 bits at every
// opset; and asks the engine, the first time, what it computes on these codes.
func (s *static) raise(ctx context.Context, m *onnx.Model) ([]string, error) {
	notices, err := s.raised(ctx, m)
	if err != nil {
		return nil, err
	}
	if s.domain != "" || s.o.Representation == "qoperator" {
		if m.OpsetVersion(microsoft) == 0 {
			m.ImportOpset(microsoft, 1)
		}
	}
	if !s.asked {
		if err := s.ask(ctx, m); err != nil {
			return nil, err
		}
		s.asked = true
	}
	return append(notices, s.notices...), nil
}

func (s *static) raised(ctx context.Context, m *onnx.Model) ([]string, error) {
	t := s.o.activations()
	if !t.wide() {
		return upgrade.To(m, qdqOpset)
	}
	_, err := upgrade.To(m.Clone(), wideOpset)
	if err == nil && s.hasPair(ctx, "", t) {
		return upgrade.To(m, wideOpset)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if !s.hasPair(ctx, microsoft, t) {
		if err != nil {
			return nil, fmt.Errorf("the runtime here has no QuantizeLinear of %v below opset %d, and: %w", t, wideOpset, err)
		}
		return nil, fmt.Errorf("the runtime here has no QuantizeLinear of %v", t)
	}
	if err == nil {
		err = fmt.Errorf("it has no standard QuantizeLinear of %v", t)
	}
	s.domain = microsoft
	notices, up := upgrade.To(m, qdqOpset)
	return append(notices, fmt.Sprintf("the pairs of %v are operators of %s, which only ONNX Runtime has: %v", t, microsoft, err)), up
}

// hasPair asks the engine whether it codes numbers as t and takes codes back by
// operators of a domain.
func (s *static) hasPair(ctx context.Context, domain string, t codeType) bool {
	for _, op := range []string{"QuantizeLinear", "DequantizeLinear"} {
		key := fmt.Sprintf("%s.%s %v", domain, op, t)
		if s.prober.Ask(ctx, key, func() *onnx.Model { return (&static{o: s.o, domain: domain}).converter(op, 8) }) == kernels.Refused {
			return false
		}
	}
	return true
}

// ask finds out which operators with weights the engine computes on the codes in
// force, which only the usual ones are known to be for, and refuses codes on
// which it computes none of those that m has.
func (s *static) ask(ctx context.Context, m *onnx.Model) error {
	if s.o.suffix() == "" || s.o.Accelerator != "" {
		return nil
	}
	s.o.progress("asking the engine about its kernels")
	var has, float []string
	for n := range measurable(m) {
		if _, ok := linearOf(n); ok && !slices.Contains(has, n.Op) {
			has = append(has, n.Op)
		}
	}
	for _, op := range has {
		taken, err := s.computes(ctx, op, m.OpsetVersion(""))
		if err != nil {
			return err
		}
		if !taken {
			float = append(float, op)
		}
	}
	slices.Sort(float)
	codes := strings.Replace(strings.TrimSpace(s.o.suffix()), "×", " activations by ", 1) + " weights"
	switch {
	case len(float) == 0:
	case s.o.activations().wide():
		s.notices = append(s.notices, fmt.Sprintf("the runtime here computes %s of %s in float32, between conversions: the model is for processors with kernels of 16 bits",
			strings.Join(float, ", "), codes))
	case len(float) == len(has):
		return fmt.Errorf("the runtime here has no kernel of %s for %s: it would compute in float32 between conversions; choose other --activations or --weights", codes, strings.Join(float, ", "))
	default:
		s.unfit = map[string]string{}
		for _, op := range float {
			s.unfit[op] = fmt.Sprintf("the runtime here has no kernel of %s for it", codes)
		}
	}
	return nil
}

// computes reports whether the engine computes an operator between codes, as it
// shows when it loads one.
func (s *static) computes(ctx context.Context, op string, version int64) (bool, error) {
	m := smallAnchor(op, version)
	facts, err := opset.Infer(m, opset.Options{})
	if err != nil {
		return false, err
	}
	k, ok := newMicro(m.Graph.First(), facts, s.o)
	if !ok {
		return false, fmt.Errorf("the sizes of a small %s are not known", op)
	}
	coded, err := k.coded(s)
	if err != nil {
		return false, err
	}
	if err := s.inFloats(coded); err != nil {
		return false, err
	}
	ops, loads := kernels.Optimized(ctx, s.o.Open, s.o.Session, coded)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if !loads {
		return false, nil
	}
	return slices.ContainsFunc(ops, func(o kernels.Op) bool { return onCodes(o.Name) }), nil
}

// inFloats makes m, which goes from codes to codes, read and give floats: there are
// engines that give whole pairs codes of another type, on which they compute.
func (s *static) inFloats(m *onnx.Model) error {
	g := m.Graph
	codes, y := g.Inputs()[0], g.Outputs()[0]
	dq, q := codes.Uses()[0].Node, y.Producer()
	x := g.AddInput("floats", onnx.TensorType(onnx.Float, codes.Shape()))
	first := s.operator("QuantizeLinear", "coded", x, dq.Input(1), dq.Input(2))
	g.InsertBefore(first, g.First())
	if err := g.Replace(codes, first.Output(0)); err != nil {
		return err
	}
	last := s.operator("DequantizeLinear", "decoded", y, q.Input(1), q.Input(2))
	g.Append(last)
	last.Output(0).Type = onnx.TensorType(onnx.Float, y.Shape())
	g.SetOutputs([]*onnx.Value{last.Output(0)})
	return g.RemoveInput(codes)
}

// onCodes reports whether an operator computes on codes.
func onCodes(op string) bool {
	return strings.HasPrefix(op, "QLinear") || strings.HasPrefix(op, "MatMulInteger") || op == "QGemm" || op == "ConvInteger"
}

// smallAnchor returns a model of one operator with a weight and a bias.
func smallAnchor(op string, version int64) *onnx.Model {
	m := onnx.NewModel(version)
	g := m.Graph
	numbers := func(name string, shape ...int64) *onnx.Value {
		count, _ := onnx.ElementCount(shape)
		x := make([]float32, count)
		for i := range x {
			x[i] = float32(pseudo(i))
		}
		return g.NewConst(onnx.FromFloats(name, shape, x))
	}
	input := func(shape ...int64) *onnx.Value {
		return g.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(shape...)))
	}
	var in []*onnx.Value
	switch op {
	case "Conv":
		in = []*onnx.Value{input(1, 16, 8, 8), numbers("w", 16, 16, 3, 3), numbers("b", 16)}
	case "Gemm":
		in = []*onnx.Value{input(4, 32), numbers("w", 32, 16), numbers("b", 16)}
	default:
		in = []*onnx.Value{input(4, 32), numbers("w", 32, 16)}
	}
	n := onnx.NewNode(op, in, "y")
	g.Append(n)
	n.Output(0).Type = onnx.TensorType(onnx.Float, nil)
	g.AddOutput(n.Output(0))
	return m
}
