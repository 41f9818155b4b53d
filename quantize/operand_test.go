package quantize

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// BenchmarkTranspose reads a row of blocks of matrices of usual widths.
func BenchmarkTranspose(b *testing.B) {
	const rows = 128
	for _, cols := range []int{1024, 4096, 11008} {
		b.Run(strconv.Itoa(cols), func(b *testing.B) {
			raw, dst := make([]byte, 4*rows*cols), make([]float32, rows*cols)
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				transposeBytes(dst, raw, rows, cols)
			}
		})
	}
}

// TestVectorsOfBlocks holds that the ends and the codes of a block do not depend on the processor.
func TestVectorsOfBlocks(t *testing.T) {
	if !vectors {
		t.Skip("the processor has no AVX2")
	}
	r := rand.New(rand.NewPCG(3, 4))
	odd := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.Float32frombits(0xffc00000), 0, float32(math.Copysign(0, -1)), 1e-45, -3e38}
	for n := range 5000 {
		f := blocks{bits: 2 + n%7, asymmetric: n%2 == 0}
		w := make([]float32, r.IntN(70))
		s := step{float32(math.Ldexp(r.Float64(), r.IntN(40)-20)), f.mid()}
		for i := range w {
			switch w[i] = s.scale * float32(r.IntN(300)-150) / 2; r.IntN(6) { // halves are near
			case 0:
				w[i] = math.Nextafter32(w[i], 0)
			case 1:
				w[i] = s.scale * float32(r.NormFloat64()*20)
			case 2:
				if n%3 == 0 {
					w[i] = odd[r.IntN(len(odd))]
				}
			}
		}
		slow := func(do func()) {
			vectors = false
			defer func() { vectors = true }()
			do()
		}
		lo, hi := ends(w)
		got := make([]byte, len(w))
		f.code(got, w, s)
		slow(func() {
			l, h := ends(w)
			if math.Float32bits(l) != math.Float32bits(lo) || math.Float32bits(h) != math.Float32bits(hi) {
				t.Fatalf("%v: ends %v %v with AVX2, %v %v without", w, lo, hi, l, h)
			}
			want := make([]byte, len(w))
			if f.code(want, w, s); !bytes.Equal(got, want) {
				t.Fatalf("%v by %+v: codes %v with AVX2, %v without", w, s, got, want)
			}
		})
		if a, b := extremes(w); a == a && b == b && !slices.ContainsFunc(w, func(x float32) bool { return x != x }) && (lo != min(a, 0) || hi != max(b, 0)) {
			t.Fatalf("%v: ends %v %v, extremes %v %v", w, lo, hi, a, b)
		}
	}
}

func TestTranspose(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {3, 40}, {17, 5}, {8, 16}, {33, 31}, {0, 4}} {
		rows, cols := size[0], size[1]
		src, raw := make([]float32, rows*cols), make([]byte, 4*rows*cols)
		for i := range src {
			src[i] = float32(i)
			binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(src[i]))
		}
		a, b := make([]float32, len(src)), make([]float32, len(src))
		transpose(a, src, rows, cols)
		transposeBytes(b, raw, rows, cols)
		for r := range rows {
			for c := range cols {
				if a[c*rows+r] != src[r*cols+c] || b[c*rows+r] != src[r*cols+c] {
					t.Fatalf("%v: element %d, %d is %v and %v, want %v", size, r, c, a[c*rows+r], b[c*rows+r], src[r*cols+c])
				}
			}
		}
	}
}
