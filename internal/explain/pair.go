package explain

import (
	"math"
	"slices"
)

// Pair is the two maps of one sample and how alike they are.
type Pair struct {
	ID                  string
	Agree               bool   // both models predict the same class; always true where there are no classes
	Classes             [2]int // predicted by baseline and candidate; -1 where there are no classes
	Rows, Cols          int
	Baseline, Candidate []float64 // Rows × Cols attributions, row by row, in units of the target

	Spearman         float64
	Defined          bool // false where a map is constant: Spearman is then 1 for equal maps, else 0
	TopK             int  // features that count as most important
	TopKJaccard      float64
	Overlaps         [len(TopShares)]float64 // the same for [TopShares] of the features
	SignAgreement    float64
	Cosine           float64
	MassDisplacement float64
	ArgmaxDistance   float64  // between the most important cells, in cells; of columns of a table 1 where they differ
	SSIM             *float64 // nil for maps of one row or column
}

// TopShares are the shares of the features whose overlap is always told.
var TopShares = [...]float64{0.05, 0.1, 0.2}

// topOf is how many of n features a share of them is: at least one.
func topOf(share float64, n int) int { return max(1, int(math.Round(share*float64(n)))) }

// similarities fills in how alike the maps are.
func (p *Pair) similarities(top float64) {
	a, b := p.Baseline, p.Candidate
	p.TopK = topOf(top, len(a))
	p.Spearman, p.Defined = Spearman(a, b)
	if !p.Defined && slices.Equal(a, b) {
		p.Spearman = 1
	}
	p.TopKJaccard = TopJaccard(a, b, p.TopK)
	for i, share := range TopShares {
		p.Overlaps[i] = TopJaccard(a, b, topOf(share, len(a)))
	}
	p.SignAgreement = SignAgreement(a, b, p.TopK)
	p.Cosine = Cosine(a, b)
	p.MassDisplacement = MassDisplacement(a, b)
	p.ArgmaxDistance = ArgmaxDistance(a, b, p.Cols)
	if p.Rows > 1 && p.Cols > 1 {
		s := SSIM(a, b, p.Rows, p.Cols)
		p.SSIM = &s
	}
}
