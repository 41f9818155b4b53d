package score

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// The values in this file were printed by testdata/oracle.py, with NumPy 2.4.6, SciPy 1.17.1 and pycocotools 2.0.11:
//
//	python internal/score/testdata/oracle.py

// numbers is the generator of oracle.py.
type numbers struct{ x uint64 }

func (r *numbers) next() float64 {
	r.x = (r.x*1103515245 + 12345) % (1 << 31)
	return float64(r.x) / (1 << 31)
}

func close64(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance {
		t.Errorf("%s: got %.12g, want %.12g", what, got, want)
	}
}

// cocoBoxes draws the boxes of oracle.py: 40 samples of three classes, a tenth of the objects crowds.
func cocoBoxes() (truth [][]Box, found [2][][]Box) {
	r := &numbers{7}
	truth = make([][]Box, 40)
	found = [2][][]Box{make([][]Box, 40), make([][]Box, 40)}
	place := func() (x, y, w, h float64) { return 80 * r.next(), 80 * r.next(), 5 + 20*r.next(), 5 + 20*r.next() }
	for i := range 40 {
		for range int(r.next() * 5) {
			x, y, w, h := place()
			class, crowd := int(r.next()*3), r.next() < 0.1
			truth[i] = append(truth[i], Box{X1: x, Y1: y, X2: x + w, Y2: y + h, Class: class, Ignore: crowd})
			for m := range 2 {
				if r.next() < 0.85 {
					s := float64(2 + m)
					a, b, c, d := s*(r.next()-0.5), s*(r.next()-0.5), s*(r.next()-0.5), s*(r.next()-0.5)
					found[m][i] = append(found[m][i], Box{X1: x + a, Y1: y + b, X2: x + a + w + c, Y2: y + b + h + d, Class: class, Score: r.next()})
				}
			}
		}
		for m := range 2 {
			for range int(r.next() * 3) {
				x, y, w, h := place()
				found[m][i] = append(found[m][i], Box{X1: x, Y1: y, X2: x + w, Y2: y + h, Class: int(r.next() * 3), Score: r.next()})
			}
		}
	}
	return truth, found
}

func TestDetectionAgainstCOCO(t *testing.T) {
	truth, found := cocoBoxes()
	d, err := NewDetection(Options{Resamples: 200})
	if err != nil {
		t.Fatal(err)
	}
	for i := range truth {
		s := Sample{ID: fmt.Sprint(i), Slices: []string{"all", "third=" + fmt.Sprint(i%3)}}
		if err := d.Add(s, truth[i], found[0][i], found[1][i]); err != nil {
			t.Fatal(err)
		}
	}
	r, err := d.Result()
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range []Paired{r.MAP, r.MAP50, r.MAP75, r.Recall} {
		want := [4][2]float64{
			{0.46170615346055266, 0.323838178500541}, {0.6753998360066419, 0.6012292722560529},
			{0.5709355043450371, 0.3124663656841875}, {0.6319135802469137, 0.514567901234568},
		}[i]
		close64(t, p.Metric+" of the baseline", p.Baseline, want[0], 1e-12)
		close64(t, p.Metric+" of the candidate", p.Candidate, want[1], 1e-12)
		if !(p.Low < p.Delta && p.Delta < p.High && p.RatioLow < p.Ratio && p.Ratio < p.RatioHigh) {
			t.Errorf("%s: intervals do not hold their estimates: %+v", p.Metric, p)
		}
	}
	for c, want := range [3][2]float64{
		{0.4001024947215218, 0.281977032868122}, {0.5312757996133055, 0.352304176219627}, {0.4537401660468305, 0.3372333264138739},
	} {
		close64(t, "class "+r.PerClass[c].Name, r.PerClass[c].Baseline, want[0], 1e-12)
		close64(t, "class "+r.PerClass[c].Name, r.PerClass[c].Candidate, want[1], 1e-12)
	}
	if len(r.Slices) != 4 || r.Slices[0].Name != "all" || r.Slices[0].N != 40 || r.Slices[1].N != 14 {
		t.Fatalf("slices: %+v", r.Slices)
	}
	close64(t, "the slice of all samples", r.Slices[0].Baseline, r.MAP.Baseline, 1e-12)
	close64(t, "its lower end", r.Slices[0].OwnLow, r.MAP.Low, 1e-12)
	if f := r.Flips; f.RightToWrong+f.WrongToRight == 0 || f.RightToWrong < f.WrongToRight {
		t.Errorf("flips of objects: %+v", f)
	}
}

