package report

import "fmt"

// facts returns the figures of the explanation section as pairs of name and value: all of the first method, and the main ones of the
// others.
func (e *Explanation) facts() [][2]string {
	out := [][2]string{{"method", clean(e.Method)}, {"samples", FormatCount(e.Samples)}}
	f := factList{&out, ""}
	if e.Perturbations > 0 {
		out = append(out, [2]string{"inferences per map", FormatCount(e.Perturbations)})
	}
	e.similarities(f)
	e.faithfulness(f)
	e.limits(f)
	for i := range e.Others {
		o := &e.Others[i]
		f := factList{&out, clean(o.Method) + ": "}
		f.add("rank correlation, median", UnitNone, o.Spearman, o.CI95)
		f.add(fmt.Sprintf("overlap of the top %d features", o.TopK), UnitFraction, o.TopKJaccard, o.TopKCI95)
		f.add("cross-faithfulness", UnitRatio, o.CrossFaithfulness, o.CrossCI95)
		o.limits(f)
	}
	return out
}

// factList collects facts whose names start with a prefix.
type factList struct {
	out    *[][2]string
	prefix string
}

func (f factList) add(name, unit string, v *float64, ci *Interval) {
	if v != nil {
		*f.out = append(*f.out, [2]string{f.prefix + name, estimate(unit, v, ci)})
	}
}

// similarities says how alike the two maps are.
func (e *Explanation) similarities(f factList) {
	f.add("rank correlation, median", UnitNone, e.Spearman, e.CI95)
	f.add("rank correlation, 10th percentile", UnitNone, e.SpearmanP10, nil)
	f.add(fmt.Sprintf("overlap of the top %d features", e.TopK), UnitFraction, e.TopKJaccard, e.TopKCI95)
	f.add("cosine, median", UnitNone, e.Cosine, e.CosineCI95)
	f.add("structural similarity, median", UnitNone, e.SSIM, e.SSIMCI95)
	f.add("same sign of the top features", UnitFraction, e.Sign, e.SignCI95)
	f.add("distance of the top features, mean, in cells", UnitNone, e.ArgmaxDistance, e.ArgmaxDistanceCI95)
	f.add("importance that lies elsewhere", UnitFraction, e.MassDisplacement, e.MassDisplacementCI95)
}

// faithfulness says how well the maps tell what the models depend on.
func (e *Explanation) faithfulness(f factList) {
	for _, c := range []struct {
		name string
		f    *Faithfulness
	}{{"deletion", e.Deletion}, {"insertion", e.Insertion}} {
		if c.f == nil {
			continue
		}
		f.add(c.name+", baseline's maps on the baseline", UnitNone, c.f.Baseline, nil)
		f.add(c.name+", candidate's maps on the candidate", UnitNone, c.f.Candidate, nil)
		f.add(c.name+", difference", UnitNone, c.f.Delta, c.f.DeltaCI95)
	}
	f.add("cross-faithfulness", UnitRatio, e.CrossFaithfulness, e.CrossCI95)
	f.add("perturbations without any effect on the candidate", UnitFraction, e.DeadPerturbations, nil)
	if e.DeadMaps > 0 {
		*f.out = append(*f.out, [2]string{"constant maps", FormatCount(e.DeadMaps)})
	}
}

// limits says what the method cannot tell apart.
func (e *Explanation) limits(f factList) {
	f.add("noise floor (baseline with itself)", UnitNone, e.NoiseFloor, nil)
	if c := e.Calibrated; c != nil {
		f.add("calibrated limit of the rank correlation", UnitNone, c.Spearman, nil)
		f.add("calibrated limit of the overlap", UnitFraction, c.TopKJaccard, nil)
	}
	f.add("self check (baseline with itself)", UnitNone, e.SelfCheck, nil)
	f.add("standard error of an attribution, of the largest", UnitFraction, e.StandardError, nil)
	f.add("what attributions lack to add up, at worst", UnitFraction, e.CompletenessResidual, nil)
	for _, c := range []struct {
		role  string
		nodes *int
	}{{"baseline", e.BaselineStraightThrough}, {"candidate", e.StraightThrough}} {
		if c.nodes != nil && *c.nodes > 0 {
			*f.out = append(*f.out, [2]string{f.prefix + "straight-through nodes of the " + c.role, FormatCount(*c.nodes)})
		}
	}
}
