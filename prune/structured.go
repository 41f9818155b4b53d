package prune

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// structurePass is how logs and --disable call removal by structure.
const structurePass = "structure"

// maxBlocked bounds how many nodes may turn out not to fit before pruning gives up.
const maxBlocked = 200

// structured removes channels, heads or neurons.
type structured struct {
	o      *StructureOptions
	result *Structure
	done   bool
}

func (p *structured) Name() string { return structurePass }

// plan is one analysis of a model and what is to be taken out of it.
type plan struct {
	d       *dims
	groups  []*candidateGroup // that the pattern and the names allow
	all     []*group
	removed map[int32]bool
}

// Run prunes m, once. What does not fit shows on a copy first: its node then keeps all it has.
func (p *structured) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	if p.done {
		return nil
	}
	p.done = true
	blocked := map[string]string{}
	share, err := p.share(ctx, m, blocked)
	if err != nil {
		return err
	}
	if err := initialize(m); err != nil {
		return err
	}
	pl, err := p.plan(m, share, blocked)
	if err != nil {
		return err
	}
	before := layers(pl.d)
	p.result = pl.describe(before)
	if err := p.announce(pl, e); err != nil {
		return err
	}
	if len(pl.removed) == 0 {
		return nil
	}
	if err := pl.d.shrink(pl.removed); err != nil {
		return err
	}
	return p.result.after(m, p.o.Dims)
}

// share returns the share of units to remove, and fills in the nodes that cannot follow.
func (p *structured) share(ctx context.Context, m *onnx.Model, blocked map[string]string) (float64, error) {
	work := func(share float64) (float64, error) {
		for {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			c := m.Clone()
			if err := initialize(c); err != nil {
				return 0, err
			}
			pl, err := p.plan(c, share, blocked)
			if err != nil {
				return 0, err
			}
			err = pl.d.shrink(pl.removed)
			var no *mismatch
			if errors.As(err, &no) && len(blocked) < maxBlocked && blocked[nodeKey(no.node)] == "" {
				blocked[nodeKey(no.node)] = no.why
				continue
			}
			if err != nil {
				return 0, err
			}
			return p.work(c)
		}
	}
	if p.o.MACsRatio == 0 && p.o.ParamsRatio == 0 {
		_, err := work(p.o.Sparsity)
		return p.o.Sparsity, err
	}
	return p.reach(work)
}

// reach returns the least share with which the model's MACs or parameters fall to
// the asked ratio.
func (p *structured) reach(work func(float64) (float64, error)) (float64, error) {
	full, err := work(0)
	if err != nil {
		return 0, err
	}
	goal := max(p.o.MACsRatio, p.o.ParamsRatio) * full
	lo, hi := 0.0, 1.0
	for range 12 {
		mid := (lo + hi) / 2
		w, err := work(mid)
		if err != nil {
			return 0, err
		}
		if w > goal {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi, nil
}

// work returns the MACs or the parameters of a model.
func (p *structured) work(m *onnx.Model) (float64, error) {
	f, err := opset.Infer(m, opset.Options{Dims: p.o.Dims})
	if err != nil {
		return 0, err
	}
	t := totals(m, f)
	if p.o.ParamsRatio > 0 {
		return float64(t.Parameters), nil
	}
	return float64(t.MACs), nil
}

// plan analyses m and chooses what goes.
func (p *structured) plan(m *onnx.Model, share float64, blocked map[string]string) (*plan, error) {
	d, err := newDims(m, p.o.Dims, blocked)
	if err != nil {
		return nil, err
	}
	pl := &plan{d: d, all: d.groups()}
	s := &scorer{d: d, by: p.o.Importance, energy: map[int][]float64{}}
	for _, g := range pl.all {
		if !p.o.wants(d, g) {
			continue
		}
		scores, err := s.score(g)
		if err != nil {
			return nil, err
		}
		pl.groups = append(pl.groups, &candidateGroup{g, scores})
	}
	pl.removed = d.choose(pl.groups, choice{share, p.o.Scope, p.o.RoundTo, p.o.Floor})
	return pl, nil
}

// wants reports whether the pattern and the names let a group lose units.
func (o *StructureOptions) wants(d *dims, g *group) bool {
	switch o.Pattern {
	case Heads:
		if !g.heads {
			return false
		}
	case Neurons:
		if g.heads || g.conv || g.norm != nil {
			return false
		}
	case Channels:
		if g.heads {
			return false
		}
	}
	if len(o.Include) > 0 && !o.names(o.Include, d, g) {
		return false
	}
	return !o.names(o.Exclude, d, g)
}

// names reports whether a pattern fits a node that makes the units, its operator, or a
// weight that has them.
func (o *StructureOptions) names(patterns []string, d *dims, g *group) bool {
	for _, i := range g.axes {
		v := d.axes[i].Value
		list := []string{v.Name()}
		if p := v.Producer(); p != nil {
			list = append(list, p.Name, p.Op)
		}
		for _, u := range v.Uses() {
			if v.Constant() != nil {
				list = append(list, u.Node.Name, u.Node.Op)
			}
		}
		for _, pattern := range patterns {
			if slices.ContainsFunc(list, func(s string) bool {
				ok, _ := path.Match(pattern, s)
				return ok || pattern == s
			}) {
				return true
			}
		}
	}
	return false
}

// announce asks for leave to prune each group and reports it. Groups that must
// lose alike are asked for together.
func (p *structured) announce(pl *plan, e *rewrite.Env) error {
	for _, set := range pl.sets() {
		first := set[0]
		n := pl.d.axes[first.out].Value.Producer()
		gone, of := 0, 0
		for _, g := range set {
			gone += pl.gone(g)
			of += len(g.units)
		}
		if gone == 0 {
			continue
		}
		if !e.Allow(structurePass, n) {
			for _, g := range set {
				for _, u := range g.units {
					delete(pl.removed, u.root)
				}
			}
			continue
		}
		if err := e.Fired(structurePass, e.At(structurePass, n), 0, 0, fmt.Sprintf("%d of %d %s", gone, of, first.kind())); err != nil {
			return err
		}
	}
	return nil
}

// gone counts the units of g that go.
func (pl *plan) gone(g *candidateGroup) int {
	n := 0
	for _, u := range g.units {
		if pl.removed[u.root] {
			n++
		}
	}
	return n
}

// sets returns the groups, with those together that an even axis ties.
func (pl *plan) sets() [][]*candidateGroup {
	of := map[int32]int{}
	for i, g := range pl.groups {
		for _, u := range g.units {
			of[u.root] = i
		}
	}
	set := make([]int, len(pl.groups))
	for i := range set {
		set[i] = i
	}
	for _, c := range pl.d.components(pl.groups) {
		for _, m := range c.members {
			set[of[m.root]] = set[of[c.members[0].root]]
		}
	}
	at := map[int]int{}
	var out [][]*candidateGroup
	for i, g := range pl.groups {
		k, seen := at[set[i]]
		if !seen {
			k = len(out)
			at[set[i]] = k
			out = append(out, nil)
		}
		out[k] = append(out[k], g)
	}
	return out
}

// kind names what the units of a group are.
func (g *group) kind() string {
	switch {
	case g.heads:
		return "heads"
	case g.conv:
		return "channels"
	}
	return "neurons"
}
