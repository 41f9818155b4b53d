package score

import (
	"fmt"
	"math"
	"sort"
	"strconv"
)

// Retrieval scores embeddings: how close both models' vectors of a sample are, and, with labels as identities, whether what lies
// nearest is of the same identity. Each model is searched with its own vectors. The first Options.Gallery samples are what is
// searched; every sample looks for its like there, itself left out. State: 8 bytes per number of the gallery, and the slices.
type Retrieval struct {
	o         Options
	n, dim    int
	labelled  bool
	gallery   [2][][]float32 // unit vectors, nil where one is not finite or zero: baseline, candidate
	members   []Sample
	alone     int // samples without their like in the gallery
	topK      map[int]*outcomes
	slices    map[string]*outcomes
	flips     Flips
	agree     int
	cosine    moments
	least     float64
	near      []int // histogram of cosines
	nonFinite NonFinite
}

// RetrievalResult is the comparison of two models' embeddings.
type RetrievalResult struct {
	N, Dimensions                     int
	CosineMean, CosineLow, CosineHigh float64  // over samples, with its t interval
	CosineP5, CosineMin               float64  // 5th percentile within 0.001
	Recall                            []Paired // "recall@1", "recall@5" …; nil without labels
	Agreement                         Share    // samples whose nearest neighbour has the same identity by both models
	Queries, Gallery                  int
	Flips                             Flips
	Slices                            []Slice // of recall@1
	Required                          int
	MDE                               float64
	NonFinite                         NonFinite
	Warnings                          []string
}

const cosineBins = 2001 // of 0.001 each, -1 to 1

// NewRetrieval returns an empty scorer; labelled says that labels of samples are identities.
func NewRetrieval(o Options, labelled bool) (*Retrieval, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	return &Retrieval{
		o: o, labelled: labelled, topK: map[int]*outcomes{}, slices: map[string]*outcomes{}, least: math.Inf(1), near: make([]int, cosineBins),
	}, nil
}

// Add takes both models' embedding of one sample; they may differ in length from model to model only where no cosine between them
// is wanted, which is never, so that it errs.
func (v *Retrieval) Add(s Sample, baseline, candidate []float64) error {
	if len(baseline) == 0 || len(baseline) != len(candidate) || v.dim != 0 && len(baseline) != v.dim {
		return fmt.Errorf("sample %q: embeddings of %d numbers by the baseline and %d by the candidate, want equal lengths, the same for every sample",
			s.ID, len(baseline), len(candidate))
	}
	v.dim = len(baseline)
	v.n++
	unit := [2][]float32{unitVector(baseline), unitVector(candidate)}
	v.nonFinite.add(s.ID, unit[0] == nil, unit[1] == nil)
	if unit[0] != nil && unit[1] != nil {
		c := dot(unit[0], unit[1])
		v.cosine.add(c, 1)
		v.least = min(v.least, c)
		v.near[min(cosineBins-1, max(0, int((c+1)*1000)))]++
	}
	if !v.labelled {
		return nil
	}
	if len(v.members) < v.o.Gallery {
		v.members = append(v.members, s)
		for m := range unit {
			v.gallery[m] = append(v.gallery[m], unit[m])
		}
		return nil
	}
	v.query(s, unit, -1)
	return nil
}

// unitVector returns the vector of length 1, nil where there is none.
func unitVector(row []float64) []float32 {
	sum := 0.0
	for _, x := range row {
		sum += x * x
	}
	if !(sum > 0) || math.IsInf(sum, 1) {
		return nil
	}
	out, length := make([]float32, len(row)), math.Sqrt(sum)
	for i, x := range row {
		out[i] = float32(x / length)
	}
	return out
}

func dot(a, b []float32) float64 {
	sum := float32(0)
	for i, x := range a {
		sum += x * b[i]
	}
	return max(-1, min(1, float64(sum)))
}

