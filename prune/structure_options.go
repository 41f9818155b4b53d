package prune

import (
	"fmt"
	"math"
)

// Pattern says what goes together.
type Pattern string

// The patterns that make tensors smaller. Pruning of single weights keeps shapes.
const (
	Channels Pattern = "channels" // of convolutions, and neurons of dense layers
	Neurons  Pattern = "neurons"  // between dense layers
	Heads    Pattern = "heads"    // of attention
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
}

func (o *StructureOptions) validate() error {
	for name, v := range map[string]float64{"sparsity": o.Sparsity, "macs-ratio": o.MACsRatio, "params-ratio": o.ParamsRatio, "floor": o.Floor} {
		if math.IsNaN(v) || v < 0 || v >= 1 {
			return fmt.Errorf("%s %v is not a share from 0 to below 1", name, v)
		}
	}
	if o.MACsRatio > 0 && o.ParamsRatio > 0 {
		return fmt.Errorf("macs-ratio and params-ratio exclude each other")
	}
	return checkPatterns(append(append([]string(nil), o.Include...), o.Exclude...))
}
