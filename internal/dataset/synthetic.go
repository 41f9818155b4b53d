package dataset

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// defaultSynthetic is the number of samples of "synthetic" without a number.
const defaultSynthetic = 100

// Synthetic is the distribution of generated inputs. The zero value is the
// standard normal distribution, and integers that are 0 or 1: those are safe
// as token, type or mask, where a larger one may be out of range.
type Synthetic struct {
	Mean, Std float64 // of floats; Std 0 means 1
	MaxInt    int64   // integers are uniform in 0 … MaxInt; 0 means 1
}

// synthetic is a source of generated inputs: sample i depends on the seed and
// on i only.
type synthetic struct {
	n     int64
	seed  uint64
	ports []Port
	dist  Synthetic
	limit int64
}

// openSynthetic takes what follows "synthetic" in the specification.
func (s *Set) openSynthetic(rest string) error {
	src := &synthetic{n: defaultSynthetic, seed: s.o.Seed, ports: s.ports, dist: s.o.Synthetic, limit: s.o.MaxRow}
	if text, ok := strings.CutPrefix(rest, ":"); ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return fmt.Errorf("data synthetic:%s: want a number of samples from 1", text)
		}
		src.n = n
	}
	if len(s.ports) == 0 {
		return fmt.Errorf("data synthetic%s: the model has no inputs to generate data for", rest)
	}
	if src.dist.Std < 0 || src.dist.MaxInt < 0 {
		return fmt.Errorf("data synthetic%s: the standard deviation and the greatest integer must not be negative", rest)
	}
	if src.dist.Std == 0 {
		src.dist.Std = 1
	}
	if src.dist.MaxInt == 0 {
		src.dist.MaxInt = 1
	}
	if s.o.Preprocess != nil {
		s.warnings = append(s.warnings, "synthetic data is generated as the model takes it: preprocessing does not apply")
		s.o.Preprocess = nil
	}
	s.src = src
	return nil
}

func (src *synthetic) rows() int64           { return src.n }
func (src *synthetic) labels() LabelKind     { return NoLabel }
func (src *synthetic) open() (cursor, error) { return src, nil }

// Close does nothing.
func (src *synthetic) Close() error { return nil }

func (src *synthetic) fetch(i int64) (*raw, error) {
	r := rand.New(rand.NewPCG(src.seed, uint64(i)))
	s := &Sample{Index: i, ID: "synthetic " + strconv.FormatInt(i, 10), Inputs: map[string]*onnx.Tensor{}, whole: true}
	for _, p := range src.ports {
		name, typ := p.Name, p.Type
		if typ != nil && typ.Kind == onnx.KindOptional {
			typ = typ.Of
		}
		if typ != nil && typ.Kind == onnx.KindSequence {
			name, typ = p.Name+"[0]", typ.Of
		}
		t, err := src.generate(r, name, typ)
		if err != nil {
			return nil, err
		}
		s.Inputs[name] = t
	}
	return &raw{sample: s, exact: true}, nil
}

// generate makes one input; unknown dimensions are 1.
func (src *synthetic) generate(r *rand.Rand, name string, typ *onnx.Type) (*onnx.Tensor, error) {
	if !typ.IsTensor() || typ.Shape == nil {
		return nil, fmt.Errorf("synthetic data: input %q of type %v cannot be generated; give real data", name, typ)
	}
	shape := make([]int64, len(typ.Shape))
	for i, d := range typ.Shape {
		shape[i] = 1
		if d.Known() {
			shape[i] = d.Value
		}
	}
	n, ok := onnx.ElementCount(shape)
	if !ok || n > src.limit/8 {
		return nil, fmt.Errorf("synthetic data: input %q of shape %v is larger than the limit of %d bytes", name, shape, src.limit)
	}
	switch d := typ.Elem; {
	case d == onnx.String:
		v := make([]string, n)
		for i := range v {
			v[i] = string(rune('a' + r.IntN(26)))
		}
		return onnx.FromStrings(name, shape, v), nil
	case d.IsFloat():
		return src.fill(name, d, shape, n, func() float64 { return src.dist.Mean + src.dist.Std*r.NormFloat64() })
	case d == onnx.Bool:
		return src.fill(name, d, shape, n, func() float64 { return float64(r.IntN(2)) })
	case d.IsInt():
		_, hi := onnx.IntRange(d)
		top := min(src.dist.MaxInt, hi, 1<<53)
		return src.fill(name, d, shape, n, func() float64 { return float64(r.Int64N(top + 1)) })
	default:
		return nil, fmt.Errorf("synthetic data: input %q has elements of type %v, which cannot be generated", name, d)
	}
}

func (src *synthetic) fill(name string, d onnx.DType, shape []int64, n int64, next func() float64) (*onnx.Tensor, error) {
	v := make([]float64, n)
	for i := range v {
		v[i] = next()
	}
	return onnx.FromFloat64s(name, d, shape, v)
}
