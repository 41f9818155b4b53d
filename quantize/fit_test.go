package quantize

import (
	"math"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/linalg"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// testLayer is a layer of weights [k, n], heavy in the tails.
func testLayer(k, n, size int) *layer {
	w := make([]float32, k*n)
	for i := range w {
		x := pseudo(i)
		w[i] = float32(x * x * x)
	}
	return layerOf(w, k, n, size)
}

func layerOf(w []float32, k, n, size int) *layer {
	return &layer{"y", blocks{bits: 4, size: size, dtype: onnx.Float},
		operand{t: onnx.FromFloats("w", []int64{int64(k), int64(n)}, w), k: k, n: n, batch: 1}}
}

// testRows are rows of k numbers that depend on each other, some columns large.
func testRows(rows, k, seed int) []float64 {
	x := make([]float64, rows*k)
	for r := range rows {
		common := pseudo(seed + r*31)
		for i := range k {
			x[r*k+i] = (pseudo(seed+r*k+i+999) + common) * float64(1+i%5*i%3)
		}
	}
	return x
}

func momentsOf(x []float64, k int) gramMoments {
	m := calibrate.Moments{Rows: int64(len(x) / k), Sum: make([]float64, k*k), Abs: make([]float64, k)}
	for r := 0; r < len(x); r += k {
		for i := range k {
			m.Abs[i] += math.Abs(x[r+i])
			for j := i; j < k; j++ {
				m.Sum[i*k+j] += x[r+i] * x[r+j]
			}
		}
	}
	return newMoments(m, k)
}

func newTrial(t *testing.T, l *layer, fit, held gramMoments) *fitTrial {
	t.Helper()
	w, err := l.op.dense()
	if err != nil {
		t.Fatal(err)
	}
	tr := newTrialOf(&evidence{fit: fit, held: held}, l, w)
	b := &blockwise{f: l.f, op: l.op}
	if b.steps, err = b.fit(); err != nil {
		t.Fatal(err)
	}
	if err := tr.enter("rtn", b); err != nil {
		t.Fatal(err)
	}
	return tr
}

// TestPower compares the error by products of columns with that of the outputs.
func TestPower(t *testing.T) {
	const k, n, rows = 7, 3, 20
	x, d := testRows(rows, k, 1), make([]float64, k*n)
	for i := range d {
		d[i] = pseudo(i + 5)
	}
	want := 0.0
	for r := range rows {
		for c := range n {
			y := 0.0
			for i := range k {
				y += x[r*k+i] * d[i*n+c]
			}
			want += y * y / rows
		}
	}
	if got := momentsOf(x, k).power(d, n); math.Abs(got-want) > 1e-9*want {
		t.Errorf("power %v, want %v", got, want)
	}
}

// TestMethodsBeatNearest checks on rows that nothing was fitted to.
func TestMethodsBeatNearest(t *testing.T) {
	const k, n = 96, 24
	fit, held := momentsOf(testRows(2000, k, 1), k), momentsOf(testRows(500, k, 777777), k)
	for _, size := range []int{16, 32, 64} {
		l := testLayer(k, n, size)
		tr := newTrial(t, l, fit, held)
		gain, err := (&weightOnly{o: &Options{WeightOptions: WeightOptions{WeightMethod: "awq"}}}).gainFor(tr.d, &shared{k: k, layers: []*layer{l}})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{tr.gptq(), tr.awq(gain), tr.hqq(true)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("blocks of %d: %s", size, tr.verdict().why)
		for _, m := range []string{"gptq", "awq"} {
			if tr.errors[m] >= tr.errors["rtn"] {
				t.Errorf("blocks of %d: %s has an error of %v, rtn of %v", size, m, tr.errors[m], tr.errors["rtn"])
			}
		}
		if tr.best.method == "rtn" || tr.best.codes == nil && tr.best.steps == nil {
			t.Errorf("blocks of %d: %s was taken", size, tr.best.method)
		}
	}
}

// TestGuard fits to rows that say the opposite of those held out: the nearest
// codes must stay.
func TestGuard(t *testing.T) {
	const k, n = 32, 8
	x, y := testRows(400, k, 3), testRows(400, k, 9)
	for i := 1; i < len(x); i += 2 {
		x[i], y[i] = x[i-1], -y[i-1] // what makes up for an error in one doubles it in the other
	}
	tr := newTrial(t, testLayer(k, n, 16), momentsOf(x, k), momentsOf(y, k))
	if err := tr.gptq(); err != nil {
		t.Fatal(err)
	}
	if f := tr.verdict(); f.method != "rtn" || f.steps != nil || f.codes != nil {
		t.Errorf("%s was taken: %s", f.method, f.why)
	}
}

// TestGPTQOfIndependent is the case in which no row can make up for another:
// the codes are the nearest ones.
func TestGPTQOfIndependent(t *testing.T) {
	const k, n = 40, 5
	l := testLayer(k, n, 16)
	w, _ := l.op.dense()
	h := make([]float64, k*k)
	for i := range k {
		h[i*k+i] = float64(1 + i)
	}
	d := &evidence{fit: gramMoments{k: k, h: h, rows: 1000}}
	b := gptq(l, w, d.factor(false), gptqVariant{})
	want, err := layout{c: &blockwise{f: l.f, op: l.op}}.codes("c").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.codes, want) {
		t.Errorf("codes\n%x, want\n%x", b.codes, want)
	}
}

// TestGPTQOfTwo compares with the closed form for two rows: with the first
// rounded, the error is least where the second moves by h12/h22 of its error.
func TestGPTQOfTwo(t *testing.T) {
	const n = 9
	w := make([]float32, 2*n)
	for i := range w {
		w[i] = float32(pseudo(i + 40))
	}
	l := layerOf(w, 2, n, 16)
	dense, _ := l.op.dense()
	h := []float64{4, 3, 3, 5}
	d := &evidence{fit: gramMoments{k: 2, h: h, rows: 1000}}
	b := gptq(l, dense, d.factor(false), gptqVariant{})
	got, err := b.decoded(spread(l.op.n, l.op.n))
	if err != nil {
		t.Fatal(err)
	}
	damped := h[3] + linalg.Damping*(h[0]+h[3])/2
	for c := range n {
		s := b.steps.at(c)
		e := dense[c] - got[c]
		if math.Abs(e) > 1.001*math.Abs(float64(s.scale)) {
			t.Errorf("channel %d: the first row is off by %v, a step is %v", c, e, s.scale)
		}
		moved := dense[n+c] + e*h[1]/damped
		var code [1]byte
		l.f.code(code[:], []float32{float32(moved)}, s)
		if want := float64(s.value(code[0])); got[n+c] != want {
			t.Errorf("channel %d: the second row is %v, want %v", c, got[n+c], want)
		}
	}
}

// TestGPTQDead gives a column that is always zero, and rows of data too few to invert.
func TestGPTQDead(t *testing.T) {
	const k, n = 48, 6
	x := testRows(10, k, 3)
	for i := range x {
		if i%k == 7 {
			x[i] = 0
		}
	}
	m := momentsOf(x, k)
	tr := newTrial(t, testLayer(k, n, 16), m, m)
	for _, v := range []gptqVariant{{}, {shrink: true, ordered: true}} {
		f := tr.d.factor(v.ordered)
		if f.u == nil || !f.dead[7] {
			t.Fatal("not invertible with damping, or column 7 is not called dead")
		}
		b := gptq(tr.l, tr.w, f, v)
		got, err := b.decoded(spread(n, n))
		if err != nil {
			t.Fatal(err)
		}
		for c := range n {
			if got[7*n+c] != 0 {
				t.Errorf("%+v: channel %d of a dead column is %v", v, c, got[7*n+c])
			}
		}
	}
}

// TestHQQ checks that zero points are along the rows of weights, and that they
// improve the norm they are chosen for.
func TestHQQ(t *testing.T) {
	l := testLayer(80, 12, 16)
	norm := func(b *blockwise) (sum, power, noise float64) {
		got, err := b.decoded(spread(l.op.n, l.op.n))
		if err != nil {
			t.Fatal(err)
		}
		w, _ := l.op.dense()
		for i, x := range w {
			sum += math.Pow(math.Abs(x-got[i]), hqqNorm)
			noise, power = noise+(x-got[i])*(x-got[i]), power+x*x
		}
		return sum, power, noise
	}
	plain := &blockwise{f: l.f, op: l.op}
	plain.f.asymmetric = true
	plain.steps, _ = plain.fit()
	nearest, _, _ := norm(plain)
	b, err := hqq(l, true)
	if err != nil {
		t.Fatal(err)
	}
	sum, power, noise := norm(b)
	if sum >= nearest {
		t.Errorf("the norm is %v, %v of the nearest codes", sum, nearest)
	}
	if noise > 0.02*power {
		t.Errorf("the error has %v of the power of the weights", noise/power)
	}
}

// TestGain checks that a gain leaves the weights what they are, but for rounding.
func TestGain(t *testing.T) {
	l := testLayer(64, 9, 32)
	l.f.bits = 8
	b := &blockwise{f: l.f, op: l.op}
	b.op.gain = gainOf(momentsOf(testRows(50, 64, 2), 64).abs, slices.Repeat([]float64{0.3}, 64), 0.5)
	b.steps, _ = b.fit()
	got, err := b.decoded(spread(l.op.n, l.op.n))
	if err != nil {
		t.Fatal(err)
	}
	w, _ := l.op.dense()
	var noise, power float64
	for i, x := range w {
		noise, power = noise+(x-got[i])*(x-got[i]), power+x*x
	}
	if noise > 1e-3*power {
		t.Errorf("the error has %v of the power of the weights", noise/power)
	}
	lo, hi := slices.Min(b.op.gain), slices.Max(b.op.gain)
	if math.Abs(float64(lo*hi)-1) > 1e-4 || hi < 1.2 {
		t.Errorf("gains from %v to %v are not inverse to each other", lo, hi)
	}
}

// TestNoOutput gives a layer whose input is zero on the rows held out.
func TestNoOutput(t *testing.T) {
	const k, n = 32, 4
	tr := newTrial(t, testLayer(k, n, 16), momentsOf(testRows(100, k, 1), k), momentsOf(make([]float64, 10*k), k))
	if err := tr.gptq(); err != nil {
		t.Fatal(err)
	}
	f := tr.verdict()
	for m, e := range f.errors {
		if math.IsNaN(e) || math.IsInf(e, 0) {
			t.Errorf("the error of %s is %v", m, e)
		}
	}
	if f.method != "rtn" {
		t.Errorf("%s was taken: %s", f.method, f.why)
	}
}
