package score

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Detection scores models that find boxes, as COCO does. State: 16 bytes per box found, of which at most 100 per class and sample
// count, and 8 per true class and sample; precision needs all scores of a data set in one order.
type Detection struct {
	o         Options
	n         int
	moved     int
	classes   map[int]*classFindings
	slices    map[string]*[]int32
	found     ratio // share of objects found, clustered by sample
	outcomes  outcomes
	flips     Flips
	nonFinite NonFinite
}

// DetectionResult is the comparison of two detectors.
type DetectionResult struct {
	N, Objects int
	// Mean average precision over classes: over the IoU thresholds 0.50 to 0.95, at 0.5 and at 0.75; and the recall by at most 100
	// boxes per class and sample, over the thresholds.
	MAP, MAP50, MAP75, Recall Paired
	Found                     Paired  // share of objects found at IoU 0.5
	PerClass                  []Slice // average precision by class, as MAP
	Slices                    []Slice // MAP by name
	Flips                     Flips   // of objects found or not at IoU 0.5
	Resamples                 int
	NonFinite                 NonFinite
	Warnings                  []string
}

// NewDetection returns an empty scorer.
func NewDetection(o Options) (*Detection, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	return &Detection{o: o, classes: map[int]*classFindings{}, slices: map[string]*[]int32{}, found: ratio{share: true}}, nil
}

// Add scores the boxes that both models find in one sample, whose Label is not used. A box whose score or corners are not numbers
// counts as such and is dropped. It errs, leaving the scorer as it was, where a true box is not one: NaN, or right and left, or top
// and bottom, swapped.
func (d *Detection) Add(s Sample, truth, baseline, candidate []Box) error {
	for i, t := range truth {
		if !t.finite() || t.X2 < t.X1 || t.Y2 < t.Y1 || t.Class < 0 {
			return fmt.Errorf("sample %q: true box %d is not one: x from %v to %v, y from %v to %v, class %d", s.ID, i, t.X1, t.X2, t.Y1, t.Y2, t.Class)
		}
	}
	at := int32(d.n)
	d.n++
	var bad [2]bool
	models := [2]map[int][]Box{{}, {}}
	for m, list := range [2][]Box{baseline, candidate} {
		for _, b := range list {
			if bad[m] = bad[m] || !b.finite(); b.finite() {
				models[m][b.Class] = append(models[m][b.Class], b)
			}
		}
	}
	d.nonFinite.add(s.ID, bad[0], bad[1])
	byClass := map[int][]int{}
	for i, t := range truth {
		byClass[t.Class] = append(byClass[t.Class], i)
	}
	moved := false
	for _, class := range classesOf(byClass, models) {
		moved = d.addClass(s, at, class, pick(truth, byClass[class]), byClass[class], [2][]Box{models[0][class], models[1][class]}) || moved
	}
	d.found.close()
	if moved {
		d.moved++
	}
	intoSlices(d.slices, s.Slices, func(list *[]int32) { *list = append(*list, at) })
	return nil
}

