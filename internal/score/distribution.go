package score

import (
	"fmt"
	"math"
)

// Kind says what a model's output row holds.
type Kind int

const (
	// Auto detects it: Probabilities if every finite row is one.
	Auto Kind = iota
	// Logits are unnormalized log-probabilities: softmax gives the distribution.
	Logits
	// Probabilities are ≥ 0 and sum to about 1; they are renormalized.
	Probabilities
)

// String returns "auto", "logits" or "probabilities".
func (k Kind) String() string {
	switch k {
	case Auto:
		return "auto"
	case Logits:
		return "logits"
	case Probabilities:
		return "probabilities"
	}
	return fmt.Sprintf("kind(%d)", int(k))
}

// MarshalText writes the kind by name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Probabilities that are zero would make a likelihood infinite: they are raised to these floors, and Clipped counts the
// labels it happened to. A quantized softmax has many zeros that are not claims of impossibility.
const (
	probabilityFloor = 1e-7
	logitFloor       = 1e-30
)

// DetectKind says whether a row is a probability distribution: at least two values, all from 0 to 1, with a sum of 1 within 0.1 (a
// softmax on 256 levels does not sum to 1 exactly).
func DetectKind(row []float64) Kind {
	sum := 0.0
	for _, v := range row {
		if !(v >= -1e-6 && v <= 1.001) {
			return Logits
		}
		sum += v
	}
	if len(row) < 2 || math.Abs(sum-1) > 0.1 {
		return Logits
	}
	return Probabilities
}

// Distribution compares the two models' output distributions over the samples where both are finite.
type Distribution struct {
	BaselineKind, CandidateKind Kind
	N                           int

	NLL, Brier *Paired // nil without labels
	ECE        *Calibration

	KLMean, KLP95, KLMax float64 // Kullback-Leibler divergence of the candidate from the baseline, in nats; p95 within 1 %
	Clipped              int     // labels whose probability was raised to the floor, in either model
}

// Calibration is the expected calibration error: the gap between confidence and accuracy of the predicted class, over 15
// bins of equal mass.
type Calibration struct {
	Baseline, Candidate, Delta float64
	Low, High                  float64 // interval of Delta by a paired bootstrap; ±Inf for fewer than two samples
	Floor                      float64 // what a perfectly calibrated model shows on average with so few samples
}

// distribution accumulates under every hypothesis about the two kinds that no row has contradicted; which one holds is known
// only at the end. Index 0 is Logits, 1 is Probabilities.
type distribution struct {
	kind     Kind
	maybe    [2]bool // baseline, candidate: may still be probabilities
	labelled bool
	joint    [2][2]joint
	ece      [2][2]reliability // model, hypothesis
	stated   statements
	logs     [2][2][]float64 // log-probabilities of the current row: model, hypothesis
}

type joint struct {
	n, clipped int
	nll, brier ratio
	kl         float64
	klMax      float64
	sketch     sketch
}

func newDistribution(o Options) *distribution {
	return &distribution{kind: o.Kind, maybe: [2]bool{o.Kind != Logits, o.Kind != Logits}, stated: newStatements(o.Seed)}
}

// hypotheses returns the kinds to follow for a model, as indices.
func (d *distribution) hypotheses(model int) []int {
	switch {
	case d.kind == Probabilities:
		return []int{1}
	case d.kind == Logits || !d.maybe[model]:
		return []int{0}
	}
	return []int{0, 1}
}

// chosen returns the hypothesis that no row of a model has contradicted: probabilities if these are possible.
func (d *distribution) chosen(model int) int {
	h := d.hypotheses(model)
	return h[len(h)-1]
}

// add takes a pair of finite rows; label < 0 means none.
func (d *distribution) add(label int, baseline, candidate []float64) {
	rows := [2][]float64{baseline, candidate}
	var said statement
	for m, row := range rows {
		if d.kind == Auto && d.maybe[m] && DetectKind(row) != Probabilities {
			d.maybe[m] = false
		}
		for _, h := range d.hypotheses(m) {
			d.logs[m][h] = logProbabilities(d.logs[m][h], row, h == 1)
			if label >= 0 {
				best, _ := argmax(row)
				said.confidence[m][h], said.right[m] = math.Exp(d.logs[m][h][best]), best == label
				d.ece[m][h].add(said.confidence[m][h], said.right[m])
			}
		}
	}
	for _, hb := range d.hypotheses(0) {
		for _, hc := range d.hypotheses(1) {
			d.joint[hb][hc].add(label, d.logs[0][hb], d.logs[1][hc], [2]int{hb, hc})
		}
	}
	if label >= 0 {
		d.labelled = true
		d.stated.add(said)
	}
}