// query looks for the like of a sample in the gallery, of which self is the sample's own place (-1: none).
func (v *Retrieval) query(s Sample, unit [2][]float32, self int) {
	there := false
	for i, m := range v.members {
		if i != self && m.Label == s.Label {
			there = true
			break
		}
	}
	if !there {
		v.alone++
		return
	}
	rank, nearest := [2]int{len(v.members), len(v.members)}, [2]int{-1, -1}
	for m := range unit {
		if unit[m] != nil {
			rank[m], nearest[m] = v.look(m, s.Label, unit[m], self)
		}
	}
	for _, k := range append([]int{1}, v.o.TopK...) {
		if v.topK[k] == nil {
			v.topK[k] = new(outcomes)
		}
	}
	for k, o := range v.topK {
		o.add(rank[0] < k, rank[1] < k)
	}
	right := [2]bool{rank[0] == 0, rank[1] == 0}
	if nearest[0] == nearest[1] && nearest[0] >= 0 {
		v.agree++
	}
	v.flips.add(Flip{ID: s.ID, Label: s.Label, Baseline: nearest[0], Candidate: nearest[1]}, right[0], right[1], v.o.MaxFlips)
	intoSlices(v.slices, s.Slices, func(g *outcomes) { g.add(right[0], right[1]) })
}

// look returns the place, from 0, of the nearest member with the label, and the label of the nearest of all. Members that are
// equally near come in the order of the gallery.
func (v *Retrieval) look(model, label int, unit []float32, self int) (rank, nearest int) {
	similarity := make([]float64, len(v.members))
	like, first := -1, -1
	for i, g := range v.gallery[model] {
		if i == self || g == nil {
			similarity[i] = math.Inf(-1)
			continue
		}
		similarity[i] = dot(unit, g)
		if first < 0 || similarity[i] > similarity[first] {
			first = i
		}
		if v.members[i].Label == label && (like < 0 || similarity[i] > similarity[like]) {
			like = i
		}
	}
	if first >= 0 {
		nearest = v.members[first].Label
	} else {
		nearest = -1
	}
	if like < 0 {
		return len(v.members), nearest
	}
	for i, x := range similarity {
		if i != self && (x > similarity[like] || x == similarity[like] && i < like) {
			rank++
		}
	}
	return rank, nearest
}

// Result returns the comparison so far; it errs when there are no samples, or no two of the same identity. It looks up the gallery
// itself, so that it may be called once.
func (v *Retrieval) Result() (*RetrievalResult, error) {
	if v.n == 0 {
		return nil, fmt.Errorf("there are no samples to compare")
	}
	for i, s := range v.members {
		v.query(s, [2][]float32{v.gallery[0][i], v.gallery[1][i]}, i)
	}
	r := &RetrievalResult{N: v.n, Dimensions: v.dim, NonFinite: v.nonFinite, Gallery: len(v.members), Flips: v.flips}
	v.cosines(r)
	r.Warnings = v.nonFinite.warnings()
	if !v.labelled {
		return r, nil
	}
	top := v.topK[1]
	if top == nil {
		return nil, fmt.Errorf("no two of %d samples have the same identity in the gallery of %d", v.n, len(v.members))
	}
	r.Queries = top.n()
	for _, k := range v.o.TopK {
		if k == 1 || k < len(v.members)-1 {
			r.Recall = append(r.Recall, v.topK[k].paired("recall@"+strconv.Itoa(k), v.o.Confidence))
		}
	}
	r.Agreement = shareOf(v.agree, r.Queries, v.o.Confidence)
	r.Slices = slicesOf(v.slices, v.o)
	psi := discordance(top.gains, top.losses, r.Queries)
	r.Required, r.MDE = Required(psi, v.o.Margin), Detectable(psi, r.Queries)
	if v.alone > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%d of %d samples have no other of their identity in the gallery of %d: they are not looked for", v.alone, v.n, len(v.members)))
	}
	return r, nil
}

func (v *Retrieval) cosines(r *RetrievalResult) {
	n := v.cosine.n
	if n == 0 {
		r.CosineMean, r.CosineLow, r.CosineHigh, r.CosineP5, r.CosineMin = math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN()
		return
	}
	r.CosineMean, r.CosineMin = v.cosine.at(0)/float64(n), v.least
	half := v.cosine.half(v.o.Confidence, 1/float64(n), 0)
	r.CosineLow, r.CosineHigh = max(-1, r.CosineMean-half), min(1, r.CosineMean+half)
	need := int(math.Ceil(0.05 * float64(n)))
	cumulative := make([]int, cosineBins)
	sum := 0
	for i, c := range v.near {
		sum += c
		cumulative[i] = sum
	}
	at := sort.SearchInts(cumulative, need)
	r.CosineP5 = max(v.least, float64(at)/1000-1)
}
