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
	logs     [2][2][]float64   // log-probabilities of the current row: model, hypothesis
}

type joint struct {
	n, clipped int
	nll, brier ratio
	kl         float64
	klMax      float64
	sketch     sketch
}

func newDistribution(kind Kind) *distribution {
	return &distribution{kind: kind, maybe: [2]bool{kind != Logits, kind != Logits}}
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

// add takes a pair of finite rows; label < 0 means none.
func (d *distribution) add(label int, baseline, candidate []float64) {
	rows := [2][]float64{baseline, candidate}
	for m, row := range rows {
		if d.kind == Auto && d.maybe[m] && DetectKind(row) != Probabilities {
			d.maybe[m] = false
		}
		for _, h := range d.hypotheses(m) {
			d.logs[m][h] = logProbabilities(d.logs[m][h], row, h == 1)
			if label >= 0 {
				best, _ := argmax(row)
				d.ece[m][h].add(math.Exp(d.logs[m][h][best]), best == label)
			}
		}
	}
	for _, hb := range d.hypotheses(0) {
		for _, hc := range d.hypotheses(1) {
			d.joint[hb][hc].add(label, d.logs[0][hb], d.logs[1][hc], [2]int{hb, hc})
		}
	}
	d.labelled = d.labelled || label >= 0
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
func (d *distribution) result(confidence float64) *Distribution {
	h := [2]int{}
	kinds := [2]Kind{Logits, Logits}
	for m := range h {
		if options := d.hypotheses(m); options[len(options)-1] == 1 {
			h[m], kinds[m] = 1, Probabilities
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
		nll, brier := j.nll.paired("nll", confidence), j.brier.paired("brier", confidence)
		r.NLL, r.Brier = &nll, &brier
		b, floor := d.ece[0][h[0]].ece()
		c, _ := d.ece[1][h[1]].ece()
		r.ECE = &Calibration{Baseline: b, Candidate: c, Delta: c - b, Floor: floor}
	}
	return r
}

func (r *Distribution) warnings() []string {
	if r == nil || r.BaselineKind == r.CandidateKind {
		return nil
	}
	return []string{fmt.Sprintf("the baseline gives %v and the candidate %v: each is turned into a distribution by its own rule", r.BaselineKind, r.CandidateKind)}
}

// sketch is a histogram of non-negative values on a logarithmic scale, from which quantiles are read within 1 %.
type sketch struct {
	n       int
	buckets map[int]int
}

const sketchBase = 1.02

func (s *sketch) add(v float64) {
	if s.buckets == nil {
		s.buckets = map[int]int{}
	}
	s.n++
	s.buckets[int(math.Ceil(math.Log(min(max(v, 1e-15), 1e15))/math.Log(sketchBase)))]++
}

// quantile returns the nearest-rank p-quantile; values up to 1e-15 are given as 0.
func (s *sketch) quantile(p float64) float64 {
	need := int(math.Ceil(p * float64(s.n)))
	lowest := int(math.Ceil(math.Log(1e-15) / math.Log(sketchBase)))
	highest := int(math.Ceil(math.Log(1e15) / math.Log(sketchBase)))
	for b := lowest; b <= highest; b++ {
		if need -= s.buckets[b]; need <= 0 {
			if b == lowest {
				return 0
			}
			return 2 * math.Pow(sketchBase, float64(b)) / (1 + sketchBase)
		}
	}
	return 0
}

// reliability is a fine histogram of confidences on the logit scale, out of which bins of equal mass are made at the end.
type reliability struct {
	n    int
	fine map[int]*reliabilityBin
}

type reliabilityBin struct{ n, confidence, right float64 }

const (
	fineBins  = 4096
	fineRange = 37.0 // logit(1 - 2^-53)
	eceBins   = 15
)

func (r *reliability) add(confidence float64, right bool) {
	if r.fine == nil {
		r.fine = map[int]*reliabilityBin{}
	}
	x := math.Log(confidence) - math.Log1p(-min(confidence, 1))
	x = min(max(x, -fineRange), fineRange)
	at := int((x + fineRange) / (2 * fineRange) * (fineBins - 1))
	b := r.fine[at]
	if b == nil {
		b = new(reliabilityBin)
		r.fine[at] = b
	}
	r.n++
	b.n++
	b.confidence += confidence
	if right {
		b.right++
	}
}

// ece returns the expected calibration error over bins of equal mass (a fine bin that spans a border is divided in
// proportion), and its mean for a perfectly calibrated model: E|N(0, p(1-p)/n)| summed over the bins.
func (r *reliability) ece() (value, floor float64) {
	if r.n == 0 {
		return 0, 0
	}
	mass := float64(r.n) / eceBins
	var open reliabilityBin
	flush := func() {
		if open.n == 0 {
			return
		}
		weight := open.n / float64(r.n)
		p := min(max(open.confidence/open.n, 0), 1)
		value += weight * math.Abs(open.confidence-open.right) / open.n
		floor += weight * math.Sqrt(2*p*(1-p)/(math.Pi*open.n))
		open = reliabilityBin{}
	}
	for at := range fineBins {
		b := r.fine[at]
		if b == nil {
			continue
		}
		for left := b.n; left > 1e-9; {
			take := min(left, mass-open.n)
			share := take / b.n
			open.n += take
			open.confidence += share * b.confidence
			open.right += share * b.right
			left -= take
			if open.n >= mass-1e-9 {
				flush()
			}
		}
	}
	flush()
	return value, floor
}