func TestRatioOfProportions(t *testing.T) {
	for _, tt := range []struct {
		both, gains, losses, n int
		low, high              float64
	}{
		{1, 1, 7, 21, 0.06527922603225345, 0.9068805609210726}, // also in Fagerland and others, Statistics in Medicine 33 (2014): 0.065 to 0.907
		{43, 3, 5, 60, 0.8289390869014195, 1.0952660927276145},
		{900, 12, 20, 1000, 0.9782770684679691, 1.0035820815073924},
		{180, 0, 6, 200, 0.9314206475833736, 0.9883949283984037},
	} {
		low, high := RatioOfProportions(tt.both, tt.gains, tt.losses, tt.n, 0.95)
		close64(t, fmt.Sprint(tt, " low"), low, tt.low, 2e-5)
		close64(t, fmt.Sprint(tt, " high"), high, tt.high, 2e-5)
	}
	// Closed form where none differs: b/(b+z²) and its inverse.
	low, high := RatioOfProportions(300, 0, 0, 400, 0.95)
	z := normalQuantile(0.975)
	close64(t, "low without a difference", low, 300/(300+z*z), 1e-9)
	close64(t, "high without a difference", high, (300+z*z)/300, 1e-9)
	for _, tt := range []struct{ both, gains, losses, n int }{{0, 0, 0, 10}, {0, 0, 0, 0}} {
		if low, high := RatioOfProportions(tt.both, tt.gains, tt.losses, tt.n, 0.95); low != 0 || !math.IsInf(high, 1) {
			t.Errorf("%v: [%v, %v], want that nothing is known", tt, low, high)
		}
	}
	if low, high := RatioOfProportions(0, 5, 0, 10, 0.95); !(low > 1) || !math.IsInf(high, 1) {
		t.Errorf("a baseline that is never right: [%v, %v]", low, high)
	}
	if low, high := RatioOfProportions(0, 0, 5, 10, 0.95); low != 0 || !(high < 1) {
		t.Errorf("a candidate that is never right: [%v, %v]", low, high)
	}
}

func TestMeanAgainstSciPy(t *testing.T) {
	r := &numbers{3}
	a, b := make([]float64, 50), make([]float64, 50)
	for i := range a {
		a[i] = r.next()
	}
	m, err := NewMean(Options{}, "score", false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] = a[i] + 0.1*r.next() - 0.03
		m.Add(Sample{ID: fmt.Sprint(i)}, a[i], b[i])
	}
	p := m.Result().Mean
	close64(t, "p value", *p.PValue, 3.5935353777647653e-05, 1e-12)
	close64(t, "low", p.Low, 0.010442740615532308, 1e-12)
	close64(t, "high", p.High, 0.026988040340989287, 1e-12)
	close64(t, "McNemar", McNemar(5, 17), 0.01690053939819336, 1e-12)
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} {
		close64(t, "Holm", Holm([]float64{0.01, 0.04, 0.03, 0.005})[i], want, 1e-15)
	}
}

func TestSegmentationAgainstNumPy(t *testing.T) {
	r := &numbers{11}
	g, err := NewSegmentation(Options{Resamples: 200})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		truth, picked := make([]int, 30), [2][]int{make([]int, 30), make([]int, 30)}
		for k := range truth {
			truth[k] = int(r.next() * 4)
			if r.next() < 0.05 {
				truth[k] = 255
			}
			for m := range picked {
				if truth[k] != 255 && r.next() < 0.8-0.1*float64(m) {
					picked[m][k] = truth[k]
				} else {
					picked[m][k] = int(r.next() * 4)
				}
			}
		}
		if err := g.Add(Sample{ID: fmt.Sprint(i), Slices: []string{"all"}}, truth, picked[0], picked[1]); err != nil {
			t.Fatal(err)
		}
	}
	out, err := g.Result()
	if err != nil {
		t.Fatal(err)
	}
	close64(t, "miou of the baseline", out.MIoU.Baseline, 0.7672477299029644, 1e-12)
	close64(t, "miou of the candidate", out.MIoU.Candidate, 0.6339691965298685, 1e-12)
	close64(t, "pixels of the baseline", out.Pixel.Baseline, 0.8683274021352313, 1e-12)
	close64(t, "pixels of the candidate", out.Pixel.Candidate, 0.7758007117437722, 1e-12)
	for c, want := range []float64{0.76595745, 0.81666667, 0.72803347, 0.75833333} {
		close64(t, "class", out.PerClass[c].Baseline, want, 1e-8)
	}
	close64(t, "the slice of all samples", out.Slices[0].Delta, out.MIoU.Delta, 1e-12)
	if out.MIoU.High >= 0 || out.MIoU.Low >= out.MIoU.Delta {
		t.Errorf("a clear loss: %+v", out.MIoU)
	}
}

func TestRetrievalAgainstNumPy(t *testing.T) {
	r := &numbers{19}
	var centre [12][8]float64
	for i := range centre {
		for k := range centre[i] {
			centre[i][k] = r.next() - 0.5
		}
	}
	var v [2][60][]float64
	for m := range v {
		for i := range v[m] {
			v[m][i] = make([]float64, 8)
			for k := range v[m][i] {
				v[m][i][k] = centre[i%12][k] + (0.6+0.3*float64(m))*(r.next()-0.5)
			}
		}
	}
	g, err := NewRetrieval(Options{}, true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		if err := g.Add(Sample{ID: fmt.Sprint(i), Label: i % 12}, v[0][i], v[1][i]); err != nil {
			t.Fatal(err)
		}
	}
	out, err := g.Result()
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range [][2]float64{{0.65, 0.65}, {0.9833333333333333, 0.9166666666666666}} {
		close64(t, out.Recall[k].Metric, out.Recall[k].Baseline, want[0], 1e-12)
		close64(t, out.Recall[k].Metric, out.Recall[k].Candidate, want[1], 1e-12)
	}
}

