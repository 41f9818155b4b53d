package quantize

import (
	"context"
	"fmt"
	"math"
	"sort"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// grow runs p on the calibration data under emulated rounding, and puts nodes back
// to float32 until no output is further from the original's than allowed: those that
// make the largest error alone first, as few of them as suffice. It returns what is
// to be said.
func grow(ctx context.Context, p *halfPlan) ([]string, error) {
	rounds, branches := false, false
	for _, n := range p.nodes {
		if opset.Varies(n) {
			return []string{"the model draws random numbers and was not checked under emulated rounding"}, nil
		}
		if p.place[n].rounds() {
			rounds, branches = true, branches || n.Graph().Owner().Is("If")
		}
	}
	if !rounds {
		return nil, nil
	}
	l, err := newLab(ctx, p)
	if err == nil {
		defer l.close()
		var text string
		if text, err = l.grow(ctx); err == nil {
			if branches {
				text += "; of an If only branches that the data takes are seen"
			}
			return []string{text}, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return []string{fmt.Sprintf("not checked under emulated rounding: %v", err)}, nil
}

func (l *halfLab) grow(ctx context.Context) (string, error) {
	limit := l.p.o.HalfError
	if limit == 0 {
		limit = l.p.t.error
	}
	first, err := l.error(ctx)
	if err != nil || first.most <= limit {
		return fmt.Sprintf("under emulated rounding on %d batches no output is further off than %.2g of its largest magnitude (%q)", len(l.want), first.most, first.output), err
	}
	before := l.save()
	groups, err := l.rank(ctx, limit, first)
	if err != nil {
		return "", err
	}
	try := func(k int) (float64, error) {
		l.restore(before)
		for _, u := range groups[:k] {
			for _, n := range u.nodes {
				l.p.back(n, fmt.Sprintf("put back: rounding in it and %d nodes beside it alone makes an error of %.2g", len(u.nodes)-1, u.error))
			}
		}
		l.p.settle()
		e, err := l.error(ctx)
		return e.most, err
	}
	e, err := least(len(groups), limit, try)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("emulated rounding on %d batches made an error of %.2g in output %q; put back to float32: %d of the nodes, those that make the largest errors alone, first %v with %.2g: now it is %.2g (%d runs)",
		len(l.want), first.most, first.output, l.taken(before), groups[0].nodes[0], groups[0].error, e, l.runs), nil
}

// least finds how many of count groups must go back for try to give at most limit: the
// first that suffices of 1, 2, 4 and so on, and then between it and the last that did
// not. It ends with a try of what it found, and returns what that gave.
func least(count int, limit float64, try func(k int) (float64, error)) (float64, error) {
	low, high := 0, 1
	for ; high < count; low, high = high, min(2*high, count) {
		e, err := try(high)
		if err != nil {
			return 0, err
		}
		if e <= limit {
			break
		}
	}
	for high-low > 1 {
		mid := (low + high) / 2
		e, err := try(mid)
		if err != nil {
			return 0, err
		}
		if e <= limit {
			high = mid
		} else {
			low = mid
		}
	}
	return try(high)
}

// save copies what becomes of each node.
func (l *halfLab) save() map[*onnx.Node]place16 {
	out := map[*onnx.Node]place16{}
	for n, c := range l.p.place {
		out[n] = *c
	}
	return out
}

func (l *halfLab) restore(from map[*onnx.Node]place16) {
	for n, c := range from {
		*l.p.place[n] = c
	}
}

// taken counts the nodes that are in float32 now and were not.
func (l *halfLab) taken(before map[*onnx.Node]place16) int {
	count := 0
	for n, c := range before {
		if now := l.p.place[n]; c.rounds() && !now.rounds() {
			count++
		}
	}
	return count
}

// rounds reports whether something of the node is of 16 bits.
func (c *place16) rounds() bool { return c.half || c.stored }

// group is some nodes that follow each other, and the largest error of an output
// where they alone round.
type group struct {
	nodes []*onnx.Node
	error float64
}

// splits bounds how many groups are split to find the nodes that make the error.
const splits = 16

// rank returns the nodes that round in groups, most error for each node first. All of
// them are split in two, the half that makes more error alone is split again, and so
// on: where few nodes make the error, these are found in few runs, in bodies too.
// Errors of groups add up like noise, by their squares. It is done on the batch with
// the largest error.
func (l *halfLab) rank(ctx context.Context, limit float64, first worst) ([]group, error) {
	before := l.save()
	l.only = first.batch
	defer func() { l.restore(before); l.only = -1 }()
	var all []*onnx.Node
	for _, n := range l.p.nodes {
		if l.p.place[n].rounds() {
			all = append(all, n)
		}
	}
	list := []group{{all, first.most}}
	for range splits {
		at := -1
		for i, g := range list {
			if len(g.nodes) > 1 && g.error > limit/8 && (at < 0 || g.error > list[at].error) {
				at = i
			}
		}
		if at < 0 {
			break
		}
		nodes := list[at].nodes
		var parts []group
		for _, part := range [][]*onnx.Node{nodes[:len(nodes)/2], nodes[len(nodes)/2:]} {
			e, err := l.alone(ctx, part, before)
			if err != nil {
				return nil, err
			}
			parts = append(parts, group{part, e})
		}
		list = append(append(list[:at:at], parts...), list[at+1:]...)
	}
	density := func(g group) float64 { return g.error * g.error / float64(len(g.nodes)) }
	sort.SliceStable(list, func(i, j int) bool { return density(list[i]) > density(list[j]) })
	return list, nil
}

// alone returns the error where of the nodes that rounded before only some do.
func (l *halfLab) alone(ctx context.Context, some []*onnx.Node, before map[*onnx.Node]place16) (float64, error) {
	for _, c := range l.p.place {
		c.half, c.stored = false, false
	}
	for _, n := range some {
		*l.p.place[n] = before[n]
	}
	e, err := l.error(ctx)
	if math.IsInf(e.most, 1) {
		e.most = math.MaxFloat32 // its square is finite
	}
	return e.most, err
}