func classesOf(truth map[int][]int, models [2]map[int][]Box) []int {
	var out []int
	for c := range truth {
		out = append(out, c)
	}
	for _, m := range models {
		for c := range m {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func pick(all []Box, at []int) []Box {
	out := make([]Box, len(at))
	for i, k := range at {
		out[i] = all[k]
	}
	return out
}

// addClass scores one class of one sample and says whether the models differ in it.
func (d *Detection) addClass(s Sample, at int32, class int, truth []Box, index []int, found [2][]Box) (moved bool) {
	c := d.classes[class]
	if c == nil {
		c = new(classFindings)
		d.classes[class] = c
	}
	if n := positives(truth); n > 0 {
		c.truth = append(c.truth, objects{at, n})
	}
	var out [2][]matched
	var hit [2][]bool
	for m := range found {
		out[m], hit[m] = match(truth, found[m])
		for _, x := range out[m] {
			c.found[m] = append(c.found[m], finding{x, at})
		}
	}
	for i, t := range truth {
		if t.Ignore {
			continue
		}
		right := [2]bool{hit[0][i], hit[1][i]}
		d.outcomes.add(right[0], right[1])
		d.found.item(number(right[0]), number(right[1]))
		flip := Flip{ID: s.ID + "#" + strconv.Itoa(index[i]), Label: class, Baseline: seen(class, right[0]), Candidate: seen(class, right[1])}
		d.flips.add(flip, right[0], right[1], d.o.MaxFlips)
	}
	return !slices.EqualFunc(out[0], out[1], func(a, b matched) bool { return a.right == b.right && a.ignored == b.ignored })
}

func positives(truth []Box) int32 {
	n := int32(0)
	for _, t := range truth {
		if !t.Ignore {
			n++
		}
	}
	return n
}

func seen(class int, found bool) int {
	if found {
		return class
	}
	return -1
}

// Result returns the comparison so far; it errs when no object was to be found.
func (d *Detection) Result() (*DetectionResult, error) {
	if d.outcomes.n() == 0 {
		return nil, fmt.Errorf("there are no objects to find in the labels of %d samples", d.n)
	}
	for _, c := range d.classes {
		c.sort()
	}
	r := &DetectionResult{
		N: d.n, Objects: d.outcomes.n(), Flips: d.flips, NonFinite: d.nonFinite, Resamples: d.resamples(),
		Found: d.found.paired("found50", d.o.Confidence),
	}
	all := d.bootstrap(d.classes, r.Resamples)
	conf := d.o.Confidence
	r.MAP = all.metric(0, conf, d.n, d.moved)
	r.MAP.Metric = "map"
	for i, p := range []*Paired{&r.MAP50, &r.MAP75, &r.Recall} {
		*p = all.metric(i+1, conf, d.n, d.moved)
		p.Metric = []string{"map50", "map75", "recall100"}[i]
	}
	r.PerClass = slicesOf(all.perClass(d), d.o)
	byClass(r.PerClass)
	r.Slices = slicesOf(d.sliceGroups(r.Resamples), d.o)
	r.Warnings = r.NonFinite.warnings()
	if d.n < 30 {
		r.Warnings = append(r.Warnings, few(d.n, "map"))
	}
	return r, nil
}

// resamples bounds the work of the bootstrap to about 2e9 steps.
func (d *Detection) resamples() int {
	boxes := 1
	for _, c := range d.classes {
		boxes += len(c.found[0]) + len(c.found[1])
	}
	return min(d.o.Resamples, max(200, int(2e9/float64(boxes*len(thresholds)))))
}

// resampled holds the figures of every class and model, estimated (index 0) and in each replicate (from 1 on).
type resampled struct {
	classes []int
	figures [][2][]precisions // by replicate, model, class
}

func (d *Detection) bootstrap(classes map[int]*classFindings, resamples int) *resampled {
	r := &resampled{}
	for c, f := range classes {
		if len(f.truth) > 0 {
			r.classes = append(r.classes, c)
		}
	}
	slices.SortFunc(r.classes, cmp.Compare)
	weights := make([][]uint8, d.n) // by sample, replicate
	for i := range weights {
		weights[i] = sampleWeights(make([]uint8, resamples), d.o.Seed, i)
	}
	weight := make([]uint8, d.n)
	for i := range weight {
		weight[i] = 1
	}
	var curve precisionCurve
	for rep := range resamples + 1 {
		if rep > 0 {
			for i := range weight {
				weight[i] = weights[i][rep-1]
			}
		}
		var figures [2][]precisions
		for m := range figures {
			for _, c := range r.classes {
				figures[m] = append(figures[m], classes[c].precisions(&curve, m, weight))
			}
		}
		r.figures = append(r.figures, figures)
	}
	return r
}

// metric compares the mean over classes of one of the figures.
func (r *resampled) metric(metric int, confidence float64, n, moved int) Paired {
	g := r.drawn(metric, n, moved)
	return g.paired("", confidence)
}

// drawn returns the mean over classes of one of the figures, over n samples of which moved differ.
func (r *resampled) drawn(metric, n, moved int) *drawn {
	g := &drawn{d: newDraws(len(r.figures) - 1), n: n, moved: moved}
	g.baseline, g.candidate = r.meanAt(0, metric)
	for rep := range r.figures[1:] {
		g.d.baseline[rep], g.d.candidate[rep] = r.meanAt(rep+1, metric)
	}
	return g
}

// drawn is a slice of which the replicates are known.
type drawn struct {
	d                   draws
	baseline, candidate float64
	n, moved            int
}

func (g *drawn) paired(metric string, confidence float64) Paired {
	return g.d.paired(metric, confidence, g.baseline, g.candidate, g.n, g.moved)
}

// perClass returns the classes as slices; their samples are those with an object of the class.
func (r *resampled) perClass(d *Detection) map[string]*drawn {
	out := map[string]*drawn{}
	for i, c := range r.classes {
		g := &drawn{d: newDraws(len(r.figures) - 1), n: len(d.classes[c].truth), moved: d.moved}
		g.baseline, g.candidate = r.figures[0][0][i].all, r.figures[0][1][i].all
		for rep, f := range r.figures[1:] {
			g.d.baseline[rep], g.d.candidate[rep] = f[0][i].all, f[1][i].all
		}
		out[strconv.Itoa(c)] = g
	}
	return out
}

// sliceGroups scores the samples of each slice by themselves.
func (d *Detection) sliceGroups(resamples int) map[string]*drawn {
	out := map[string]*drawn{}
	for name, samples := range d.slices {
		chosen := make([]bool, d.n)
		for _, i := range *samples {
			chosen[i] = true
		}
		classes := map[int]*classFindings{}
		for c, f := range d.classes {
			classes[c] = f.only(chosen)
		}
		r := d.bootstrap(classes, resamples)
		if len(r.classes) == 0 {
			continue // no object in the whole slice
		}
		out[name] = r.drawn(0, len(*samples), d.moved)
	}
	return out
}

// meanAt is the mean of one of the figures over classes in one replicate, of both models; NaN where no object is left.
func (r *resampled) meanAt(rep, metric int) (baseline, candidate float64) {
	var v [2]float64
	for m, list := range r.figures[rep] {
		sum, count := 0.0, 0
		for _, p := range list {
			if x := p.of(metric); !math.IsNaN(x) {
				sum += x
				count++
			}
		}
		v[m] = sum / float64(count)
	}
	return v[0], v[1]
}