// leads returns by how much the probability of the baseline's first class is above that of the second, in the current row, under
// each hypothesis that is followed.
func (d *distribution) leads() *[2]float64 {
	var out [2]float64
	for _, h := range d.hypotheses(0) {
		first, second := 0.0, 0.0
		for _, v := range d.logs[0][h] {
			if p := math.Exp(v); p > first {
				first, second = p, first
			} else {
				second = max(second, p)
			}
		}
		out[h] = first - second
	}
	return &out
}

// margins states the margins of flips, once it is known what the outputs are.
func (d *distribution) margins(flips []Flip) {
	for i, f := range flips {
		if f.leads != nil {
			flips[i].Margin = &f.leads[d.chosen(0)]
		}
	}
}

func (d *distribution) close() {
	for b := range d.joint {
		for c := range d.joint[b] {
			d.joint[b][c].nll.close()
			d.joint[b][c].brier.close()
		}
	}
}

func (j *joint) add(label int, p, q []float64, hypothesis [2]int) {
	j.n++
	kl := 0.0
	for i, lp := range p {
		if v := math.Exp(lp); v > 0 {
			kl += v * (lp - q[i])
		}
	}
	kl = max(0, kl)
	j.kl += kl
	j.klMax = max(j.klMax, kl)
	j.sketch.add(kl)
	if label < 0 {
		return
	}
	if p[label] <= floorOf(hypothesis[0]) || q[label] <= floorOf(hypothesis[1]) {
		j.clipped++
	}
	j.nll.item(-p[label], -q[label])
	j.brier.item(brier(p, label), brier(q, label))
}

func floorOf(hypothesis int) float64 {
	if hypothesis == 1 {
		return math.Log(probabilityFloor)
	}
	return math.Log(logitFloor)
}

// brier is the squared distance between the distribution and the label's one-hot vector.
func brier(logp []float64, label int) float64 {
	sum := 0.0
	for i, l := range logp {
		d := math.Exp(l)
		if i == label {
			d--
		}
		sum += d * d
	}
	return sum
}

// logProbabilities fills into with the log-distribution of a finite row, no value below the floor of its kind.
func logProbabilities(into, row []float64, probabilities bool) []float64 {
	into = append(into[:0], row...)
	if probabilities {
		sum := 0.0
		for _, v := range row {
			sum += max(v, 0)
		}
		for i, v := range row {
			share := 1 / float64(len(row)) // nothing at all: every class alike
			if sum > 0 {
				share = v / sum
			}
			into[i] = math.Log(max(share, probabilityFloor))
		}
		return into
	}
	top := math.Inf(-1)
	for _, v := range row {
		top = max(top, v)
	}
	sum := 0.0
	for _, v := range row {
		sum += math.Exp(v - top)
	}
	norm, floor := top+math.Log(sum), math.Log(logitFloor)
	for i, v := range row {
		into[i] = max(v-norm, floor)
	}
	return into
}

// result returns nil when no pair of finite rows was seen.
func (d *distribution) result(o Options) *Distribution {
	h := [2]int{d.chosen(0), d.chosen(1)}
	kinds := [2]Kind{Logits, Logits}
	for m := range h {
		if h[m] == 1 {
			kinds[m] = Probabilities
		}
	}
	j := &d.joint[h[0]][h[1]]
	if j.n == 0 {
		return nil
	}
	r := &Distribution{
		BaselineKind: kinds[0], CandidateKind: kinds[1], N: j.n, Clipped: j.clipped,
		KLMean: j.kl / float64(j.n), KLP95: j.sketch.quantile(0.95), KLMax: j.klMax,
	}
	if d.labelled {
		nll, brier := j.nll.paired("nll", o.Confidence), j.brier.paired("brier", o.Confidence)
		r.NLL, r.Brier = &nll, &brier
		b, floor := d.ece[0][h[0]].ece()
		c, _ := d.ece[1][h[1]].ece()
		half := d.stated.half(h, o)
		r.ECE = &Calibration{Baseline: b, Candidate: c, Delta: c - b, Low: c - b - half, High: c - b + half, Floor: floor}
	}
	return r
}

func (r *Distribution) warnings() []string {
	if r == nil || r.BaselineKind == r.CandidateKind {
		return nil
	}
	return []string{fmt.Sprintf("the baseline gives %v and the candidate %v: each is turned into a distribution by its own rule", r.BaselineKind, r.CandidateKind)}
}

// perplexity returns the half-width of the interval of the difference of the two models' perplexities, exp of their mean negative
// log-likelihoods, by the delta method.
func (d *distribution) perplexity(o Options) float64 {
	j := &d.joint[d.chosen(0)][d.chosen(1)]
	return j.nll.exponentialHalf(o.Confidence)
}
