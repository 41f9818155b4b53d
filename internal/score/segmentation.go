package score

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Segmentation scores models that give every pixel a class. State: 40 bytes per class and bootstrap replicate, again for each slice;
// it does not grow with samples or pixels.
type Segmentation struct {
	o       Options
	n       int
	all     *regions
	slices  map[string]*regions
	same    ratio // share of pixels that both models give the same class, as the candidate's measure
	weights []uint8
}

// maxSlices bounds the groups that replicates are kept for.
const maxSlices = 64

// SegmentationResult is the comparison of two segmentations.
type SegmentationResult struct {
	N, Pixels  int
	MIoU       Paired // mean over the classes in the labels of intersection / union
	Pixel      Paired // "pixel-accuracy": share of pixels with the right class
	PerClass   []Slice
	Slices     []Slice // MIoU by name
	Same       Share   // pixels to which both models give the same class; its interval takes samples as units
	TooMany    bool    // there are more slices than are scored
	Classes    int     // in the labels
	Warnings   []string
	OutOfRange int // pixels whose predicted class no label has
}

// regions are sums of pixels, as they are and in each replicate.
type regions struct {
	samples int
	moved   int
	class   map[int]*classRegions
}

// classRegions counts the pixels of one class: index 0 as they are, from 1 on by replicate.
type classRegions struct {
	samples int // with the class in their label
	truth   []float64
	claimed [2][]float64 // baseline, candidate
	both    [2][]float64 // claimed and true
}

func newClassRegions(resamples int) *classRegions {
	row := func() []float64 { return make([]float64, resamples+1) }
	return &classRegions{truth: row(), claimed: [2][]float64{row(), row()}, both: [2][]float64{row(), row()}}
}

// pixels are the counts of one class in one sample.
type pixels struct {
	truth         float64
	claimed, both [2]float64
}

// NewSegmentation returns an empty scorer.
func NewSegmentation(o Options) (*Segmentation, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	return &Segmentation{
		o: o, all: &regions{class: map[int]*classRegions{}}, slices: map[string]*regions{}, same: ratio{share: true},
		weights: make([]uint8, o.Resamples),
	}, nil
}

// Add scores the classes of one sample's pixels; pixels whose true class is Options.Ignore are left out. It errs, leaving the scorer
// as it was, when lengths differ or a true class is negative.
func (g *Segmentation) Add(s Sample, truth, baseline, candidate []int) error {
	if len(truth) == 0 || len(baseline) != len(truth) || len(candidate) != len(truth) {
		return fmt.Errorf("sample %q: the label map has %d pixels, the baseline's output %d and the candidate's %d, want equal numbers above 0",
			s.ID, len(truth), len(baseline), len(candidate))
	}
	counts := map[int]*pixels{}
	of := func(class int) *pixels {
		p := counts[class]
		if p == nil {
			p = new(pixels)
			counts[class] = p
		}
		return p
	}
	moved := false
	for i, t := range truth {
		if t == g.o.Ignore {
			continue
		}
		if t < 0 {
			return fmt.Errorf("sample %q: pixel %d of the label map is class %d", s.ID, i, t)
		}
		p := of(t)
		p.truth++
		for m, c := range [2]int{baseline[i], candidate[i]} {
			if c == t {
				p.both[m]++
			}
			of(c).claimed[m]++
		}
		moved = moved || baseline[i] != candidate[i]
	}
	for i, t := range truth {
		if t != g.o.Ignore {
			g.same.item(0, number(baseline[i] == candidate[i]))
		}
	}
	g.same.close()
	g.weights = sampleWeights(g.weights, g.o.Seed, g.n)
	g.n++
	g.all.add(counts, g.weights, moved)
	for i, name := range s.Slices {
		if slices.Contains(s.Slices[:i], name) {
			continue
		}
		if g.slices[name] == nil && len(g.slices) < maxSlices {
			g.slices[name] = &regions{class: map[int]*classRegions{}}
		}
		if r := g.slices[name]; r != nil {
			r.add(counts, g.weights, moved)
		} else {
			g.slices[""] = nil // marks that there are more
		}
	}
	return nil
}

func (r *regions) add(counts map[int]*pixels, weights []uint8, moved bool) {
	r.samples++
	r.moved += int(number(moved))
	for class, p := range counts {
		c := r.class[class]
		if c == nil {
			c = newClassRegions(len(weights))
			r.class[class] = c
		}
		if p.truth > 0 {
			c.samples++
		}
		accumulate(c.truth, p.truth, weights)
		for m := range p.both {
			accumulate(c.claimed[m], p.claimed[m], weights)
			accumulate(c.both[m], p.both[m], weights)
		}
	}
}

