package prune

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/trial"
)

// Pattern says what goes together.
type Pattern string

// The patterns that make tensors smaller. Pruning of single weights keeps shapes.
const (
	Channels Pattern = "channels" // of convolutions, and neurons of dense layers
	Neurons  Pattern = "neurons"  // between dense layers
	Heads    Pattern = "heads"    // of attention
	Hidden   Pattern = "hidden"   // the width that a transformer hands from block to block
	Layers   Pattern = "layers"   // residual blocks
)

// StructureOptions steers removal by structure.
type StructureOptions struct {
	Pattern     Pattern
	Importance  Importance
	Sparsity    float64 // share of the units to remove, in [0, 1)
	MACsRatio   float64 // remove until the model's MACs are at most this share; 0: by Sparsity
	ParamsRatio float64 // likewise its parameters
	Scope       Scope
	RoundTo     int     // what stays of a group is a multiple of it; 0 and 1: any number
	Floor       float64 // least share of a group that stays
	Include     []string
	Exclude     []string
	Dims        map[string]int64 // sizes of symbolic dimensions

	LatencyRatio float64 // remove until the result takes at most this share of the time, as measured; 0: no such goal
	MaxDrop      float64 // remove as much as loses at most so many percentage points of accuracy; 0: no such limit
	MinSQNR      float64 // likewise, as leaves the outputs at least so many dB above the change; 0: no such limit

	// Repair is auto, none, or some of [UnitRepairs] with commas between them; "" and
	// auto are all of them where there is data that is not generated.
	Repair    string
	Synthetic bool // Data is generated

	Data      *trial.Options // what is measured on; nil: nothing is
	MaxMemory int64          // bytes of activations at once; 0: no limit
	Progress  func(stage string)

	repairs []string // what Repair says
}

// Units returns the names of the patterns that make tensors smaller.
func Units() []Pattern { return []Pattern{Channels, Neurons, Heads, Hidden, Layers} }

// UnitImportances returns the names of the ways to rank units.
func UnitImportances() []Importance {
	return []Importance{ByL1, ByL2, ByBN, ByMedian, ByActivity, ByAblation}
}

// goals counts what a search is for.
func (o *StructureOptions) goals() (n int) {
	for _, g := range []float64{o.MACsRatio, o.ParamsRatio, o.LatencyRatio, o.MaxDrop, o.MinSQNR} {
		if g != 0 {
			n++
		}
	}
	return n
}

// looks reports whether the model is compared with the original on the data.
func (o *StructureOptions) looks() bool {
	return o.Importance == ByAblation || o.LatencyRatio > 0 || o.MaxDrop > 0 || o.MinSQNR > 0 || len(o.repairs) > 0
}

// measured reports whether the model runs on data before it is pruned.
func (o *StructureOptions) measured() bool {
	return o.Importance == ByActivity || o.Importance == ByAblation || o.Pattern == Layers || len(o.repairs) > 0 || o.LatencyRatio > 0 || o.MaxDrop > 0 || o.MinSQNR > 0
}

// AskedUnits returns the rewrites that stay in the result whatever an engine makes
// of them, since they are what was asked for.
func AskedUnits() []string { return []string{structurePass, blocksPass} }

// CheckNames returns an error where the options do not go together, before there
// are data and an engine.
func (o StructureOptions) CheckNames(data bool) error {
	if data {
		o.Data = &trial.Options{}
	}
	return o.validate()
}

func (o *StructureOptions) validate() error {
	for name, v := range map[string]float64{"sparsity": o.Sparsity, "macs-ratio": o.MACsRatio, "params-ratio": o.ParamsRatio, "floor": o.Floor} {
		if math.IsNaN(v) || v < 0 || v >= 1 {
			return fmt.Errorf("%s %v is not a share from 0 to below 1", name, v)
		}
	}
	if o.Importance == "" {
		o.Importance = ByL2
	}
	if o.Scope == "" {
		o.Scope = Global
	}
	var err error
	if o.repairs, err = repairsNamed(o.Repair, UnitRepairs(), o.Data != nil, o.Synthetic); err != nil {
		return err
	}
	if o.Sparsity == 0 && o.goals() == 0 {
		o.repairs = nil // nothing goes that anything could make up for
	}
	switch {
	case !slices.Contains(Units(), o.Pattern):
		return fmt.Errorf("pattern %q is unknown; want one of %v", o.Pattern, Units())
	case !slices.Contains(UnitImportances(), o.Importance):
		return fmt.Errorf("importance %q is unknown for pattern %s; want one of %v", o.Importance, o.Pattern, UnitImportances())
	case o.Scope != Global && o.Scope != Layer:
		return fmt.Errorf("scope %q is unknown for pattern %s; want global or layer", o.Scope, o.Pattern)
	case o.LatencyRatio < 0 || o.MaxDrop < 0 || o.RoundTo < 0 || math.IsNaN(o.MinSQNR) || math.IsNaN(o.LatencyRatio) || math.IsNaN(o.MaxDrop):
		return errors.New("goals and multiples must not be negative")
	case o.goals() > 1:
		return errors.New("macs-ratio, params-ratio, latency-ratio, max-drop and min-sqnr exclude each other")
	case o.goals() > 0 && o.Pattern == Layers:
		return errors.New("pattern layers removes a share of the blocks; give a sparsity and no other goal")
	case o.measured() && o.Data == nil:
		return errors.New("what is asked for is measured on data; give it some, with --data")
	}
	return checkPatterns(append(append([]string(nil), o.Include...), o.Exclude...))
}
