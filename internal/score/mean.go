package score

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// ratio accumulates the mean over items of a measure of both models, items coming in clusters. Its state does not grow.
type ratio struct {
	share bool // the measure is between 0 and 1
	open  struct{ baseline, delta, items float64 }
	m     moments // baseline, delta, items
	moved int     // clusters in which the two models differ
}

func (r *ratio) item(baseline, candidate float64) {
	r.open.baseline += baseline
	r.open.delta += candidate - baseline
	r.open.items++
	if candidate != baseline && r.moved >= 0 {
		r.moved = -r.moved - 1 // marks the open cluster
	}
}

// close ends the cluster; one without items does not count.
func (r *ratio) close() {
	if r.open.items > 0 {
		r.m.add(r.open.baseline, r.open.delta, r.open.items)
	}
	if r.moved < 0 {
		r.moved = -r.moved
	}
	r.open.baseline, r.open.delta, r.open.items = 0, 0, 0
}

func (r *ratio) paired(metric string, confidence float64) Paired {
	items := r.m.at(2)
	p := Paired{
		Metric: metric, LowerIsBetter: !r.share, Confidence: confidence, N: int(items), Clusters: r.m.n,
		Method: "paired-t", Low: math.Inf(-1), High: math.Inf(1), Ratio: math.NaN(), RatioLow: math.NaN(), RatioHigh: math.NaN(),
		SE: math.Inf(1),
	}
	if items == 0 {
		return p
	}
	if p.N != p.Clusters {
		p.Method = "cluster-t"
	}
	baseline, delta := r.m.at(0), r.m.at(1)
	p.Baseline, p.Delta = baseline/items, delta/items
	p.Candidate = p.Baseline + p.Delta
	half := r.m.half(confidence, 0, 1/items, -p.Delta/items)
	floor := 0.0
	if r.share && r.moved < fewMoved {
		floor = unseen(r.m.n, confidence)
	}
	p.spread(max(half, floor), p.Clusters)
	if floor > 0 {
		p.rarely(r.moved, p.Clusters)
	}
	if r.share {
		p.Low, p.High = max(-1, p.Low), min(1, p.High)
	}
	if c := baseline + delta; baseline > 0 && c > 0 {
		p.Ratio = c / baseline
		// With C = B + D, log(C/B) has the slopes 1/C in D and -D/(B·C) in B.
		h := math.Exp(r.m.half(confidence, -delta/baseline/c, 1/c, 0))
		p.RatioLow, p.RatioHigh = p.Ratio/h, p.Ratio*h
		if floor > 0 {
			p.RatioLow, p.RatioHigh = min(p.RatioLow, max(0, 1-floor/p.Baseline)), max(p.RatioHigh, 1+floor/p.Baseline)
		}
	}
	return p
}

// exponentialHalf returns the half-width of the interval of exp(candidate) - exp(baseline), by the delta method.
func (r *ratio) exponentialHalf(confidence float64) float64 {
	items := r.m.at(2)
	if items == 0 {
		return math.Inf(1)
	}
	b, c := r.m.at(0)/items, (r.m.at(0)+r.m.at(1))/items
	eb, ec := math.Exp(b), math.Exp(c)
	// d/dB = (ec - eb)/items, d/dD = ec/items, d/d items = -(c·ec - b·eb)/items
	return r.m.half(confidence, (ec-eb)/items, ec/items, -(c*ec-b*eb)/items)
}

// fewMoved is the number of differing units below which resampling and standard errors cannot tell how many differ in the
// population, so that intervals of shares are kept at least as wide as if none did.
const fewMoved = 5

// unseen is half the width of Tango's interval for n pairs of which none differs: z²/(n+z²).
func unseen(n int, confidence float64) float64 {
	z := normalQuantile((1 + confidence) / 2)
	return z * z / (float64(n) + z*z)
}

