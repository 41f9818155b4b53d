package prune

import (
	"fmt"
	"slices"
)

// member is a unit as the balancing sees it.
type member struct {
	root   int32
	score  float64
	blocks []int // by partition: the block it is in, -1 where it is in none
}

// balance changes what goes so that the blocks of every even axis lose as many
// positions each: the channels of a grouped convolution stay in groups of one
// size.
func (d *dims) balance(groups []*candidateGroup, removed map[int32]bool) {
	for _, part := range d.components(groups) {
		gone := 0
		for _, m := range part.members {
			if removed[m.root] {
				gone++
				delete(removed, m.root)
			}
		}
		for _, m := range part.evenly(gone) {
			removed[m.root] = true
		}
	}
}

// component is units that even axes tie to each other, directly or through others.
type component struct {
	members    []member
	partitions []partition
}

// partition is one way in which the units fall into blocks of one size.
type partition struct{ blocks, size int }

// components collects the units on even axes.
func (d *dims) components(groups []*candidateGroup) []*component {
	type at struct{ group, unit int }
	of := map[int32]at{}
	for i, g := range groups {
		for k, u := range g.units {
			of[u.root] = at{i, k}
		}
	}
	parent := make([]int, len(groups))
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			i = parent[i]
		}
		return i
	}
	touched := map[int]bool{}
	for _, e := range d.even {
		first := -1
		for k := range d.axes[e.axis].size {
			if a, ok := of[d.find(int32(d.axes[e.axis].base+k))]; ok {
				touched[a.group] = true
				if first >= 0 {
					parent[root(a.group)] = root(first)
				}
				first = root(a.group)
			}
		}
	}
	byRoot := map[int]*component{}
	var out []*component
	for i, g := range groups {
		if !touched[i] {
			continue
		}
		c := byRoot[root(i)]
		if c == nil {
			c = &component{}
			byRoot[root(i)] = c
			out = append(out, c)
		}
		for k, u := range g.units {
			c.members = append(c.members, member{root: u.root, score: g.scores[k]})
		}
	}
	for _, c := range out {
		d.partition(c)
	}
	return out
}

// partition records how even axes divide the units of c, once per way of dividing.
func (d *dims) partition(c *component) {
	index := map[int32]int{}
	for i, m := range c.members {
		index[m.root] = i
	}
	seen := map[string]bool{}
	for _, e := range d.even {
		blocks := make([]int, len(c.members))
		for i := range blocks {
			blocks[i] = -1
		}
		any := false
		a := d.axes[e.axis]
		for k := range a.size {
			if i, ok := index[d.find(int32(a.base+k))]; ok {
				blocks[i] = k / (a.size / e.blocks)
				any = true
			}
		}
		key := fmt.Sprint(blocks)
		if !any || seen[key] {
			continue
		}
		seen[key] = true
		for i := range c.members {
			c.members[i].blocks = append(c.members[i].blocks, blocks[i])
		}
		c.partitions = append(c.partitions, partition{e.blocks, a.size / e.blocks})
	}
}

// evenly returns about gone members of low score such that every block of every
// partition loses as many as the partition's others; none where no number works.
func (c *component) evenly(gone int) []member {
	if len(c.partitions) == 0 {
		return nil
	}
	order := slices.Clone(c.members)
	slices.SortStableFunc(order, func(a, b member) int {
		switch {
		case a.score < b.score:
			return -1
		case a.score > b.score:
			return 1
		}
		return 0
	})
	share := float64(gone) / float64(len(c.members))
	for n := int(share*float64(c.partitions[0].size) + 0.5); n > 0; n-- {
		quotas, ok := c.quotas(n)
		if !ok {
			continue
		}
		if out := pickEvenly(order, c.partitions, quotas); out != nil {
			return out
		}
	}
	return nil
}

