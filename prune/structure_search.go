package prune

import (
	"context"
	"errors"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// searchSteps is how often a share of units is halved to meet a goal.
const searchSteps = 10

// Goal is what a search for the share of units came to.
type Goal struct {
	Want    string  `json:"want"`
	Met     bool    `json:"met"`
	Reached float64 `json:"reached"`
	Trials  []Tried `json:"trials"`
}

// Tried is one share of units and what it gave.
type Tried struct {
	Share float64 `json:"share"` // of the units that go
	Value float64 `json:"value"` // of what the goal is about
	Met   bool    `json:"met"`
}

// share returns the share of units to remove.
func (p *structured) share(ctx context.Context, m *onnx.Model) (float64, error) {
	switch {
	case p.o.MACsRatio > 0 || p.o.ParamsRatio > 0:
		full, err := p.work(m)
		if err != nil {
			return 0, err
		}
		return p.least(ctx, m, max(p.o.MACsRatio, p.o.ParamsRatio), func(c *onnx.Model) (float64, error) {
			w, err := p.work(c)
			return w / full, err
		})
	case p.o.LatencyRatio > 0:
		return p.least(ctx, m, p.o.LatencyRatio, func(c *onnx.Model) (float64, error) { return p.held.Ratio(ctx, m, c) })
	case p.o.MaxDrop > 0 || p.o.MinSQNR > 0:
		return p.most(ctx, m)
	}
	_, err := p.shrunk(ctx, m, p.o.Sparsity, false)
	return p.o.Sparsity, err
}

// least returns the least share with which a measure that falls comes to the goal,
// the largest where none does.
func (p *structured) least(ctx context.Context, m *onnx.Model, goal float64, measure func(*onnx.Model) (float64, error)) (float64, error) {
	p.goal = &Goal{Want: p.o.goalText()}
	lo, hi := 0.0, 1.0
	for range searchSteps {
		mid := (lo + hi) / 2
		c, err := p.shrunk(ctx, m, mid, false)
		if err != nil {
			return 0, err
		}
		v, err := measure(c)
		if err != nil {
			return 0, err
		}
		p.tried(mid, v, v <= goal)
		if v <= goal {
			hi = mid
		} else {
			lo = mid
		}
	}
	return p.bestOf(hi, func(a, b Tried) bool { return a.Value < b.Value }), nil
}

// most returns the largest share that keeps the quality within its limits.
func (p *structured) most(ctx context.Context, m *onnx.Model) (float64, error) {
	if p.o.MaxDrop > 0 && p.held.Labels == nil {
		return 0, errors.New("a limit of the accuracy lost needs labels in the data; give a limit of SQNR instead")
	}
	p.goal = &Goal{Want: p.o.goalText()}
	base, err := p.held.Score(ctx, m)
	if err != nil {
		return 0, err
	}
	lo, hi := 0.0, 1.0
	for range searchSteps {
		mid := (lo + hi) / 2
		c, err := p.shrunk(ctx, m, mid, true)
		if err != nil {
			return 0, err
		}
		s, err := p.held.Score(ctx, c)
		if err != nil {
			return 0, err
		}
		value, met := s.SQNR, s.SQNR >= p.o.MinSQNR
		if p.o.MaxDrop > 0 {
			value = 100 * float64(base.Right-s.Right) / float64(max(s.Rows, 1))
			met = s.Rows > 0 && value <= p.o.MaxDrop+1e-9
		}
		p.tried(mid, value, met)
		if met {
			lo = mid
		} else {
			hi = mid
		}
	}
	return p.bestOf(lo, func(a, b Tried) bool { return a.Share < b.Share }), nil
}

// tried records one share.
func (p *structured) tried(share, value float64, met bool) {
	p.goal.Trials = append(p.goal.Trials, Tried{share, value, met})
	p.progress(fmt.Sprintf("searching: without %.1f %% of the units %.4g", 100*share, value))
}

// bestOf settles on a share: the one found where it met the goal, else the nearest of those tried.
func (p *structured) bestOf(found float64, nearer func(a, b Tried) bool) float64 {
	best := p.goal.Trials[0]
	for _, t := range p.goal.Trials {
		if t.Share == found && t.Met {
			p.goal.Met, p.goal.Reached = true, t.Value
			return found
		}
		if nearer(t, best) {
			best = t
		}
	}
	p.goal.Reached = best.Value
	return best.Share
}

// goalText says what is searched for.
func (o *StructureOptions) goalText() string {
	switch {
	case o.MACsRatio > 0:
		return fmt.Sprintf("MACs at most %g of the original's", o.MACsRatio)
	case o.ParamsRatio > 0:
		return fmt.Sprintf("parameters at most %g of the original's", o.ParamsRatio)
	case o.LatencyRatio > 0:
		return fmt.Sprintf("at most %g of the original's time", o.LatencyRatio)
	case o.MaxDrop > 0:
		return fmt.Sprintf("at most %g points of accuracy lost", o.MaxDrop)
	}
	return fmt.Sprintf("at least %g dB", o.MinSQNR)
}

// work returns the parameters of a model where the goal is about those, else its MACs.
func (p *structured) work(m *onnx.Model) (float64, error) {
	f, err := costs(m, p.o.Dims)
	if err != nil {
		return 0, err
	}
	t := totals(m, f)
	if p.o.ParamsRatio > 0 {
		return float64(t.Parameters), nil
	}
	return float64(t.MACs), nil
}
