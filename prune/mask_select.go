package prune

import (
	"cmp"
	"math"
	"slices"
)

// fewScores is up to how many scores are sorted to find a cut.
const fewScores = 1 << 14

// cutOf returns the cut below which k of all the scores lie, which are not negative.
func cutOf(lists [][]float32, k int64) cut {
	if k <= 0 {
		return cut{}
	}
	if len(lists) == 1 && len(lists[0]) <= fewScores {
		return sortedCut(lists[0], int(k))
	}
	var high, low [1 << 16]int64
	for _, list := range lists {
		for _, x := range list {
			high[magnitudeBits(x)>>16]++
		}
	}
	top, before := locate(high[:], k)
	for _, list := range lists {
		for _, x := range list {
			if b := magnitudeBits(x); b>>16 == top {
				low[b&0xffff]++
			}
		}
	}
	bottom, within := locate(low[:], k-before)
	return cut{top<<16 | bottom, k - before - within}
}

// sortedCut is cutOf for few scores.
func sortedCut(scores []float32, k int) cut {
	sorted := make([]uint32, len(scores))
	for i, x := range scores {
		sorted[i] = magnitudeBits(x)
	}
	slices.Sort(sorted)
	top := sorted[k-1]
	below, _ := slices.BinarySearch(sorted, top)
	return cut{top, int64(k - below)}
}

// takes reports whether c takes away what has these bits, and takes a tie from it.
func (c *cut) takes(bits uint32) bool {
	if bits > c.bits || bits == c.bits && c.ties == 0 {
		return false
	}
	if bits == c.bits {
		c.ties--
	}
	return true
}

// mark calls f with the scores that c takes away, in order.
func (c *cut) mark(scores []float32, f func(i int)) {
	for i, x := range scores {
		if c.takes(magnitudeBits(x)) {
			f(i)
		}
	}
}

// shareOf is how many of n are a share of them.
func shareOf(sparsity float64, n int) int64 { return int64(sparsity * float64(n)) }

// choose returns which of the weights with scores by rows become zero: those of
// the least scores within each group, row or tensor.
func (p maskPattern) choose(v maskView, scores []float32, byRow bool, sparsity float64) maskBits {
	mask := newMask(len(scores))
	switch {
	case p.grouped():
		for r := range v.rows {
			row := scores[r*v.cols : (r+1)*v.cols]
			v.groups(p.m, func(c0, c1 int) {
				p.least(row[c0:c1], func(i int) { mask.set(r*v.cols + c0 + i) })
			})
		}
	case p.blocked():
		list := p.blockScores(v, scores)
		c := blockCut([][]maskScore{list}, shareOf(sparsity, len(scores)))
		p.markBlocks(v, list, &c, mask)
	case byRow:
		for r := range v.rows {
			row := scores[r*v.cols : (r+1)*v.cols]
			c := cutOf([][]float32{row}, shareOf(sparsity, len(row)))
			c.mark(row, func(i int) { mask.set(r*v.cols + i) })
		}
	default:
		c := cutOf([][]float32{scores}, shareOf(sparsity, len(scores)))
		c.mark(scores, mask.set)
	}
	return mask
}

// least calls f with those of a group that are not among the p.n largest.
func (p maskPattern) least(group []float32, f func(i int)) {
	over := len(group) - p.n
	for i, x := range group {
		if over <= 0 {
			return
		}
		smaller := 0 // ranked before i: smaller, or equal and in front
		for j, y := range group {
			if a, b := magnitudeBits(y), magnitudeBits(x); a < b || a == b && j < i {
				smaller++
			}
		}
		if smaller < over {
			f(i)
		}
	}
}

// maskScore is the score of a block, and how many weights it has: those at the end
// of an axis have fewer.
type maskScore struct {
	bits uint32
	size int
}

// blockScores returns the root of the mean square of each block's scores.
func (p maskPattern) blockScores(v maskView, scores []float32) []maskScore {
	var out []maskScore
	v.blocks(p, func(b maskBlock) {
		sum, size := 0.0, (b.r1-b.r0)*(b.c1-b.c0)
		for r := b.r0; r < b.r1; r++ {
			for _, x := range scores[r*v.cols+b.c0 : r*v.cols+b.c1] {
				sum += float64(x) * float64(x)
			}
		}
		out = append(out, maskScore{magnitudeBits(float32(math.Sqrt(sum / float64(size)))), size})
	})
	return out
}

// blockCut returns the cut below which the blocks of least score lie that have k
// weights together, or a few less.
func blockCut(lists [][]maskScore, k int64) cut {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b maskScore) int { return cmp.Compare(a.bits, b.bits) })
	var c cut
	for _, s := range all {
		if k -= int64(s.size); k < 0 {
			break
		}
		if s.bits != c.bits {
			c = cut{bits: s.bits}
		}
		c.ties++
	}
	return c
}

// markBlocks sets the weights of the blocks that c takes away.
func (p maskPattern) markBlocks(v maskView, list []maskScore, c *cut, mask maskBits) {
	i := 0
	v.blocks(p, func(b maskBlock) {
		if c.takes(list[i].bits) {
			for r := b.r0; r < b.r1; r++ {
				for k := b.c0; k < b.c1; k++ {
					mask.set(r*v.cols + k)
				}
			}
		}
		i++
	})
}