// quotas returns what each block of each partition loses where a block of the
// first loses n; false where the sizes do not go into each other.
func (c *component) quotas(n int) ([]int, bool) {
	out := make([]int, len(c.partitions))
	for i, p := range c.partitions {
		q := n * p.size / c.partitions[0].size
		if q*c.partitions[0].size != n*p.size {
			q = (n*p.size + c.partitions[0].size/2) / c.partitions[0].size
		}
		if out[i] = q; q <= 0 || q >= p.size {
			return nil, false
		}
	}
	return out, true
}

// pickEvenly chooses members in order, none whose blocks are full, and mends what
// is left by exchanging along augmenting paths. It returns nil where the quotas
// cannot be met.
func pickEvenly(order []member, parts []partition, quotas []int) []member {
	p := &picker{order: order, parts: parts, quotas: quotas, taken: make([]bool, len(order))}
	for _, pt := range parts {
		p.count = append(p.count, make([]int, pt.blocks))
	}
	for i := range order {
		if p.fits(i) {
			p.take(i, true)
		}
	}
	for range len(order) {
		part, block := p.lacking()
		if part < 0 {
			return p.chosen()
		}
		if !p.augment(part, block) {
			return nil
		}
	}
	return nil
}

// picker holds a choice that grows until every block has its quota.
type picker struct {
	order  []member
	parts  []partition
	quotas []int
	taken  []bool
	count  [][]int
}

// fits reports whether a member can be taken without filling a block over its quota.
func (p *picker) fits(i int) bool {
	if p.taken[i] {
		return false
	}
	for k, b := range p.order[i].blocks {
		if b >= 0 && p.count[k][b] >= p.quotas[k] {
			return false
		}
	}
	return true
}

func (p *picker) take(i int, yes bool) {
	p.taken[i] = yes
	for k, b := range p.order[i].blocks {
		switch {
		case b < 0:
		case yes:
			p.count[k][b]++
		default:
			p.count[k][b]--
		}
	}
}

// lacking returns a block below its quota, or -1.
func (p *picker) lacking() (part, block int) {
	for k := range p.parts {
		for b, n := range p.count[k] {
			if n < p.quotas[k] {
				return k, b
			}
		}
	}
	return -1, -1
}

// augment takes one more member of a block, for which others give way along a
// shortest path: a member that overfills a block of another partition puts one out
// of that block, whose own block then lacks one, and so on.
func (p *picker) augment(part, block int) bool {
	type state struct{ part, block int }
	type step struct {
		from    state
		in, out int // taken and put out
	}
	start := state{part, block}
	came := map[state]step{}
	queue := []state{start}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		for i, m := range p.order {
			if p.taken[i] || m.blocks[s.part] != s.block {
				continue
			}
			full, at := p.overfilled(i, s.part)
			if full == 0 {
				p.apply(func(yield func(in, out int)) {
					yield(i, -1)
					for s != start {
						st := came[s]
						yield(st.in, st.out)
						s = st.from
					}
				})
				return true
			}
			if full > 1 {
				continue
			}
			for j, o := range p.order {
				if !p.taken[j] || o.blocks[at.part] != at.block {
					continue
				}
				next := state{s.part, o.blocks[s.part]}
				if _, seen := came[next]; seen || next == start || next.block < 0 || next == s {
					continue
				}
				came[next] = step{from: s, in: i, out: j}
				queue = append(queue, next)
			}
		}
	}
	return false
}

// overfilled counts the blocks, but that of one partition, that are full already
// for member i, and returns one of them.
func (p *picker) overfilled(i, except int) (n int, at struct{ part, block int }) {
	for k, b := range p.order[i].blocks {
		if k != except && b >= 0 && p.count[k][b] >= p.quotas[k] {
			n++
			at = struct{ part, block int }{k, b}
		}
	}
	return n, at
}

// apply performs exchanges.
func (p *picker) apply(steps func(func(in, out int))) {
	steps(func(in, out int) {
		if out >= 0 {
			p.take(out, false)
		}
		p.take(in, true)
	})
}

func (p *picker) chosen() []member {
	var out []member
	for i, m := range p.order {
		if p.taken[i] {
			out = append(out, m)
		}
	}
	return out
}
