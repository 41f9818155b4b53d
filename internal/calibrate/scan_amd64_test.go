package calibrate

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestAVX2 holds that statistics do not depend on the processor, to the last bit.
func TestAVX2(t *testing.T) {
	if !haveAVX2 {
		t.Skip("the processor has no AVX2")
	}
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		x := make([]float32, n*n/10)
		for i := range x {
			switch x[i] = float32(r.NormFloat64() * math.Exp(4*r.NormFloat64())); r.IntN(8) {
			case 0:
				x[i] = 0
			case 1:
				x[i] = float32(math.Copysign(0, -1))
			case 2:
				x[i] = math.Float32frombits(uint32(r.IntN(1 << 23)))
			}
		}
		if n%7 == 0 && n > 0 {
			x[r.IntN(max(len(x), 1))%max(len(x), 1)] = float32(math.Inf(n%2*2 - 1))
		}
		wide := &reach{}
		wide.add(-5, 5)
		for _, known := range []*reach{nil, wide} {
			with, without := entered(t, x, known), slowly(func() *Stats { return entered(t, x, known) })
			if !reflect.DeepEqual(with, without) {
				t.Fatalf("%d elements: %+v with AVX2, %+v without", len(x), with, without)
			}
		}
	}
}

func slowly(do func() *Stats) *Stats {
	haveAVX2 = false
	defer func() { haveAVX2 = true }()
	return do()
}

// entered is the statistics of some elements, as of a run after one with the range r.
func entered(t *testing.T, x []float32, r *reach) *Stats {
	t.Helper()
	var known *reach
	if r != nil {
		known = &reach{some: r.some, lo: r.lo, hi: r.hi}
	}
	var s Stats
	if err := s.whole(onnx.FromFloats("x", []int64{int64(len(x))}, x), Want{}, 0, known); err != nil {
		t.Fatal(err)
	}
	return &s
}

// TestScanNaN holds that one element that is not a number leaves a run out, wherever it is.
func TestScanNaN(t *testing.T) {
	for n := 1; n < 40; n++ {
		for at := range n {
			b := make([]byte, 4*n)
			binary.LittleEndian.PutUint32(b[4*at:], math.Float32bits(float32(math.NaN())))
			if _, _, sum, _ := scan(b, nil); !math.IsNaN(sum) {
				t.Fatalf("element %d of %d: the sum is %v", at, n, sum)
			}
		}
	}
}
