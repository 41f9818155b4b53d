package validate

import (
	"bytes"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// distance accumulates how far one output of the candidate is from that of the baseline. State: O(1).
type distance struct {
	name      string
	float     bool
	elements  int64
	different bool  // in bytes, type or shape
	broken    bool  // NaN or infinite in the candidate only
	ragged    bool  // shapes may differ: the number of boxes found
	partial   bool  // they did
	numbers   int64 // elements that are not NaN in the baseline
	want, got float64
	cross     float64
	noise     float64
	maxAbs    float64
}

// add takes the first rows of n that both outputs hold. It returns the numbers of both; nil for strings.
func (d *distance) add(want, got *onnx.Tensor, n, rows int) (b, c []float64, err error) {
	same := slices.Equal(want.Shape, got.Shape)
	if !same && !d.ragged {
		return nil, nil, candidateFault("output %q has shape %v, that of the baseline %v", d.name, got.Shape, want.Shape)
	}
	if want.DType == onnx.String || got.DType == onnx.String {
		if want.DType != got.DType {
			return nil, nil, candidateFault("output %q is %v, that of the baseline %v", d.name, got.DType, want.DType)
		}
		d.elements += int64(len(want.Str) / n * rows)
		d.different = d.different || !slices.EqualFunc(want.Str, got.Str, bytes.Equal)
		return nil, nil, nil
	}
	if b, err = want.Float64s(); err != nil {
		return nil, nil, err
	}
	if c, err = got.Float64s(); err != nil {
		return nil, nil, candidateFault("output %q: %w", d.name, err)
	}
	if !same {
		d.different, d.partial = true, true
		return b, c, nil
	}
	d.float = d.float || want.DType.IsFloat()
	used := len(b)
	if len(want.Shape) > 0 && want.Shape[0] == int64(n) {
		used = len(b) / n * rows
	}
	d.elements += int64(used)
	if same, err := sameBytes(want, got, used, len(b)); err != nil {
		return nil, nil, err
	} else if !same {
		d.different = true
	}
	for i, x := range b[:used] {
		d.element(x, c[i])
	}
	return b, c, nil
}

// sameBytes says whether the first used of n elements are stored alike.
func sameBytes(a, b *onnx.Tensor, used, n int) (bool, error) {
	if a.DType != b.DType {
		return false, nil
	}
	x, err := a.Bytes()
	if err != nil {
		return false, err
	}
	y, err := b.Bytes()
	if err != nil {
		return false, err
	}
	if n > 0 && a.DType.Bits() >= 8 {
		x, y = x[:len(x)/n*used], y[:len(y)/n*used]
	}
	return bytes.Equal(x, y), nil
}

func (d *distance) element(x, y float64) {
	if !math.IsNaN(x) {
		d.numbers++
	}
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return
	case math.IsNaN(y) || math.IsInf(y, 0):
		d.broken = true
		return
	}
	d.want += x * x
	d.got += y * y
	d.cross += x * y
	d.noise += (x - y) * (x - y)
	d.maxAbs = max(d.maxAbs, math.Abs(x-y))
}

// silent reports whether the baseline gave no number in an output that has some.
func (d *distance) silent() bool { return d.float && !d.partial && d.elements > 0 && d.numbers == 0 }

// sqnr returns the signal to noise ratio in dB; nothing where it is infinite, or where the candidate gave no number.
func sqnr(signal, noise float64, broken bool) *float64 {
	if broken || noise == 0 || signal == 0 {
		return nil
	}
	return report.Num(10 * math.Log10(signal/noise))
}

func (d *distance) report() report.OutputDistance {
	o := report.OutputDistance{Name: d.name, Elements: d.elements, Identical: !d.different}
	if d.broken || d.partial {
		return o
	}
	o.MaxAbs, o.SQNR = report.Num(d.maxAbs), sqnr(d.want, d.noise, false)
	switch {
	case d.want > 0 && d.got > 0:
		o.Cosine = report.Num(min(1, d.cross/math.Sqrt(d.want)/math.Sqrt(d.got)))
	case d.want > 0 || d.got > 0:
		o.Cosine = report.Num(0)
	}
	return o
}
