package quantize

import (
	"context"
	"slices"
)

// ISAOptions are about processors that add products in 16 bits.
type ISAOptions struct {
	// Saturates is for a model that will run where products are added in pairs
	// to 16 bits: x86 without VNNI. Layers that lose by it get weights in 7 bits.
	Saturates bool
	// PredictISA runs the model as such processors compute it, and reports what
	// is lost there. Saturates implies it.
	PredictISA bool
}

// Prediction is what a model is expected to lose on a kind of processor.
type Prediction struct {
	ISA     string   `json:"isa"`
	Quality Quality  `json:"quality"`          // on held-out data
	Layers  []string `json:"layers,omitempty"` // outputs of the layers in which sums can leave 16 bits
	Narrow  []string `json:"narrow,omitempty"` // of those that got weights in 7 bits for it
}

// The kinds of processors that differ.
const (
	exactISA = "exact: VNNI, AMX, ARM dot products"
	pairISA  = "avx2: pairs of products saturate at 16 bits"
)

// narrowBy is what a layer must lose by itself, in dB, to get weights in 7 bits.
const narrowBy = 0.02

// predict reports what the model loses where sums saturate. Where it will run
// there, layers that lose get weights in 7 bits.
func (r *recovery) predict(ctx context.Context) error {
	exact, err := r.try(ctx, r.now)
	if err != nil {
		return err
	}
	paired, layers, err := r.tryPairs(ctx, r.now, nil)
	if err != nil {
		return err
	}
	if r.s.o.Saturates && paired.DB < exact.DB-margin {
		if err := r.narrow(ctx, exact, layers); err != nil {
			return err
		}
		if exact, err = r.try(ctx, r.now); err != nil {
			return err
		}
		if paired, layers, err = r.tryPairs(ctx, r.now, nil); err != nil {
			return err
		}
	}
	r.s.predicted = []Prediction{{ISA: exactISA, Quality: qualityOf(r.held, exact)},
		{ISA: pairISA, Quality: qualityOf(r.held, paired), Layers: layers, Narrow: narrowOf(r.now)}}
	return nil
}

func narrowOf(c *choices) (out []string) {
	for l := range c.narrow {
		out = append(out, l)
	}
	slices.Sort(out)
	return out
}

// narrow gives layers weights in 7 bits: those that lose by themselves, and if
// that is not enough all.
func (r *recovery) narrow(ctx context.Context, exact score, layers []string) error {
	var lossy []string
	for _, l := range layers {
		r.s.o.progress("predicting what is lost without VNNI")
		x, _, err := r.tryPairs(ctx, r.now, func(output string) bool { return output == l })
		if err != nil {
			return err
		}
		if x.DB < exact.DB-narrowBy {
			lossy = append(lossy, l)
		}
	}
	for _, list := range [][]string{lossy, layers} {
		r.now = r.now.with(func(c *choices) {
			c.narrow = map[string]bool{}
			for _, l := range list {
				c.narrow[l] = true
			}
		})
		x, err := r.try(ctx, r.now)
		if err != nil {
			return err
		}
		y, _, err := r.tryPairs(ctx, r.now, nil)
		if err != nil || y.DB >= x.DB-margin {
			return err
		}
	}
	return nil
}

// tryPairs scores what choices give as a processor computes it that adds pairs
// in 16 bits, in some layers or in all, and returns these.
func (r *recovery) tryPairs(ctx context.Context, c *choices, only func(string) bool) (score, []string, error) {
	m, _, err := r.quantized(ctx, c)
	if err != nil {
		return score{}, nil, err
	}
	t, layers, err := saturating(m, r.held.Dims(m), only)
	if err != nil {
		return score{}, nil, err
	}
	x, err := r.held.Score(ctx, t)
	return x, layers, err
}
