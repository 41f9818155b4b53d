// Package compare measures the distance between two tensors and judges it by named tolerance classes.
//
// Tensors are read from their packed bytes in small windows; none is ever converted as a whole.
package compare

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Element is one place where two tensors differ. Complex tensors count real and imaginary parts as elements of their own.
type Element struct {
	Index     int64 // row-major
	Want, Got float64
}

// Distance is how far a tensor is from the one that was wanted. The sums behind Cosine, SQNR and RMS leave out elements
// that are NaN or infinite on either side; those are counted apart and never averaged away.
type Distance struct {
	Elements   int64
	Mismatched int64 // elements that are not equal; +0 equals -0, NaN equals NaN
	Outside    int64 // elements outside the class, non-finite ones included
	NonFinite  int64 // elements NaN or infinite on one side and not the same on the other
	NaNs       int64 // NaN on both sides

	MaxAbs float64 // largest |got - want|
	MaxRel float64 // largest |got - want| / |want| where want ≠ 0
	MaxULP uint64  // largest distance in units in the last place; 0 where it has no meaning (below 16 bits, types differ)
	Cosine float64 // 1 when both are zero
	SQNR   float64 // 10 log10(Σ want² / Σ (got-want)²) in dB; +Inf when equal
	RMS    float64 // of want
	Scale  float64 // largest finite |want|, the unit of Class.ATol; 1 where want is all zero

	Worst          Element // the element with the largest |got - want|
	FirstNonFinite Element // the first of NonFinite

	Class  string // the class it was judged by
	OK     bool   // whether it agrees
	Reason string // why not, "" when it does

	text string // how the first unequal strings differ
}

// Tensors compares got with want under class c. Shapes must be equal; element types too, unless both are real floating-point
// types, which are then compared as numbers. It errs where the two cannot be compared or their bytes cannot be read; a
// difference, however large, is not an error.
func Tensors(want, got *onnx.Tensor, c Class) (*Distance, error) {
	if !slices.Equal(want.Shape, got.Shape) {
		return nil, fmt.Errorf("tensor %q: shape is %v, want %v", got.Name, got.Shape, want.Shape)
	}
	if want.DType != got.DType && !(want.DType.IsFloat() && got.DType.IsFloat()) {
		return nil, fmt.Errorf("tensor %q: element type is %v, want %v", got.Name, got.DType, want.DType)
	}
	if want.DType == onnx.String {
		return stringTensors(want, got, c)
	}
	w, err := newReader(want)
	if err != nil {
		return nil, err
	}
	g, err := newReader(got)
	if err != nil {
		return nil, err
	}
	d := &Distance{Elements: w.n, Cosine: 1, SQNR: math.Inf(1), Scale: w.maxMagnitude()}
	if d.Scale == 0 {
		d.Scale = 1
	}
	measure(d, w, g, c)
	d.judge(c)
	return d, nil
}

// sums are the moments that a distance is made of.
type sums struct{ want, got, cross, noise float64 }

func measure(d *Distance, w, g *reader, c Class) {
	exactInts := w.dtype.IsInt()
	sameType := w.dtype == g.dtype
	var s sums
	finite := int64(0)
	for at := int64(0); at < w.n; at += window {
		n := min(window, w.n-at)
		if sameType && bytes.Equal(w.span(at, n), g.span(at, n)) {
			for _, x := range w.read(at, n) {
				switch {
				case math.IsNaN(x):
					d.NaNs++
				case !math.IsInf(x, 0):
					finite++
					s.want += x * x
					s.got += x * x
					s.cross += x * x
				}
			}
			continue
		}
		a, b := w.read(at, n), g.read(at, n)
		for i := range a {
			if !d.nonFinite(at+int64(i), a[i], b[i]) {
				continue
			}
			finite++
			x, y := a[i], b[i]
			s.want += x * x
			s.got += y * y
			s.cross += x * y
			if x == y && !(exactInts && !w.sameBytes(g, at+int64(i))) {
				continue
			}
			d.Mismatched++
			diff := math.Abs(y - x)
			s.noise += diff * diff
			d.element(Element{Index: at + int64(i), Want: x, Got: y}, diff, w.ulps(g, at+int64(i), sameType), c)
		}
	}
	d.finish(s, finite)
}

// nonFinite counts elements that are not finite and says whether both are.
func (d *Distance) nonFinite(index int64, want, got float64) bool {
	wantFinite, gotFinite := !math.IsNaN(want) && !math.IsInf(want, 0), !math.IsNaN(got) && !math.IsInf(got, 0)
	switch {
	case wantFinite && gotFinite:
		return true
	case math.IsNaN(want) && math.IsNaN(got):
		d.NaNs++
	case want == got:
	default:
		if d.NonFinite == 0 {
			d.FirstNonFinite = Element{Index: index, Want: want, Got: got}
		}
		d.NonFinite++
		d.Mismatched++
		d.Outside++
	}
	return false
}

func (d *Distance) element(e Element, diff float64, ulps uint64, c Class) {
	d.MaxULP = max(d.MaxULP, ulps)
	if e.Want != 0 {
		d.MaxRel = max(d.MaxRel, diff/math.Abs(e.Want))
	}
	if diff > d.MaxAbs || d.Mismatched == 1 {
		d.MaxAbs, d.Worst = diff, e
	}
	limit := c.RTol*math.Abs(e.Want) + c.ATol*d.Scale
	if (diff > limit || limit == 0) && (ulps == 0 || ulps > c.ULP) {
		d.Outside++
	}
}

func (d *Distance) finish(s sums, finite int64) {
	if finite == 0 {
		return
	}
	d.RMS = math.Sqrt(s.want / float64(finite))
	switch {
	case s.want > 0 && s.got > 0:
		d.Cosine = max(-1, min(1, s.cross/math.Sqrt(s.want)/math.Sqrt(s.got)))
	case s.want > 0 || s.got > 0:
		d.Cosine = 0
	}
	if s.noise > 0 {
		d.SQNR = 10 * math.Log10(s.want/s.noise)
	}
}

func stringTensors(want, got *onnx.Tensor, c Class) (*Distance, error) {
	w, err := want.Strings()
	if err != nil {
		return nil, err
	}
	g, err := got.Strings()
	if err != nil {
		return nil, err
	}
	if len(w) != len(g) {
		return nil, fmt.Errorf("tensor %q: %d strings, want %d", got.Name, len(g), len(w))
	}
	d := &Distance{Elements: int64(len(w)), Cosine: 1, SQNR: math.Inf(1)}
	for i := range w {
		if w[i] != g[i] {
			if d.Mismatched == 0 {
				d.text = fmt.Sprintf("the first at %d: want %.40q, got %.40q", i, w[i], g[i])
			}
			d.Mismatched++
			d.Outside++
		}
	}
	d.judge(c)
	return d, nil
}

// Named is the distance of one output.
type Named struct {
	Name string
	*Distance
}

// Outputs compares two sets of outputs by name, in name order, each under the class that classOf gives for the wanted type;
// a nil classOf means ClassFor. It errs where a wanted output is missing or cannot be compared; further outputs are ignored.
func Outputs(want, got map[string]*onnx.Tensor, classOf func(onnx.DType) Class) ([]Named, error) {
	if classOf == nil {
		classOf = ClassFor
	}
	var out []Named
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[name]
		if !ok || g == nil {
			return nil, fmt.Errorf("output %q is missing", name)
		}
		d, err := Tensors(want[name], g, classOf(want[name].DType))
		if err != nil {
			return nil, fmt.Errorf("output %q: %v", name, err)
		}
		out = append(out, Named{Name: name, Distance: d})
	}
	return out, nil
}
