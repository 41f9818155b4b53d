package compare

import (
	"fmt"
	"math"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Class is a named tolerance. An element agrees when it lies within ULP units in the last place, or when
//
//	|got - want| ≤ RTol·|want| + ATol·scale
//
// where scale is the largest finite magnitude in the wanted tensor, so that a tensor of tiny values is held to them and not to 1. NaN
// agrees with NaN, an infinity with the same infinity, and with nothing else. The tensor agrees when every element does and
// its SQNR is at least MinSQNR.
type Class struct {
	Name    string
	RTol    float64
	ATol    float64 // in units of the wanted tensor's largest magnitude
	ULP     uint64  // units in the last place that are always accepted; needs equal element types of 16 bits and more
	MinSQNR float64 // dB; 0 asks for none
	Why     string
}

// Classes returns every tolerance there is, strictest first.
func Classes() []Class {
	return []Class{
		{Name: "exact", Why: "integers, booleans, strings, and rewrites that move bytes without computing"},
		{Name: "ulp", ULP: 4, Why: "the same elementwise operations in another order: each rounding may differ by one place"},
		{Name: "float64", RTol: 1e-9, ATol: 1e-11, MinSQNR: 180,
			Why: "epsilon is 2e-16; sums of 1e5 terms in another order, and kernels with float32 polynomial parts excluded"},
		{Name: "float32", RTol: 1e-4, ATol: 1e-5, MinSQNR: 80,
			Why: "epsilon is 1.2e-7; sums of thousands of terms in another order, over some hundred layers, stay below 1e-5 of the largest value"},
		{Name: "float16", RTol: 1e-2, ATol: 5e-3, MinSQNR: 40,
			Why: "epsilon is 9.8e-4; weights and activations rounded at every layer"},
		{Name: "bfloat16", RTol: 8e-2, ATol: 4e-2, MinSQNR: 24,
			Why: "epsilon is 7.8e-3, eight times that of float16"},
		{Name: "float8", RTol: 0.25, ATol: 0.125, MinSQNR: 12,
			Why: "two or three bits of mantissa: neighbours are up to 25 % apart"},
		{Name: "int8", RTol: 0.1, ATol: 0.1, MinSQNR: 15,
			Why: "activations on 256 levels have 50 dB at a full range each; clipping and accumulation over layers cost up to 35 dB"},
		{Name: "int4", RTol: 0.3, ATol: 0.3, MinSQNR: 6,
			Why: "weights on 16 levels per block have about 20 dB each"},
	}
}

// ParseClass returns the class of that name.
func ParseClass(name string) (Class, error) {
	var names []string
	for _, c := range Classes() {
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	return Class{}, fmt.Errorf("tolerance %q is unknown, want one of %s", name, strings.Join(names, ", "))
}

// ClassFor returns the class for results of one element type computed by two correct implementations.
func ClassFor(d onnx.DType) Class {
	name := "exact"
	switch d {
	case onnx.Float, onnx.Complex64:
		name = "float32"
	case onnx.Double, onnx.Complex128:
		name = "float64"
	case onnx.Float16:
		name = "float16"
	case onnx.BFloat16:
		name = "bfloat16"
	case onnx.Float8E4M3FN, onnx.Float8E4M3FNUZ, onnx.Float8E5M2, onnx.Float8E5M2FNUZ, onnx.Float4E2M1, onnx.Float8E8M0:
		name = "float8"
	}
	c, err := ParseClass(name)
	if err != nil {
		panic("compare: " + err.Error())
	}
	return c
}

// Looser returns the looser of two classes: the one that comes later in Classes.
func Looser(a, b Class) Class {
	for _, c := range Classes() {
		switch c.Name {
		case a.Name:
			return b
		case b.Name:
			return a
		}
	}
	return a
}

// Bounds of [Distance.Noise].
const (
	noiseMargin = 10.0 // dB beyond what a class asks for
	noiseCrest  = 8.0  // largest difference in units of the differences' root mean square: in normal noise one of 10^15 is beyond it
)

// Noise reports whether a difference that class c refuses element by element is nothing but rounding, spread evenly: all of it
// together is 10 dB below what the class allows as noise, and no element is far beyond the others' differences, as an element
// computed wrongly would be. The class bounds small elements by the largest, which many layers of rounding exceed in a few of
// thousands. It accepts, it does not measure: the caller says on what grounds elements may differ at all.
func (d *Distance) Noise(c Class) bool {
	if c.MinSQNR <= 0 || d.NonFinite > 0 || math.IsInf(d.SQNR, 0) || d.SQNR < c.MinSQNR+noiseMargin {
		return false
	}
	return d.MaxAbs <= noiseCrest*d.RMS*math.Pow(10, -d.SQNR/20)
}

// judge sets the verdict of a distance under class c.
func (d *Distance) judge(c Class) {
	d.Class = c.Name
	switch {
	case d.NonFinite > 0:
		d.Reason = fmt.Sprintf("%d of %d elements are NaN or infinite on one side only, the first at %d: want %v, got %v",
			d.NonFinite, d.Elements, d.FirstNonFinite.Index, d.FirstNonFinite.Want, d.FirstNonFinite.Got)
	case d.Outside > 0 && d.text != "":
		d.Reason = fmt.Sprintf("%d of %d elements differ, %s", d.Outside, d.Elements, d.text)
	case d.Outside > 0:
		d.Reason = fmt.Sprintf("%d of %d elements are outside %s, the worst at %d: want %v, got %v",
			d.Outside, d.Elements, c.Name, d.Worst.Index, d.Worst.Want, d.Worst.Got)
	case c.MinSQNR > 0 && d.SQNR < c.MinSQNR && !math.IsInf(d.SQNR, 1):
		d.Reason = fmt.Sprintf("SQNR is %.1f dB, %s wants at least %v", d.SQNR, c.Name, c.MinSQNR)
	default:
		d.OK = true
	}
}
