package prune

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// structurePass is how logs and --disable call removal by structure.
const structurePass = "structure"

// maxBlocked bounds how many nodes may turn out not to fit before pruning gives up.
const maxBlocked = 200

// structured removes channels, heads or neurons.
type structured struct {
	o        *StructureOptions
	result   *Structure
	held     *trial.Held                 // nil: there is no data
	stats    map[string]*calibrate.Stats // of activations, where the importance asks for them
	ablated  *ablation                   // likewise
	chosen   *float64                    // share of the units to remove, once it is settled
	blocked  map[string]string           // nodes that cannot follow
	goal     *Goal
	repaired map[string]*unitRepairs // of the last choice of units
	turned   bool                    // remove the most important units instead, for tests
	done     bool
}

func (p *structured) progress(stage string) {
	if p.o.Progress != nil {
		p.o.Progress(stage)
	}
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
	if err := p.settle(ctx, m); err != nil {
		return err
	}
	if n := len(overridable(m)); n > 0 {
		e.Log.Notice("%d weights that a caller could override were made constants", n)
	}
	if err := initialize(m); err != nil {
		return err
	}
	if *p.chosen == 0 {
		n, err := foldConstants(m)
		if err != nil {
			return err
		}
		if n > 0 {
			e.Log.Notice("what %d channels of constant value contribute went into the biases of the layers that read them", n)
		}
	}
	pl, err := p.plan(m, *p.chosen, p.blocked)
	if err != nil {
		return err
	}
	cost, err := costs(m, p.o.Dims)
	if err != nil {
		return err
	}
	p.result = pl.describe(cost, p.o)
	if err := p.announce(pl, e); err != nil {
		return err
	}
	if len(pl.groups) == 0 {
		e.Log.Notice("no unit of pattern %s can be removed", p.o.Pattern)
	}
	if len(pl.removed) == 0 {
		return nil
	}
	if err := p.take(ctx, m, pl, true, true); err != nil {
		return err
	}
	if r := p.repaired[pl.removedKey()]; r != nil {
		p.result.Repairs = r.log
	}
	return p.result.after(m, p.o.Dims)
}

// settle measures what the importance asks for and finds the share of units to
// remove, once for all attempts at a model.
func (p *structured) settle(ctx context.Context, m *onnx.Model) error {
	if p.chosen != nil {
		return nil
	}
	p.blocked = map[string]string{}
	if err := p.look(ctx, m); err != nil {
		return err
	}
	switch {
	case p.o.Importance == ByActivity && p.stats == nil:
		if err := p.measureChannels(ctx, m); err != nil {
			return err
		}
	case p.o.Importance == ByAblation && p.ablated == nil:
		if err := p.measureAblation(ctx, m); err != nil {
			return err
		}
	}
	share, err := p.share(ctx, m)
	p.chosen = &share
	return err
}

// take shrinks m by the plan, with what is to make up for it or without; the layers
// are refitted one after the other in the final model only, since that takes long.
func (p *structured) take(ctx context.Context, m *onnx.Model, pl *plan, repair, final bool) error {
	if !repair || len(p.o.repairs) == 0 || len(pl.removed) == 0 {
		return pl.d.shrink(pl.removed)
	}
	r, err := p.repair(ctx, m, pl)
	if err != nil {
		return err
	}
	whole := m.Clone()
	if final {
		if err := p.confirm(ctx, m, pl, r); err != nil {
			return err
		}
	}
	r.weights(m)
	if err := pl.d.shrink(pl.removed); err != nil {
		return err
	}
	if err := r.biases(pl.d, pl.removed); err != nil {
		return err
	}
	if err := p.statistics(ctx, m, r); err != nil || !final {
		return err
	}
	return p.chain(ctx, whole, m, pl, r)
}

// look runs m on the data where what is asked for needs that.
func (p *structured) look(ctx context.Context, m *onnx.Model) (err error) {
	if p.held != nil || p.o.Data == nil || !p.o.looks() {
		return nil
	}
	o := *p.o.Data
	if o.Keep == nil {
		o.Keep = p.heldOut(int(o.Data.Len()) / max(o.Batch, 1))
	}
	p.held, err = trial.New(ctx, m, o)
	return err
}

// heldOut keeps the runs to which no repair is fitted; all where there is none.
func (p *structured) heldOut(runs int) func(k, at int64) bool {
	every := int64(holdEvery(runs))
	if len(p.o.repairs) == 0 || every == 0 {
		return nil
	}
	return func(k, _ int64) bool { return k%every == every-1 }
}

// shrunk returns a copy of m without a share of its units. Nodes that cannot
// follow are remembered and keep all they have.
func (p *structured) shrunk(ctx context.Context, m *onnx.Model, share float64, repair bool) (*onnx.Model, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := m.Clone()
		if err := initialize(c); err != nil {
			return nil, err
		}
		pl, err := p.plan(c, share, p.blocked)
		if err != nil {
			return nil, err
		}
		err = p.take(ctx, c, pl, repair, false)
		var no *mismatch
		if errors.As(err, &no) && len(p.blocked) < maxBlocked && p.blocked[nodeKey(no.node)] == "" {
			p.blocked[nodeKey(no.node)] = no.why
			continue
		}
		return c, err
	}
}

// plan analyses m and chooses what goes.
func (p *structured) plan(m *onnx.Model, share float64, blocked map[string]string) (*plan, error) {
	d, err := newDims(m, p.o.Dims, blocked)
	if err != nil {
		return nil, err
	}
	pl := &plan{d: d, all: d.groups()}
	s := &scorer{d: d, by: p.o.Importance, energy: map[int][]float64{}, reads: d.contractions(), stats: p.stats, ablated: p.ablated}
	for _, g := range pl.all {
		if !p.o.wants(d, g) {
			continue
		}
		scores, err := s.score(g)
		if err != nil {
			return nil, err
		}
		if p.turned {
			scores = slices.Clone(scores)
			for k := range scores {
				scores[k] = -scores[k]
			}
		}
		pl.groups = append(pl.groups, &candidateGroup{g, scores})
	}
	if share == 0 {
		var list []*group
		for _, g := range pl.groups {
			list = append(list, g.group)
		}
		pl.removed, err = d.dead(list)
		return pl, err
	}
	pl.removed = d.choose(pl.groups, choice{share, p.o.Scope, p.o.RoundTo, p.o.Floor})
	return pl, nil
}

// wants reports whether the pattern and the names let a group lose units.
func (o *StructureOptions) wants(d *dims, g *group) bool {
	stream := g.norm != nil && !g.conv // what a transformer hands from block to block
	switch o.Pattern {
	case Heads:
		if !g.heads {
			return false
		}
	case Neurons:
		if g.heads || g.conv || stream {
			return false
		}
	case Channels:
		if g.heads || stream {
			return false
		}
	case Hidden:
		if g.heads || !stream {
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
