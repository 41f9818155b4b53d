package rewrite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Pass is a rewrite of a whole model.
type Pass interface {
	Name() string
	// Run rewrites m. It asks e before each change and reports it.
	Run(ctx context.Context, m *onnx.Model, e *Env) error
}

// Constraint demands that pass Before comes before pass After wherever both run.
type Constraint struct{ Before, After, Reason string }

// Options steers a run; the zero value runs everything to a fixpoint.
type Options struct {
	Limit   int             // stop after this many firings; 0: no limit, negative: change nothing
	Disable []string        // rules and passes not to run
	Only    []string        // if any, the only rules and passes to run
	Skip    map[string]bool // firings not to do, by [Firing.Key]
	Debug   bool            // check the model after every firing, not only after every pass
	// Fired is called after each firing, with the model as it is then.
	Fired func(f Firing, m *onnx.Model) error
	Dims  map[string]int64 // sizes of symbolic dimensions
}

// Whole reports whether all rewrites are allowed.
func (o Options) Whole() bool {
	return o.Limit == 0 && len(o.Skip)+len(o.Disable)+len(o.Only) == 0
}

// maxRounds bounds how often the list of passes is repeated; real models
// settle in two or three rounds.
const maxRounds = 12

// Env is what a pass works with.
type Env struct {
	Facts *opset.Facts // types, shapes and partial values; not of what the pass itself changed
	Log   *Log
	opts  Options
	model *onnx.Model
	fresh state // of the model when Facts were inferred
}

// state tells whether a model has changed: by methods of package onnx, or by
// what passes report.
type state struct{ edits, fired int }

func (e *Env) state() state { return state{e.model.Edits(), len(e.Log.Fired)} }

// Run applies passes in order, and the whole list again until a round changes
// nothing. order is checked first. The model is in good order when Run returns
// nil; on an error it is not to be used.
func Run(ctx context.Context, m *onnx.Model, passes []Pass, order []Constraint, o Options) (*Log, error) {
	if err := checkOrder(passes, order); err != nil {
		return nil, err
	}
	e := &Env{Log: NewLog(), opts: o, model: m}
	for round := 0; round < maxRounds; round++ {
		before := len(e.Log.Fired)
		for _, p := range passes {
			if !e.wants(p) {
				continue
			}
			if err := e.runPass(ctx, m, p); err != nil {
				return e.Log, fmt.Errorf("pass %s: %w", p.Name(), err)
			}
		}
		if len(e.Log.Fired) == before || e.Exhausted() {
			break
		}
		if round == maxRounds-1 {
			e.Log.Notice("stopped after %d rounds; the last rewrites were: %s", maxRounds, lastRules(e.Log, 5))
		}
	}
	e.Log.settle()
	return e.Log, nil
}

func (e *Env) runPass(ctx context.Context, m *onnx.Model, p Pass) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.Facts == nil || e.fresh != e.state() {
		// A declared type may be wrong, and a rewrite must not rest on it.
		facts, err := opset.Infer(m, opset.Options{Dims: e.opts.Dims, IgnoreValueInfo: true})
		if err != nil {
			return err
		}
		e.Facts, e.fresh = facts, e.state()
	}
	before := len(e.Log.Fired)
	if err := p.Run(ctx, m, e); err != nil {
		return err
	}
	if len(e.Log.Fired) == before {
		return nil
	}
	return tidy(m)
}

// tidy sweeps what is dead, restores execution order and checks the result.
func tidy(m *onnx.Model) error {
	for _, g := range m.Graphs() {
		if g.Owner() == nil {
			g.Sweep()
		}
	}
	if _, err := m.Sort(); err != nil {
		return err
	}
	if err := m.Check(); err != nil {
		return fmt.Errorf("the rewritten model is not valid: %w", err)
	}
	return nil
}

func checkOrder(passes []Pass, order []Constraint) error {
	at := map[string]int{}
	for i, p := range passes {
		at[p.Name()] = i
	}
	for _, c := range order {
		i, ok1 := at[c.Before]
		j, ok2 := at[c.After]
		if ok1 && ok2 && i > j {
			return fmt.Errorf("pass %s must come before %s: %s", c.Before, c.After, c.Reason)
		}
	}
	return nil
}