func accumulate(sums []float64, v float64, weights []uint8) {
	if v == 0 {
		return
	}
	sums[0] += v
	for r, w := range weights {
		sums[r+1] += v * float64(w)
	}
}

// iou is intersection / union of the class in a replicate; NaN where no true pixel is left.
func (c *classRegions) iou(model, replicate int) float64 {
	if c.truth[replicate] == 0 {
		return math.NaN()
	}
	return c.both[model][replicate] / (c.truth[replicate] + c.claimed[model][replicate] - c.both[model][replicate])
}

// miou is the mean over the classes with true pixels, pixel the share of right ones; both NaN without any.
func (r *regions) miou(model, replicate int) (miou, pixel float64) {
	sum, count, right, all := 0.0, 0.0, 0.0, 0.0
	for _, class := range r.order() {
		c := r.class[class]
		if v := c.iou(model, replicate); !math.IsNaN(v) {
			sum += v
			count++
		}
		right += c.both[model][replicate]
		all += c.truth[replicate]
	}
	return sum / count, right / all
}

// order returns the classes in ascending order, so that sums do not depend on that of a map.
func (r *regions) order() []int {
	out := make([]int, 0, len(r.class))
	for c := range r.class {
		out = append(out, c)
	}
	slices.Sort(out)
	return out
}

func (r *regions) drawn(resamples int) (miou, pixel *drawn) {
	miou = &drawn{d: newDraws(resamples), n: r.samples, moved: r.moved}
	pixel = &drawn{d: newDraws(resamples), n: r.samples, moved: r.moved}
	miou.baseline, pixel.baseline = r.miou(0, 0)
	miou.candidate, pixel.candidate = r.miou(1, 0)
	for rep := range resamples {
		miou.d.baseline[rep], pixel.d.baseline[rep] = r.miou(0, rep+1)
		miou.d.candidate[rep], pixel.d.candidate[rep] = r.miou(1, rep+1)
	}
	return miou, pixel
}

// Result returns the comparison so far; it errs when no labelled pixel was added.
func (g *Segmentation) Result() (*SegmentationResult, error) {
	out := &SegmentationResult{N: g.n}
	perClass := map[string]*drawn{}
	for _, class := range g.all.order() {
		c := g.all.class[class]
		if out.Pixels += int(c.truth[0]); c.truth[0] == 0 {
			out.OutOfRange += int(c.claimed[1][0])
			continue
		}
		d := &drawn{d: newDraws(g.o.Resamples), baseline: c.iou(0, 0), candidate: c.iou(1, 0), n: c.samples, moved: g.all.moved}
		for rep := range g.o.Resamples {
			d.d.baseline[rep], d.d.candidate[rep] = c.iou(0, rep+1), c.iou(1, rep+1)
		}
		perClass[strconv.Itoa(class)] = d
	}
	if out.Pixels == 0 {
		return nil, fmt.Errorf("there are no labelled pixels to score in %d samples", g.n)
	}
	out.Classes = len(perClass)
	miou, pixel := g.all.drawn(g.o.Resamples)
	out.MIoU, out.Pixel = miou.paired("miou", g.o.Confidence), pixel.paired("pixel-accuracy", g.o.Confidence)
	out.PerClass = slicesOf(perClass, g.o)
	byClass(out.PerClass)
	if _, more := g.slices[""]; more && g.slices[""] == nil {
		out.TooMany = true
		delete(g.slices, "")
		out.Warnings = append(out.Warnings, fmt.Sprintf("more than %d slices: only the first %d are scored", maxSlices, maxSlices))
	}
	groups := map[string]*drawn{}
	for name, r := range g.slices {
		if d, _ := r.drawn(g.o.Resamples); !math.IsNaN(d.baseline) {
			groups[name] = d
		}
	}
	out.Slices = slicesOf(groups, g.o)
	same := g.same.paired("", g.o.Confidence)
	out.Same = Share{Count: int(math.Round(same.Candidate * float64(same.N))), N: same.N, Value: same.Candidate, Low: max(0, same.Low), High: min(1, same.High)}
	if g.n < 30 {
		out.Warnings = append(out.Warnings, few(g.n, "miou"))
	}
	return out, nil
}
