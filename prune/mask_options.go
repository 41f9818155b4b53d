package prune

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Row ranks the weights of each output against each other.
const Row Scope = "row"

// The importances of weights.
const (
	Magnitude = "magnitude" // |w|; of a block the root of the mean square
	Wanda     = "wanda"     // |w|·‖x‖₂ (Sun et al., 2023)
	SparseGPT = "sparsegpt" // w²/[H⁻¹]ᵢᵢ, the others made up for it as they go (Frantar and Alistarh, 2023)
)

// The repairs of masks, in the order in which they are tried.
const (
	RepairOBS  = "obs"  // the weights that stay make up for those that went
	RepairBias = "bias" // the mean of what went is added to the bias
)

// Importances returns the names of the ways to rank weights.
func Importances() []string { return []string{Magnitude, Wanda, SparseGPT} }

// Repairs returns the names of the repairs, besides auto and none.
func Repairs() []string { return []string{RepairOBS, RepairBias} }

// MaskOptions steers which weights become zero, and what is done about it.
type MaskOptions struct {
	// Pattern is unstructured, N:M or block:RxC; "" is unstructured. N:M leaves at
	// most N of each M weights in a row that are summed, which settles the sparsity;
	// a block is of R weights that are summed, for C outputs.
	Pattern    string
	Importance string // of [Importances]; "" is magnitude
	// Repair is auto, none, or some of [Repairs] with commas between them; "" and
	// auto are all of them where there is data that is not generated.
	Repair        string
	SparseStorage bool // store weights as sparse_initializer where that is smaller
}

// DataOptions is what layers are measured on.
type DataOptions struct {
	Calibration *dataset.Set // nil: weights are all that is looked at
	Synthetic   bool         // Calibration is generated
	Batch       int          // samples run at once
	Open        session.Opener
	Session     session.Options
	Workers     int   // runs at once; 0: 1
	MaxMemory   int64 // bytes of what is measured and of activations at once; 0: 1 GiB of the former
	// Measured is told after each batch how many samples of how many are done; may be nil.
	Measured func(done, total int64)
}

// masks is what the options say about masks, read.
type masks struct {
	pattern maskPattern
	repairs []string
	byRow   bool
	whole   bool // the weights of all tensors are ranked together
}

// names reads what the options name, and fills in what they leave open.
func (o *Options) names() (err error) {
	if o.masks.pattern, err = parseMask(o.Pattern); err != nil {
		return err
	}
	if o.Importance == "" {
		o.Importance = Magnitude
	}
	if !slices.Contains(Importances(), o.Importance) {
		return fmt.Errorf("importance %q is unknown; want one of %s", o.Importance, strings.Join(Importances(), ", "))
	}
	if o.masks.repairs, err = repairsNamed(o.Repair, Repairs(), o.Calibration != nil, o.Synthetic); err != nil {
		return err
	}
	return o.scope()
}

// validateMask checks the options for masks.
func (o *Options) validateMask() error {
	if err := o.names(); err != nil {
		return err
	}
	switch {
	case o.measured() && o.Calibration == nil && o.Importance != Magnitude:
		return fmt.Errorf("importance %s looks at what the layers read; give it data, with --data", o.Importance)
	case o.measured() && o.Calibration == nil:
		return fmt.Errorf("repair %s looks at what the layers read; give it data, with --data", o.Repair)
	case o.measured() && o.Open == nil:
		return errors.New("measuring what layers read needs an engine to run the model")
	case o.SparseStorage && o.Open == nil:
		return errors.New("whether weights can be stored sparsely is for an engine to say, and there is none")
	case o.Batch < 0 || o.MaxMemory < 0 || o.Workers < 0:
		return errors.New("batch, memory and workers must not be negative")
	}
	return nil
}

// repairsNamed reads a choice of repairs out of those there are.
func repairsNamed(choice string, all []string, data, synthetic bool) ([]string, error) {
	switch choice {
	case "none":
		return nil, nil
	case "", "auto":
		if !data || synthetic {
			return nil, nil
		}
		return all, nil
	}
	given := strings.Split(choice, ",")
	var out []string
	for _, name := range all { // in the order in which they are tried
		if slices.Contains(given, name) {
			out = append(out, name)
		}
	}
	for _, name := range given {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("repair %q is unknown; want auto, none, or some of %s", name, strings.Join(all, ", "))
		}
	}
	return out, nil
}

// scope settles what weights are ranked against each other.
func (o *Options) scope() error {
	p := o.masks.pattern
	switch {
	case p.grouped():
		if o.Scope != "" {
			return fmt.Errorf("with pattern %v weights are ranked within each group; leave out the scope", p)
		}
		return nil
	case o.Scope == "" && o.Importance == Magnitude:
		o.Scope = Global
	case o.Scope == "" && !p.blocked():
		o.Scope = Row
	case o.Scope == "":
		o.Scope = Layer
	}
	switch {
	case !slices.Contains([]Scope{Global, Layer, Row}, o.Scope):
		return fmt.Errorf("scope %q is unknown; want global, layer or row", o.Scope)
	case o.Scope == Global && o.Importance != Magnitude:
		return fmt.Errorf("importance %s is of weights of one layer only; want scope layer or row", o.Importance)
	case o.Scope == Row && p.blocked():
		return errors.New("blocks are of several outputs; want scope global or layer")
	}
	o.masks.byRow, o.masks.whole = o.Scope == Row, o.Scope == Global
	return nil
}

// measured reports whether the model runs on data before it is pruned.
func (o *Options) measured() bool { return o.Importance != Magnitude || len(o.masks.repairs) > 0 }

// plain reports whether the weights alone decide, each against a threshold.
func (o *Options) plain() bool {
	p := o.masks.pattern
	return !o.measured() && !p.grouped() && !p.blocked() && !o.masks.byRow
}

// repairing reports whether a repair is asked for.
func (o *Options) repairing(name string) bool { return slices.Contains(o.masks.repairs, name) }

// Settles reports whether a pattern says by itself how many weights become zero.
func Settles(pattern string) bool {
	p, err := parseMask(pattern)
	return err == nil && p.grouped()
}

// Asked returns the rewrites that stay in the result whatever an engine makes of
// them, since they are what was asked for.
func Asked(o Options) []string { return []string{o.Importance, sparseRule} }

// Check returns an error where the options do not go together.
func (o Options) Check() error { return o.validate() }

// CheckNames is [Options.Check] for what is named, before there are data and an engine.
func (o Options) CheckNames() error { return o.names() }
