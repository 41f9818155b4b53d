package bisect

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/produce"
)

// Kind is the way in which a model is bad.
type Kind string

// The kinds of faults.
const (
	Load  Kind = "load"  // the engine does not load it, or crashes
	Run   Kind = "run"   // it loads and does not run, or crashes the engine
	Wrong Kind = "wrong" // it runs and computes something else
)

// Kinds lists the kinds of faults.
var Kinds = []Kind{Load, Run, Wrong}

// Fault is what is bad about a model.
type Fault struct {
	Kind   Kind   `json:"kind"`
	Reason string `json:"reason"`
}

func (f *Fault) String() string { return f.Reason }

// faultOf classifies an error of a check; nil where it is none about the model.
func faultOf(err error) *Fault {
	var m *produce.Mismatch
	var f *produce.Failure
	switch {
	case errors.As(err, &m):
		return &Fault{Wrong, err.Error()}
	case errors.As(err, &f):
		return &Fault{Kind(f.Stage), err.Error()}
	}
	return nil
}

// wants reports whether f is of a kind that is looked for; no kinds are all kinds.
func wants(kinds []Kind, f *Fault) bool {
	return f != nil && (len(kinds) == 0 || slices.Contains(kinds, f.Kind))
}

// Broken is a value that two models compute differently.
type Broken struct {
	Value     string   `json:"value"`
	Node      string   `json:"node"`                // what computes it, in text form
	Reference string   `json:"reference,omitempty"` // what computes it in the good model
	Sample    string   `json:"sample"`
	Tolerance string   `json:"tolerance"`
	Reason    string   `json:"reason"`
	MaxAbs    *float64 `json:"max_abs,omitempty"` // absent where it has no number
	SQNR      *float64 `json:"sqnr_db,omitempty"`
}

// measure fills in by how much the value is off.
func (b *Broken) measure(d *compare.Distance) {
	b.Tolerance, b.Reason = d.Class, d.Reason
	b.MaxAbs, b.SQNR = finite(d.MaxAbs), finite(d.SQNR)
}

func finite(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

func (b *Broken) String() string {
	return fmt.Sprintf("%s on sample %s: %s", b.Value, b.Sample, b.Reason)
}
