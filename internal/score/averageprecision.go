package score

import (
	"cmp"
	"math"
	"slices"
)

// finding is a found box of one class with the sample that it is in.
type finding struct {
	matched
	sample int32
}

// objects are the true boxes of one class: how many each sample has, those to be ignored left out.
type objects struct {
	sample int32
	n      int32
}

// precisionCurve holds what averagePrecision needs again and again.
type precisionCurve struct{ recall, precision []float64 }

// averagePrecision is the mean precision at the recalls 0, 0.01 … 1 of findings in order of falling score, with a weight per sample;
// precision at a recall is the highest at that recall or above. It also returns the recall reached.
//
// Source: cocodataset/cocoapi, cocoeval.py, accumulate.
func (c *precisionCurve) averagePrecision(all []finding, bit int, weight []uint8, positives float64) (ap, recall float64) {
	c.recall, c.precision = c.recall[:0], c.precision[:0]
	right, wrong := 0.0, 0.0
	mask := uint16(1) << bit
	for i := range all {
		w := float64(weight[all[i].sample])
		switch {
		case w == 0 || all[i].ignored&mask != 0:
			continue
		case all[i].right&mask != 0:
			right += w
		default:
			wrong += w
		}
		c.recall = append(c.recall, right/positives)
		c.precision = append(c.precision, right/(right+wrong))
	}
	for i := len(c.precision) - 2; i >= 0; i-- {
		c.precision[i] = max(c.precision[i], c.precision[i+1])
	}
	sum, at := 0.0, 0
	for step := range 101 {
		for at < len(c.recall) && c.recall[at] < recalls[step] {
			at++
		}
		if at == len(c.recall) {
			break
		}
		sum += c.precision[at]
	}
	return sum / 101, right / positives
}

// recalls are numpy.linspace(0, 1, 101), to the last bit, as COCO has them.
var recalls = func() (at [101]float64) {
	for i := range at {
		at[i] = float64(i) * 0.01
	}
	at[100] = 1
	return at
}()

// precisions are the figures of one class, or their means over classes.
type precisions struct{ all, half, threeQuarters, recall float64 }

func (p precisions) of(metric int) float64 {
	return [4]float64{p.all, p.half, p.threeQuarters, p.recall}[metric]
}

// classFindings is all that is known of one class.
type classFindings struct {
	truth  []objects
	found  [2][]finding // baseline, candidate
	sorted bool
}

// sort puts findings in the order in which precision falls; equal scores stay in the order of arrival.
func (c *classFindings) sort() {
	if c.sorted {
		return
	}
	for _, f := range c.found {
		slices.SortStableFunc(f, func(a, b finding) int { return cmp.Compare(b.score, a.score) })
	}
	c.sorted = true
}

func (c *classFindings) positives(weight []uint8) float64 {
	sum := 0.0
	for _, t := range c.truth {
		sum += float64(weight[t.sample]) * float64(t.n)
	}
	return sum
}

// precisions returns the class's figures of one model under the weights; NaN where no object is left.
func (c *classFindings) precisions(curve *precisionCurve, model int, weight []uint8) precisions {
	n := c.positives(weight)
	if n == 0 {
		return precisions{math.NaN(), math.NaN(), math.NaN(), math.NaN()}
	}
	var p precisions
	for bit := range thresholds {
		ap, recall := curve.averagePrecision(c.found[model], bit, weight, n)
		p.all += ap / float64(len(thresholds))
		p.recall += recall / float64(len(thresholds))
		switch bit {
		case 0:
			p.half = ap
		case 5:
			p.threeQuarters = ap
		}
	}
	return p
}

// only returns the class with nothing but what lies in the chosen samples.
func (c *classFindings) only(chosen []bool) *classFindings {
	out := &classFindings{sorted: c.sorted}
	for _, t := range c.truth {
		if chosen[t.sample] {
			out.truth = append(out.truth, t)
		}
	}
	for m, list := range c.found {
		for _, f := range list {
			if chosen[f.sample] {
				out.found[m] = append(out.found[m], f)
			}
		}
	}
	return out
}
