package quantize

import (
	"fmt"
	"math"
	"sync"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// minNormal is the least normal float32. A scale below it is of a tensor that
// is zero for all purposes, and would divide to infinity.
const minNormal = 0x1p-126

// code rounds x/scale half to even; the division is in float32, as in the runtime.
func code(x, scale float32) float64 { return math.RoundToEven(float64(x / scale)) }

// limits of symmetric int8 codes.
const (
	fullRange    = 127
	reducedRange = 64
)

// weightCodes returns the codes of a weight with scales per channel or with one
// scale, in 7 bits where narrow: int8 symmetric; uint8 symmetric around 128 per
// channel, since runtimes want the same zero point in each, else asymmetric
// (onnxruntime.quantization, _calc_initializer_quant_params).
func (o *Options) weightCodes(perChannel, narrow bool) codeType {
	narrow = narrow || o.ReduceRange
	switch {
	case o.Weights == "uint8" && narrow:
		return codeType{dtype: onnx.Uint8, max: math.MaxInt8, symmetric: perChannel}
	case o.Weights == "uint8":
		return codeType{dtype: onnx.Uint8, max: math.MaxUint8, symmetric: perChannel}
	case narrow:
		return codeType{dtype: onnx.Int8, min: -reducedRange, max: reducedRange, symmetric: true}
	}
	return around
}

// weightSteps are how the elements of a weight are coded.
type weightSteps struct {
	t      codeType
	scales []float32 // one per channel
	zero   int       // of all channels
	lo, hi float32   // the extremes of the weight
}

// steps returns the scales of m by its extremes: symmetric codes by the largest
// magnitude of each channel, others, which have one channel, by the range.
func (t codeType) steps(m matrix) (weightSteps, error) {
	peak, lo, hi, err := m.magnitudes()
	if err != nil {
		return weightSteps{}, err
	}
	s := weightSteps{t: t, scales: make([]float32, len(peak)), lo: lo, hi: hi}
	for i, a := range peak {
		if t.symmetric {
			lo, hi = -a, a
		}
		s.scales[i], s.zero = t.params(lo, hi)
	}
	return s, nil
}

// describe says how the weight of a name is coded.
func (s weightSteps) describe(name string) Params {
	p := Params{Tensor: name, Type: s.t.String(), ZeroPoint: int64(s.zero), Min: float64(s.lo), Max: float64(s.hi)}
	for _, x := range s.scales {
		p.Scale = max(p.Scale, float64(x))
	}
	return p
}

// decoded returns what is left of x behind its code.
func (s weightSteps) decoded(x, scale float32) float64 {
	lo, hi := float64(s.t.min-s.zero), float64(s.t.max-s.zero)
	return math.Min(math.Max(code(x, scale), lo), hi) * float64(scale)
}

// matrix is a weight tensor seen as channels along one axis.
type matrix struct {
	t        *onnx.Tensor
	channels int // 1: one scale for all
	inner    int // elements from one index of the axis to the next
}

// channelsOf returns w cut along axis; axis < 0 means one scale for all.
func channelsOf(t *onnx.Tensor, axis int) matrix {
	m := matrix{t: t, channels: 1, inner: 1}
	if axis < 0 {
		return m
	}
	m.channels = int(t.Shape[axis])
	for _, d := range t.Shape[axis+1:] {
		m.inner *= int(d)
	}
	return m
}

// channel returns the channel of element i.
func (m matrix) channel(i int) int { return i / m.inner % m.channels }

// runs calls f for stretches of the n elements from first on that lie side by
// side: at is where a stretch begins, counted from first, c is the channel there,
// and step is 0 where all of it is of that channel, 1 where each element is of the
// next one.
func (m matrix) runs(first, n int, f func(at, n, c, step int)) {
	if m.channels == 1 {
		f(0, n, 0, 0)
		return
	}
	for at := 0; at < n; {
		i := first + at
		if m.inner == 1 {
			c := i % m.channels
			k := min(m.channels-c, n-at)
			f(at, k, c, 1)
			at += k
			continue
		}
		k := min(m.inner-i%m.inner, n-at)
		f(at, k, i/m.inner%m.channels, 0)
		at += k
	}
}

// magnitudes returns the largest magnitude of each channel, and the extremes of
// all. It fails on weights that are not finite.
func (m matrix) magnitudes() (peak []float32, lo, hi float32, err error) {
	all := &extent{peak: make([]uint32, m.channels)}
	var lock sync.Mutex
	err = inWindows(m.t.Data, 0, int(m.t.Size()/4), func(src []byte, at int) {
		e := &extent{peak: make([]uint32, m.channels)}
		e.look(m, src, at)
		lock.Lock()
		defer lock.Unlock()
		all.merge(e)
	})
	if err != nil {
		return nil, 0, 0, err
	}
	peak, lo, hi, bad := all.numbers()
	if bad != 0 {
		return nil, 0, 0, fmt.Errorf("weight %q has an element %v", m.t.Name, bad)
	}
	return peak, lo, hi, nil
}

// merge adds what another part reaches.
func (e *extent) merge(f *extent) {
	e.lo, e.hi = max(e.lo, f.lo), max(e.hi, f.hi)
	for c, p := range f.peak {
		e.peak[c] = max(e.peak[c], p)
	}
}

// look enters the elements of src, of which the first is element first.
func (e *extent) look(m matrix, src []byte, first int) {
	m.runs(first, len(src)/4, func(at, n, c, step int) {
		if b := src[4*at : 4*(at+n)]; step == 0 {
			e.same(b, c)
		} else {
			e.each(b, c)
		}
	})
}

// numbers returns what was reached, and an element that is not finite, else 0.
func (e *extent) numbers() (peak []float32, lo, hi, bad float32) {
	peak = make([]float32, len(e.peak))
	for c, p := range e.peak {
		if peak[c] = math.Float32frombits(p); !finite32(peak[c]) {
			bad = peak[c]
		}
	}
	if e.lo > 1<<31 {
		lo = math.Float32frombits(e.lo)
	}
	return peak, lo, math.Float32frombits(uint32(e.hi)), bad
}
