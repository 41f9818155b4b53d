package explain

import (
	"context"
	"math"
	"math/bits"

	"github.com/lapidary-ml/lapidary/internal/linalg"
)

// exactFeatures is the largest number of features of which all 2^M subsets are run where Options.Perturbations says nothing.
const exactFeatures = 11

// jackknifeGroups is the number of parts of the draws, each left out once, by which the Monte-Carlo error is estimated.
const jackknifeGroups = 10

// kernelSHAP gives Shapley values of the game v(S) = mean_b f(x on S, b elsewhere) over rows b of the data, or the fill (Lundberg
// and Lee, "A Unified Approach to Interpreting Model Predictions", 2017): from all subsets where they are few, else as the least
// squares fit of an additive model to some, weighted by the Shapley kernel, with the constraint Σ φ = f(x) - v(∅). Features
// that no background changes are no players: their value is exactly 0.
var kernelSHAP = Method{
	Name: "kernel-shap", Doc: "Shapley values, from all subsets of up to 11 features, else fitted to a sample of them", Random: true, Rows: true, Complete: true,
	Runs: func(p *partition, rows int, o Options) int {
		if m := len(p.features); exact(m, o) {
			return rows << m
		}
		return rows * (budget(len(p.features), o) + 1)
	},
	Attribute: func(ctx context.Context, p *problem) (*attribution, error) {
		g := newGame(p)
		values := make([]float64, len(p.view.part.features))
		base, total, phi, stdErr, err := g.solve(ctx)
		if err != nil {
			return nil, err
		}
		for i, f := range g.players {
			values[f] = phi[i]
		}
		a := p.result(base, values)
		a.residual, a.stdErr = residual(values, total), stdErr
		return a, nil
	},
}

// exact says whether all subsets of m features are run.
func exact(m int, o Options) bool {
	if m <= 2 {
		return true
	}
	if o.Perturbations > 0 {
		return m < 30 && 1<<m <= o.Perturbations
	}
	return m <= exactFeatures
}

// budget is the number of coalitions drawn of m features: never fewer than the 2m that make the fit unique.
func budget(m int, o Options) int {
	n := 2*m + 256
	if o.Perturbations > 0 {
		n = o.Perturbations
	}
	return max(n, 2*m)
}

// game is the cooperative game whose players are the features that the background changes.
type game struct {
	p           *problem
	backgrounds [][]byte
	players     []int
}

func newGame(p *problem) *game {
	g := &game{p: p, backgrounds: p.view.backgrounds(true)}
	for i := range p.view.part.features {
		if p.view.moves(i, g.backgrounds) {
			g.players = append(g.players, i)
		}
	}
	return g
}

// worth returns f(x) and v(S) for subsets of the players.
func (g *game) worth(ctx context.Context, n int, in func(i, player int) bool) (base float64, v []float64, err error) {
	rows := len(g.backgrounds)
	base, each, err := g.p.evaluate(ctx, n*rows, func(i int, dst []byte) {
		for k, f := range g.players {
			if !in(i/rows, k) {
				g.p.view.hide(dst, f, g.backgrounds[i%rows])
			}
		}
	})
	if err != nil {
		return 0, nil, err
	}
	v = make([]float64, n)
	for i := range v {
		v[i] = mean(each[i*rows : (i+1)*rows])
	}
	return base, v, nil
}

// solve returns f(x), f(x) - v(∅), the Shapley values of the players and their standard error: 0 where nothing was drawn.
func (g *game) solve(ctx context.Context) (base, total float64, phi []float64, stdErr *float64, err error) {
	if exact(len(g.players), g.p.o) {
		return g.enumerate(ctx)
	}
	c := drawCoalitions(len(g.players), budget(len(g.players), g.p.o), g.p.random())
	n := len(c.list)
	base, v, err := g.worth(ctx, n+1, func(i, player int) bool { return i < n && c.list[i].in[player] })
	if err != nil {
		return 0, 0, nil, nil, err
	}
	empty := v[n]
	weights := make([]float64, n)
	for i, z := range c.list {
		weights[i] = z.weight
	}
	if phi, err = fit(c, weights, v[:n], empty, base); err != nil {
		return 0, 0, nil, nil, err
	}
	stdErr, err = jackknife(c, v[:n], empty, base, len(phi))
	return base, base - empty, phi, stdErr, err
}

// enumerate runs all subsets and applies Shapley's formula, φ_i = Σ_S |S|! (M-|S|-1)! / M! (v(S ∪ i) - v(S)).
func (g *game) enumerate(ctx context.Context) (base, total float64, phi []float64, stdErr *float64, err error) {
	m := len(g.players)
	full := 1<<m - 1
	base, v, err := g.worth(ctx, full, func(i, player int) bool { return i>>player&1 == 1 })
	if err != nil {
		return 0, 0, nil, nil, err
	}
	phi, none := make([]float64, m), 0.0
	if m == 0 {
		return base, 0, phi, &none, nil
	}
	v = append(v, base) // all of the features: the sample itself
	share := make([]float64, m)
	for s := range share {
		share[s] = 1 / (float64(m) * choose(m-1, s))
	}
	for set := range full {
		w := share[bits.OnesCount(uint(set))]
		for i := range m {
			if set>>i&1 == 0 {
				phi[i] += w * (v[set|1<<i] - v[set])
			}
		}
	}
	return base, base - v[0], phi, &none, nil
}

// fit returns the φ that minimise Σ w (v(z) - v(∅) - Σ φ_i z_i)² under Σ φ = f(x) - v(∅), by substituting the last one.
func fit(c *coalitions, weights, v []float64, empty, base float64) ([]float64, error) {
	m := len(c.list[0].in)
	x, y := make([]float64, 0, len(v)*(m-1)), make([]float64, len(v))
	for i, z := range c.list {
		last := 0.0
		if z.in[m-1] {
			last = 1
		}
		for _, in := range z.in[:m-1] {
			e := -last
			if in {
				e++
			}
			x = append(x, e)
		}
		y[i] = v[i] - empty - last*(base-empty)
	}
	phi, err := linalg.LeastSquares(x, y, weights, m-1)
	if err != nil {
		return nil, err
	}
	rest := base - empty
	for _, p := range phi {
		rest -= p
	}
	return append(phi, rest), nil
}

// jackknife returns the root mean square standard error of the values from fits that leave out a part of the draws each; 0 where
// all subsets were run, nil where too few were drawn to tell.
func jackknife(c *coalitions, v []float64, empty, base float64, m int) (*float64, error) {
	none := 0.0
	if c.draws == 0 {
		return &none, nil
	}
	groups := min(jackknifeGroups, c.draws)
	if groups < 3 {
		return nil, nil
	}
	fits := make([][]float64, groups)
	for k := range fits {
		phi, err := fit(c, c.without(k, groups), v, empty, base)
		if err != nil {
			return nil, err
		}
		fits[k] = phi
	}
	sum := 0.0
	for i := range m {
		center := 0.0
		for _, f := range fits {
			center += f[i] / float64(groups)
		}
		for _, f := range fits {
			sum += (f[i] - center) * (f[i] - center)
		}
	}
	e := math.Sqrt(sum * float64(groups-1) / float64(groups) / float64(m))
	return &e, nil
}
