package score

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// Slice is the paired comparison within a group of samples.
type Slice struct {
	Name                string
	N                   int // samples, or sequences of tokens
	Baseline, Candidate float64
	Delta               float64
	OwnLow, OwnHigh     float64 // interval of Delta for this slice alone
	Low, High           float64 // interval at the level that makes all tested slices hold at once (Bonferroni)
	PValue              float64 // exact McNemar for proportions, else by Student's t
	Adjusted            float64 // PValue after Holm's correction over the tested slices
	Tested              bool    // false below Options.MinSlice samples: no interval correction, Adjusted is 1
}

// group is what is known of the samples of one slice.
type group interface {
	paired(metric string, confidence float64) Paired
}

// slicesOf turns groups into slices in name order, corrected for the number of those that are tested.
func slicesOf[G group](groups map[string]G, o Options) []Slice {
	out := make([]Slice, 0, len(groups))
	for name, g := range groups {
		p := g.paired("", o.Confidence)
		s := Slice{
			Name: name, N: p.Clusters, Baseline: p.Baseline, Candidate: p.Candidate, Delta: p.Delta,
			OwnLow: p.Low, OwnHigh: p.High, Low: p.Low, High: p.High, PValue: 1, Adjusted: 1, Tested: p.Clusters >= o.MinSlice,
		}
		if p.PValue != nil {
			s.PValue = *p.PValue
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Slice) int { return cmp.Compare(a.Name, b.Name) })
	var tested []int
	var p []float64
	for i := range out {
		if out[i].Tested {
			tested = append(tested, i)
			p = append(p, out[i].PValue)
		}
	}
	for i, adjusted := range Holm(p) {
		s := &out[tested[i]]
		all := groups[s.Name].paired("", 1-(1-o.Confidence)/float64(len(p)))
		s.Adjusted, s.Low, s.High = adjusted, all.Low, all.High
	}
	return out
}

// worst returns the tested slice that lost most, of equals the one with more samples, then the first.
func worst(all []Slice, lowerIsBetter bool) *Slice {
	sign := 1.0
	if lowerIsBetter {
		sign = -1
	}
	var w *Slice
	for i := range all {
		s := &all[i]
		if s.Tested && (w == nil || sign*s.Delta < sign*w.Delta || s.Delta == w.Delta && s.N > w.N) {
			w = s
		}
	}
	return w
}

// byClass sorts slices that are named after class indices by these.
func byClass(all []Slice) {
	slices.SortFunc(all, func(a, b Slice) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
}

// intoSlices calls add with the group of each of a sample's slices, once for each name.
func intoSlices[G any](groups map[string]*G, names []string, add func(g *G)) {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		g := groups[name]
		if g == nil {
			g = new(G)
			groups[name] = g
		}
		add(g)
	}
}

func few(n int, metric string) string {
	return fmt.Sprintf("%s samples are few for the interval of %s, want at least 30", strconv.Itoa(n), metric)
}