// spread sets interval, standard error and p-value from the half-width of the t interval over n units.
func (p *Paired) spread(half float64, n int) {
	p.Low, p.High = p.Delta-half, p.Delta+half
	p.SE = math.Inf(1)
	value := 1.0
	if n >= 2 {
		p.SE = half / studentQuantile((1+p.Confidence)/2, float64(n-1))
		value = studentP(p.Delta, p.SE, float64(n-1))
	}
	p.PValue = &value
}

// rarely sets standard error and p-value where so few of n units differ that those of the sample understate them: as for a proportion
// of which half a unit more was seen (Jeffreys' prior).
func (p *Paired) rarely(moved, n int) {
	if n < 2 {
		return
	}
	p.Rare = true
	p.SE = math.Sqrt((float64(moved) + 0.5) / (float64(n) + 1) / float64(n))
	value := studentP(p.Delta, p.SE, float64(n-1))
	p.PValue = &value
}

// studentP is the two-sided p-value of an estimate with its standard error.
func studentP(estimate, se, df float64) float64 {
	switch {
	case estimate == 0 || math.IsInf(se, 1):
		return 1
	case se == 0:
		return 0
	}
	t := estimate / se
	return mathext.RegIncBeta(df/2, 0.5, df/(df+t*t))
}

// RequiredFor returns how many units show, with 80 % power at one-sided 5 %, that the loss is below margin, if in truth there is
// none and each unit spreads as much as those seen.
func (p Paired) RequiredFor(margin float64) int {
	if !(margin > 0) || math.IsInf(p.SE, 0) || math.IsNaN(p.SE) {
		return 0
	}
	n := math.Pow(planFactor()*p.SE/margin, 2) * float64(p.Clusters)
	if p.Rare {
		return requiredAtLeast(n, margin)
	}
	return int(min(math.Ceil(n), math.MaxInt32))
}

// Detectable returns the smallest loss that the units seen can rule out with 80 % power at one-sided 5 %.
func (p Paired) Detectable() float64 {
	if p.Rare {
		return max(planFactor()*p.SE, unseen(p.Clusters, 0.95))
	}
	return planFactor() * p.SE
}

// Mean scores by a number per sample that someone else computed. State: O(slices).
type Mean struct {
	o         Options
	name      string
	lower     bool
	n         int
	all       ratio
	slices    map[string]*ratio
	nonFinite NonFinite
}

// MeanResult is the comparison of two models by a number per sample.
type MeanResult struct {
	N         int
	Mean      Paired
	Slices    []Slice
	NonFinite NonFinite
	Warnings  []string
}

// NewMean returns an empty scorer for the number of that name.
func NewMean(o Options, name string, lowerIsBetter bool) (*Mean, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	return &Mean{o: o, name: name, lower: lowerIsBetter, slices: map[string]*ratio{}}, nil
}

// Add takes both models' number for a sample. One that is not finite counts as such and is left out for both.
func (m *Mean) Add(s Sample, baseline, candidate float64) {
	m.n++
	bad := [2]bool{math.IsNaN(baseline) || math.IsInf(baseline, 0), math.IsNaN(candidate) || math.IsInf(candidate, 0)}
	m.nonFinite.add(s.ID, bad[0], bad[1])
	if bad[0] || bad[1] {
		return
	}
	m.all.item(baseline, candidate)
	m.all.close()
	intoSlices(m.slices, s.Slices, func(r *ratio) {
		r.item(baseline, candidate)
		r.close()
	})
}

// Result returns the comparison so far.
func (m *Mean) Result() *MeanResult {
	r := &MeanResult{N: m.n, Mean: m.all.paired(m.name, m.o.Confidence), Slices: slicesOf(m.slices, m.o), NonFinite: m.nonFinite}
	r.Mean.LowerIsBetter = m.lower
	r.Warnings = m.nonFinite.warnings()
	if m.all.m.n < 30 {
		r.Warnings = append(r.Warnings, few(m.all.m.n, m.name))
	}
	return r
}
