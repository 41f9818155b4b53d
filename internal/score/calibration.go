package score

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

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

// statement is how sure both models were of their class, under either hypothesis about what their outputs are, and whether they
// were right.
type statement struct {
	confidence [2][2]float64 // model, hypothesis
	right      [2]bool
}

// statements is a uniform sample of bounded size of all statements, for the bootstrap of the calibration error.
type statements struct {
	seen int
	kept []statement
	rng  *rand.Rand
}

const (
	maxStatements = 20000
	eceResamples  = 400
)

func newStatements(seed uint64) statements {
	return statements{rng: rand.New(rand.NewPCG(seed, 0x5ca1ab1e))}
}

func (s *statements) add(x statement) {
	s.seen++
	if len(s.kept) < maxStatements {
		s.kept = append(s.kept, x)
	} else if at := s.rng.IntN(s.seen); at < maxStatements {
		s.kept[at] = x
	}
}

// half returns the half-width of the interval of the difference of the two models' calibration errors: the standard deviation of a
// paired bootstrap over the kept statements, times Student's t, scaled to the number seen. Taken around the estimate, it leaves
// out the bias that resampling adds to the error of each model.
func (s *statements) half(hypothesis [2]int, o Options) float64 {
	n := len(s.kept)
	if n < 2 {
		return math.Inf(1)
	}
	var order [2][]int
	for m := range order {
		order[m] = make([]int, n)
		for i := range order[m] {
			order[m][i] = i
		}
		slices.SortStableFunc(order[m], func(a, b int) int {
			return cmp.Compare(s.kept[a].confidence[m][hypothesis[m]], s.kept[b].confidence[m][hypothesis[m]])
		})
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0xece))
	weight := make([]int, n)
	delta := make([]float64, eceResamples)
	for r := range delta {
		clear(weight)
		for range n {
			weight[rng.IntN(n)]++
		}
		delta[r] = s.weighted(order[1], weight, 1, hypothesis[1]) - s.weighted(order[0], weight, 0, hypothesis[0])
	}
	scale := math.Sqrt(float64(n) / float64(s.seen))
	return studentQuantile((1+o.Confidence)/2, float64(n-1)) * deviation(delta) * scale
}

// weighted is the calibration error over bins of equal mass of the statements in order, each as often as its weight says.
func (s *statements) weighted(order, weight []int, model, hypothesis int) float64 {
	n := len(order)
	value, confidence, right, mass, bin := 0.0, 0.0, 0.0, 0, 1
	for _, i := range order {
		for range weight[i] {
			confidence += s.kept[i].confidence[model][hypothesis]
			right += number(s.kept[i].right[model])
			if mass++; mass*eceBins >= bin*n {
				value += math.Abs(confidence - right)
				confidence, right = 0, 0
				bin++
			}
		}
	}
	return (value + math.Abs(confidence-right)) / float64(n)
}