// Enabled reports whether the rule or pass called name may run.
func (e *Env) Enabled(name string) bool {
	if slices.Contains(e.opts.Disable, name) {
		return false
	}
	return len(e.opts.Only) == 0 || slices.Contains(e.opts.Only, name)
}

// group is a pass made of rules that can be selected by name.
type group interface {
	Pass
	Names() []string
}

// wants reports whether p is to run: it is enabled, or one of its rules is.
func (e *Env) wants(p Pass) bool {
	if e.Enabled(p.Name()) {
		return true
	}
	g, ok := p.(group)
	return ok && !slices.Contains(e.opts.Disable, p.Name()) && slices.ContainsFunc(g.Names(), e.Enabled)
}

// allows reports whether a rule of g may run: asking for a group by name asks
// for all of its rules, unless some of them are asked for by name too.
func (e *Env) allows(g group, rule string) bool {
	if e.Enabled(rule) {
		return true
	}
	asked := func(name string) bool { return slices.Contains(e.opts.Only, name) }
	return asked(g.Name()) && !slices.Contains(e.opts.Disable, rule) && !slices.ContainsFunc(g.Names(), asked)
}

// Exhausted reports whether the limit on firings is reached.
func (e *Env) Exhausted() bool {
	return e.opts.Limit < 0 || e.opts.Limit > 0 && len(e.Log.Fired) >= e.opts.Limit
}

// Allow reports whether rule may change the model at n now: the limit is not
// reached and this firing is not one to skip. Ask when everything else is
// decided. Where rule can change several things at n, what names the one.
func (e *Env) Allow(rule string, n *onnx.Node, what ...string) bool {
	return !e.Exhausted() && !e.opts.Skip[e.Log.keys.key(rule, nodeLabel(n), what...)]
}

// AllowPart is [Env.Allow] for a change of what is no node: the part of the
// model called label.
func (e *Env) AllowPart(rule, label string) bool {
	return !e.Exhausted() && !e.opts.Skip[e.Log.keys.key(rule, label)]
}

// Site names a place before it is changed, for [Env.Fired].
type Site struct {
	node  *onnx.Node // nil where it is none
	text  string
	graph string
	key   string
	match string
}

// At describes where rule is about to fire, after [Env.Allow] with the same
// arguments; call it while n is still in place.
func (e *Env) At(rule string, n *onnx.Node, what ...string) Site {
	return Site{node: n, text: n.String(), graph: n.Graph().Name, key: e.Log.keys.key(rule, nodeLabel(n), what...), match: match(rule, nodeLabel(n), what...)}
}

// AtPart is [Env.At] for what is no node, after [Env.AllowPart]: text is the part
// as messages name it.
func (e *Env) AtPart(rule, label, text string) Site {
	return Site{text: text, graph: e.model.Graph.Name, key: e.Log.keys.key(rule, label), match: match(rule, label)}
}

// Fired records that rule changed the model at s.
func (e *Env) Fired(rule string, s Site, removed, added int, note string) error {
	return e.record(Firing{Rule: rule, Gone: removed, New: added, Note: note}, s)
}

// record adds f, which happened at s, to the log.
func (e *Env) record(f Firing, s Site) error {
	f.Node, f.Graph, f.Key = s.text, s.graph, s.key
	e.Log.fired(f, s.node, s.match)
	if e.opts.Debug {
		if _, err := e.model.Sort(); err != nil {
			return fmt.Errorf("%s: %w", f.Key, err)
		}
		if err := e.model.Check(); err != nil {
			return fmt.Errorf("%s: %w", f.Key, err)
		}
	}
	if e.opts.Fired != nil {
		return e.opts.Fired(f, e.model)
	}
	return nil
}

// Decline records why rule did not fire at n.
func (e *Env) Decline(rule string, n *onnx.Node, format string, args ...any) {
	e.Log.declined(rule, n, fmt.Sprintf(format, args...))
}

// lastRules names the rules of the last k firings.
func lastRules(l *Log, k int) string {
	var names []string
	for _, f := range l.Fired[max(0, len(l.Fired)-k):] {
		names = append(names, f.Rule)
	}
	return strings.Join(names, ", ")
}
