package main

import (
	"errors"
	"io/fs"

	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/spf13/cobra"
)

// gateFlags are the gates that can be given as flags.
type gateFlags struct{ values map[string]*string }

func newGateFlags() *gateFlags { return &gateFlags{map[string]*string{}} }

func (f *gateFlags) register(c *cobra.Command) {
	for _, s := range gate.Shorthands() {
		f.values[s.Name] = c.Flags().String(s.Name, "", s.Usage)
	}
}

// policy returns the gates and rules that configuration and flags demand, flags over
// configuration; empty where neither has any.
func (a *app) policy(f *gateFlags) (gate.Policy, error) {
	var p gate.Policy
	var err error
	if a.gates != nil {
		if p, err = gate.FromConfig(a.gatesFrom, a.gates); err != nil {
			return p, usageError{err}
		}
	}
	if a.rules != nil {
		rules, err := gate.RulesFromConfig(a.gatesFrom, a.rules)
		if err != nil {
			return p, usageError{err}
		}
		p.Source, p.Rules = rules.Source, rules.Rules
		if err := p.Check(); err != nil {
			return p, usageError{err}
		}
	}
	given := map[string]string{}
	for name, v := range f.values {
		if *v != "" {
			given[name] = *v
		}
	}
	if len(given) == 0 {
		return p, nil
	}
	over, err := gate.FromFlags(given)
	if err != nil {
		return p, usageError{err}
	}
	return p.Merge(over), nil
}

// rootCause strips the operation and path that the caller names itself.
func rootCause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
