package explain

import "context"

// featureAblation leaves one feature out, A_i = f(x) - mean_b f(x with x_i := b_i) over rows b of the data (Captum's
// FeatureAblation, with the expectation over the background that SHAP takes); by the fill where no rows are drawn, which makes it
// the same as occlusion by single features.
var featureAblation = Method{
	Name: "feature-ablation", Doc: "one feature at a time is replaced by what other rows have there", Rows: true,
	Runs: func(p *partition, rows int, _ Options) int { return len(p.features) * rows },
	Attribute: func(ctx context.Context, p *problem) (*attribution, error) {
		v := p.view
		backgrounds := v.backgrounds(true)
		n := len(backgrounds)
		base, hidden, err := p.evaluate(ctx, len(v.part.features)*n, func(i int, dst []byte) { v.hide(dst, i/n, backgrounds[i%n]) })
		if err != nil {
			return nil, err
		}
		values := make([]float64, len(v.part.features))
		for i := range values {
			if v.moves(i, backgrounds) { // else exactly 0, not the rounding of a mean
				values[i] = base - mean(hidden[i*n:(i+1)*n])
			}
		}
		return p.result(base, values), nil
	},
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
