package produce

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

var (
	errTired = errors.New("too many results were tried")
	errAsked = errors.New("what was asked for has a cost")
	errOther = errors.New("no rewrite is the reason for this")
)

// probe rewrites anew under o and asks g whether the result has the fault that
// was found. The third result is an error that ends the search.
func (j *job) probe(ctx context.Context, o rewrite.Options, g *judge, found error) (fault error, _ error) {
	if g.tries > 0 && j.probes[g.name] >= g.tries*j.guard.Attempts {
		return nil, errTired
	}
	if g.tries > 0 && j.probes[g.name] == 0 {
		j.searching = time.Now()
	} else if g.tries > 0 && time.Since(j.searching) > j.guard.Patience {
		return nil, errTired
	}
	j.probes[g.name]++
	o.Fired = nil
	a, err := j.attempt(ctx, o)
	if err != nil {
		return nil, err
	}
	defer a.drop()
	fault = g.shares(j, ctx, a, found)
	return fault, ctx.Err()
}

// search returns the least k in 1…n for which result k has the fault, where
// result 0 has not and result n has; and the fault.
func search(n int, found error, probe func(k int) (error, error)) (int, error, error) {
	good, wrong := 0, n
	for wrong-good > 1 {
		mid := (good + wrong) / 2
		fault, err := probe(mid)
		switch {
		case err != nil:
			return good, nil, err
		case fault != nil:
			wrong, found = mid, fault
		default:
			good = mid
		}
	}
	return wrong, found, nil
}

// byFiring finds the first firing without which the result is right, and makes
// later attempts skip it.
func (j *job) byFiring(ctx context.Context, g *judge, bad *attempt, found error) (*RolledBack, error) {
	fired := bad.log.Fired
	if len(fired) == 0 {
		return nil, fmt.Errorf("%s: nothing was rewritten, and yet: %w", j.src, found)
	}
	if j.original != nil && j.original.took > heavy {
		return j.wholeRule(ctx, g, bad, found)
	}
	k, reason, err := search(len(fired), found, func(k int) (error, error) {
		o := j.options()
		o.Limit = k
		return j.probe(ctx, o, g, found)
	})
	if err != nil {
		return nil, err
	}
	f := fired[k-1]
	if j.skip[f.Key] {
		return nil, fmt.Errorf("%s: %s cannot be left out: %w", j.src, f.Key, reason)
	}
	j.skip[f.Key] = true
	return &RolledBack{Judge: g.name, Rule: f.Rule, Firing: &f, Reason: reason.Error()}, nil
}

// wholeRule leaves out the first rule with which the result is wrong: with a model
// that takes long to load, looking for single firings would take minutes.
func (j *job) wholeRule(ctx context.Context, g *judge, bad *attempt, found error) (*RolledBack, error) {
	names := rulesOf(bad.log)
	k, reason, err := search(len(names), found, func(k int) (error, error) {
		o := j.options()
		o.Disable = append(o.Disable, names[k:]...)
		return j.probe(ctx, o, g, found)
	})
	if err != nil {
		return nil, err
	}
	if slices.Contains(j.off, names[k-1]) {
		return nil, fmt.Errorf("%s: %s cannot be left out: %w", j.src, names[k-1], reason)
	}
	j.off = append(j.off, names[k-1])
	return &RolledBack{Judge: g.name, Rule: names[k-1], Reason: reason.Error()}, nil
}

// firingsPerRule is how many firings of one rule are left out one by one before
// the whole rule is.
const firingsPerRule = 4

// byRule leaves out a firing of a rule that has the fault, or the whole rule where
// it fired only once or where several of its firings had it.
func (j *job) byRule(ctx context.Context, g *judge, bad *attempt, found error) (*RolledBack, error) {
	rule, reason, err := j.culprit(ctx, g, bad, found)
	if err != nil {
		return nil, err
	}
	var firings []rewrite.Firing
	for _, f := range bad.log.Fired {
		if f.Rule == rule {
			firings = append(firings, f)
		}
	}
	if len(firings) > 1 && j.blamed[rule] < firingsPerRule {
		j.blamed[rule]++
		j.last = rule
		return j.withinRule(ctx, g, firings, reason)
	}
	j.off = append(j.off, rule)
	return &RolledBack{Judge: g.name, Rule: rule, Reason: reason.Error()}, nil
}

