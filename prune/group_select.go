package prune

import (
	"math"
	"slices"
	"sort"
)

// choice says how units are chosen.
type choice struct {
	share   float64 // of the units of the chosen groups that go
	scope   Scope
	roundTo int     // what stays is a multiple of it, where a group is larger
	floor   float64 // least share of a group that stays
}

// candidateGroup is a group with a score per unit; low scores go first.
type candidateGroup struct {
	*group
	scores []float64
}

// choose returns the classes to remove: the units of least score, over all groups or within each.
// What stays of a group is rounded, and where blocks must keep as many units each,
// they do.
func (d *dims) choose(groups []*candidateGroup, c choice) map[int32]bool {
	counts := c.counts(groups)
	removed := map[int32]bool{}
	for i, g := range groups {
		for _, k := range lowest(g.scores)[:counts[i]] {
			removed[g.units[k].root] = true
		}
	}
	d.balance(groups, removed)
	return removed
}

// counts returns how many units each group loses.
func (c choice) counts(groups []*candidateGroup) []int {
	out := make([]int, len(groups))
	type ranked struct {
		score float64
		group int
	}
	var all []ranked
	for i, g := range groups {
		if c.scope == Layer {
			out[i] = int(math.Round(c.share * float64(len(g.units))))
			continue
		}
		mean := 0.0
		for _, s := range g.scores {
			mean += s / float64(len(g.scores))
		}
		for _, s := range g.scores {
			if mean > 0 {
				s /= mean
			}
			all = append(all, ranked{s, i})
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int {
		switch {
		case a.score < b.score:
			return -1
		case a.score > b.score:
			return 1
		}
		return 0
	})
	left := int(math.Round(c.share * float64(len(all))))
	for _, r := range all {
		if left > 0 && out[r.group] < c.most(groups[r.group]) {
			out[r.group]++
			left--
		}
	}
	for i, g := range groups {
		out[i] = c.rounded(g, min(out[i], c.most(g)))
	}
	return out
}

// most returns how many units of a group may go.
func (c choice) most(g *candidateGroup) int {
	return len(g.units) - max(int(math.Ceil(c.floor*float64(len(g.units)))), 1)
}

// rounded changes how many units a group loses so that a multiple stays, the nearest one.
func (c choice) rounded(g *candidateGroup, gone int) int {
	n, r := len(g.units), c.roundTo
	if r <= 1 || g.heads {
		return gone
	}
	if n <= r {
		return 0
	}
	stay := max((n-gone+r/2)/r*r, r)
	if stay >= n {
		return 0
	}
	if n-stay > c.most(g) {
		stay += r
	}
	return max(n-stay, 0)
}

// lowest returns indices in order of their scores.
func lowest(scores []float64) []int {
	out := make([]int, len(scores))
	for i := range out {
		out[i] = i
	}
	sort.SliceStable(out, func(a, b int) bool { return scores[out[a]] < scores[out[b]] })
	return out
}