// coverage is the share of intervals that hold the truth; draw makes one.
func coverage(t *testing.T, what string, runs int, draw func(rng *rand.Rand) (low, high, truth float64)) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	held := 0
	for range runs {
		low, high, truth := draw(rng)
		if low <= truth && truth <= high {
			held++
		}
	}
	share := float64(held) / float64(runs)
	t.Logf("%s: %.1f %% of %d intervals hold the truth", what, 100*share, runs)
	if share < 0.93 || share > 0.975 {
		t.Errorf("%s: %.1f %% of the 95 %% intervals hold the truth", what, 100*share)
	}
}

func TestCoverage(t *testing.T) {
	coverage(t, "difference of paired proportions", 2000, func(rng *rand.Rand) (float64, float64, float64) {
		o := drawOutcomes(rng)
		p := o.paired("", 0.95)
		return p.Low, p.High, 0.02 - 0.05
	})
	coverage(t, "ratio of paired proportions", 2000, func(rng *rand.Rand) (float64, float64, float64) {
		o := drawOutcomes(rng)
		p := o.paired("", 0.95)
		return p.RatioLow, p.RatioHigh, 0.82 / 0.85
	})
	coverage(t, "difference of means", 2000, func(rng *rand.Rand) (float64, float64, float64) {
		var r ratio
		for range 40 {
			b := rng.ExpFloat64()
			r.item(b, b+0.3*rng.ExpFloat64())
			r.close()
		}
		p := r.paired("", 0.95)
		return p.Low, p.High, 0.3
	})
	coverage(t, "bootstrap of a difference of means", 500, func(rng *rand.Rand) (float64, float64, float64) {
		const n, resamples = 60, 400
		sums, mass := newDraws(resamples), make([]float64, resamples)
		var w [resamples]uint8
		var b, c float64
		for i := range n {
			x := rng.NormFloat64()
			y := x + 0.2 + 0.5*rng.NormFloat64()
			b, c = b+x/n, c+y/n
			for rep, k := range sampleWeights(w[:], rng.Uint64(), i) {
				sums.baseline[rep] += float64(k) * x
				sums.candidate[rep] += float64(k) * y
				mass[rep] += float64(k)
			}
		}
		for rep, m := range mass {
			sums.baseline[rep] /= m
			sums.candidate[rep] /= m
		}
		p := sums.paired("", 0.95, b, c, n, n)
		return p.Low, p.High, 0.2
	})
}

// drawOutcomes draws 300 pairs: both right with probability 0.8, only the second 0.02, only the first 0.05.
func drawOutcomes(rng *rand.Rand) *outcomes {
	o := new(outcomes)
	for range 300 {
		u := rng.Float64()
		o.add(u < 0.8 || u >= 0.82 && u < 0.87, u < 0.82)
	}
	return o
}

// TestDetectionCoverage holds the bootstrap of mean average precision against the value of a very large sample.
func TestDetectionCoverage(t *testing.T) {
	add := func(d *Detection, rng *rand.Rand, i int) {
		var truth []Box
		var found [2][]Box
		for range 1 + rng.IntN(3) {
			x, y := 100*rng.Float64(), 100*rng.Float64()
			truth = append(truth, Box{X1: x, Y1: y, X2: x + 20, Y2: y + 20})
			shift, score := 3*rng.NormFloat64(), rng.Float64()
			for m := range found {
				if rng.Float64() < 0.9-0.1*float64(m) {
					dx := shift + float64(m)*rng.NormFloat64()
					found[m] = append(found[m], Box{X1: x + dx, Y1: y, X2: x + 20 + dx, Y2: y + 20, Score: score})
				}
			}
		}
		if rng.Float64() < 0.4 {
			b := Box{X1: 200, Y1: 0, X2: 210, Y2: 10, Score: 0.8 * rng.Float64()}
			found[0], found[1] = append(found[0], b), append(found[1], b)
		}
		if err := d.Add(Sample{ID: fmt.Sprint(i)}, truth, found[0], found[1]); err != nil {
			t.Fatal(err)
		}
	}
	score := func(rng *rand.Rand, n, resamples int) Paired {
		d, err := NewDetection(Options{Resamples: resamples, Seed: rng.Uint64()})
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			add(d, rng, i)
		}
		r, err := d.Result()
		if err != nil {
			t.Fatal(err)
		}
		return r.MAP
	}
	truth := score(rand.New(rand.NewPCG(5, 6)), 20000, 100).Delta
	coverage(t, fmt.Sprintf("bootstrap of mean average precision (difference %.4f)", truth), 200, func(rng *rand.Rand) (float64, float64, float64) {
		p := score(rng, 100, 200)
		return p.Low, p.High, truth
	})
}