// culprit returns the first rule, in the order in which they fired, with which
// the result has the fault.
func (j *job) culprit(ctx context.Context, g *judge, bad *attempt, found error) (string, error, error) {
	fired := rulesOf(bad.log)
	names := slices.DeleteFunc(slices.Clone(fired), func(name string) bool { return slices.Contains(j.guard.Asked, name) })
	without := func(off ...string) (error, error) {
		o := j.options()
		o.Disable = append(o.Disable, off...)
		fault, err := j.probe(ctx, o, g, found)
		if fault == nil && err == nil {
			j.harmless = o.Disable
		}
		return fault, err
	}
	if slices.Contains(names, j.last) { // most often there is more of the same
		if fault, err := without(j.last); err != nil || fault == nil {
			return j.last, found, err
		}
	}
	if len(names) < len(fired) {
		if fault, err := without(names...); err != nil || fault != nil || len(names) == 0 {
			return "", nil, cmp.Or(err, errAsked)
		}
	}
	k, reason, err := search(len(names), found, func(k int) (error, error) { return without(names[k:]...) })
	if err == nil && k == 1 && len(names) == len(fired) {
		// It may be the file's new form that the engine makes less of.
		o := j.options()
		o.Limit = -1
		if fault, bad := j.probe(ctx, o, g, found); bad != nil || fault != nil {
			err = cmp.Or(bad, errOther)
		}
	}
	if err != nil {
		return "", nil, err
	}
	return names[k-1], reason, nil
}

// withinRule finds the first of a rule's firings with which the result has the fault.
func (j *job) withinRule(ctx context.Context, g *judge, firings []rewrite.Firing, found error) (*RolledBack, error) {
	k, reason, err := search(len(firings), found, func(k int) (error, error) {
		o := j.options()
		for _, f := range firings[k:] {
			o.Skip[f.Key] = true
		}
		return j.probe(ctx, o, g, found)
	})
	if err != nil {
		return nil, err
	}
	f := firings[k-1]
	j.skip[f.Key] = true
	return &RolledBack{Judge: g.name, Rule: f.Rule, Firing: &f, Reason: reason.Error()}, nil
}

// rulesOf returns the rules and passes that fired, in the order of their first firing.
func rulesOf(l *rewrite.Log) []string {
	var out []string
	for _, f := range l.Fired {
		if !slices.Contains(out, f.Rule) {
			out = append(out, f.Rule)
		}
	}
	return out
}

// best returns the best result found where no more may be tried: what is known to
// do no harm, else the original as it is. why is what is wrong with all the rest.
func (j *job) best(ctx context.Context, why error) (*attempt, string, error) {
	if j.harmless != nil {
		o := j.options()
		o.Disable = j.harmless
		a, err := j.attempt(ctx, o)
		if err != nil {
			return nil, "", err
		}
		_, fault, err := j.judge(ctx, a)
		if err == nil && fault == nil && len(a.log.Fired) > 0 {
			return a, fmt.Sprintf("with all rewrites, %v; the output has only the rules known to do no harm", why), nil
		}
		a.drop()
		if err != nil {
			return nil, "", err
		}
	}
	o := j.options()
	o.Limit = -1
	a, err := j.attempt(ctx, o)
	if err != nil {
		return nil, "", err
	}
	if fault := j.sameValues(ctx, a); fault != nil {
		a.drop()
		return nil, "", fmt.Errorf("%s: nothing was rewritten, and yet: %w", j.src, fault)
	}
	return a, fmt.Sprintf("with rewrites, %v; the output is the model as it was", why), nil
}
