package prune

import (
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Importance says by what units or weights are ranked.
type Importance string

// The criteria for units. Magnitudes count every weight tensor that a unit has a
// slice of, each relative to the mean of its group.
const (
	ByL1       Importance = "l1"
	ByL2       Importance = "l2"
	ByBN       Importance = "bn-scale"   // |scale| of BatchNormalization (Liu et al., "Network Slimming", 2017)
	ByMedian   Importance = "geomedian"  // distance to the other filters (He et al., FPGM, 2019)
	ByActivity Importance = "activation" // second moment times the squared weights that read it
	ByAblation Importance = "ablation"   // what the outputs lose without it, measured
)

// scorer ranks the units of groups.
type scorer struct {
	d      *dims
	by     Importance
	energy map[int][]float64 // by axis index: L1 or squared L2 norm of each position's slice

	reads   []contraction
	stats   map[string]*calibrate.Stats
	ablated *ablation
}

// score returns one number per unit of g; low ones go first.
func (s *scorer) score(g *group) ([]float64, error) {
	switch s.by {
	case ByBN:
		if scores, err := s.batchNorm(g); scores != nil || err != nil {
			return scores, err
		}
	case ByActivity:
		if scores, err := s.activity(g); scores != nil || err != nil {
			return scores, err
		}
	case ByAblation:
		if scores := s.ablated.scores[g.key(s.d)]; len(scores) == len(g.units) {
			return scores, nil
		}
	case ByMedian:
		if scores, err := s.median(g); scores != nil || err != nil {
			return scores, err
		}
	}
	return s.magnitude(g)
}

// magnitude sums the norms of the slices of all weights of at least two axes.
func (s *scorer) magnitude(g *group) ([]float64, error) {
	out := make([]float64, len(g.units))
	for _, i := range g.axes {
		t := s.d.axes[i].Value.Constant()
		if t == nil || len(t.Shape) < 2 || !t.DType.IsFloat() {
			continue
		}
		e, err := s.norms(i, t)
		if err != nil {
			return nil, err
		}
		part := make([]float64, len(out))
		total := 0.0
		for k, u := range g.units {
			for _, p := range u.on(i) {
				part[k] += e[p]
			}
			total += part[k]
		}
		if total == 0 {
			continue
		}
		for k := range out {
			out[k] += part[k] / total * float64(len(out))
		}
	}
	return out, nil
}

// on returns the unit's positions on an axis.
func (u unit) on(axis int) []int {
	lo, _ := slices.BinarySearchFunc(u.places, axis, func(p place, a int) int { return p.axis - a })
	var out []int
	for _, p := range u.places[lo:] {
		if p.axis != axis {
			break
		}
		out = append(out, p.position)
	}
	return out
}

// norms returns the norm of each slice along an axis of t.
func (s *scorer) norms(i int, t *onnx.Tensor) ([]float64, error) {
	if e := s.energy[i]; e != nil {
		return e, nil
	}
	values, err := t.Float64s()
	if err != nil {
		return nil, fmt.Errorf("%q: %w", t.Name, err)
	}
	axis := s.d.axes[i].Axis.Axis
	size, inner := int(t.Shape[axis]), 1
	for _, n := range t.Shape[axis+1:] {
		inner *= int(n)
	}
	e := make([]float64, size)
	for j := 0; j < len(values); j += inner {
		k := j / inner % size
		for _, x := range values[j : j+inner] {
			if s.by == ByL1 {
				e[k] += math.Abs(x)
			} else {
				e[k] += x * x
			}
		}
	}
	s.energy[i] = e
	return e, nil
}

// batchNorm returns |scale| where a BatchNormalization has the units as channels.
func (s *scorer) batchNorm(g *group) ([]float64, error) {
	var out []float64
	for _, i := range g.axes {
		v := s.d.axes[i].Value
		t := v.Constant()
		if t == nil || len(t.Shape) != 1 || !slices.ContainsFunc(v.Uses(), func(u onnx.Use) bool { return u.Node.Is("BatchNormalization") && u.Index == 1 }) {
			continue
		}
		scale, err := t.Float64s()
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = make([]float64, len(g.units))
		}
		for k, u := range g.units {
			for _, p := range u.on(i) {
				out[k] += math.Abs(scale[p])
			}
		}
	}
	return out, nil
}

// medianWork bounds the products for one group's distances; longer filters are sampled.
const medianWork = 1 << 31

// median returns the sum of each filter's distances to the others of its group,
// over the weights that produce the units.
func (s *scorer) median(g *group) ([]float64, error) {
	var filters [][]float64
	for _, i := range g.axes {
		a := s.d.axes[i]
		t := a.Value.Constant()
		if t == nil || len(t.Shape) < 2 || !t.DType.IsFloat() || !produces(a.Value, a.Axis.Axis) {
			continue
		}
		values, err := t.Float64s()
		if err != nil {
			return nil, err
		}
		if filters == nil {
			filters = make([][]float64, len(g.units))
		}
		for k, u := range g.units {
			for _, p := range u.on(i) {
				filters[k] = append(filters[k], slice(values, t.Shape, a.Axis.Axis, p)...)
			}
		}
	}
	if filters == nil {
		return nil, nil
	}
	n := len(filters)
	step := max(n*n*len(filters[0])/medianWork, 1)
	out := make([]float64, n)
	for a := range n {
		for b := range a {
			sum := 0.0
			for k := 0; k < len(filters[a]) && k < len(filters[b]); k += step {
				x := filters[a][k] - filters[b][k]
				sum += x * x
			}
			out[a] += math.Sqrt(sum)
			out[b] += math.Sqrt(sum)
		}
	}
	return out, nil
}

// produces reports whether an axis of a weight counts what its node computes, and
// not what it takes in.
func produces(v *onnx.Value, axis int) bool {
	for _, u := range v.Uses() {
		switch u.Node.Op {
		case "Conv", "FusedConv":
			return axis == 0
		case "ConvTranspose":
			return axis == 1
		case "MatMul":
			return u.Index == 1 && axis == len(v.Constant().Shape)-1
		case "Gemm":
			return (axis == 0) == (u.Node.Int("transB", 0) != 0)
		}
	}
	return false
}

// slice copies what a tensor holds at one position of an axis.
func slice(values []float64, shape []int64, axis, position int) []float64 {
	inner := 1
	for _, n := range shape[axis+1:] {
		inner *= int(n)
	}
	size := int(shape[axis])
	var out []float64
	for at := position * inner; at < len(values); at += size * inner {
		out = append(out, values[at:at+inner]...)
	}
	return out
}
