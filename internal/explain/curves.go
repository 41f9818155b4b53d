package explain

import (
	"cmp"
	"context"
	"slices"
)

// curveSteps is how many steps a curve takes at most.
const curveSteps = 10

// curve is what a model loses, or wins, along the order of a map.
type curve struct {
	area  float64 // mean change of the target along the curve, by the trapezoid rule
	total float64 // change from one end to the other
}

// deletion hides features in an order, a tenth more with every step: the target falls from that of the sample. The sooner it falls the
// larger the area, up to more than the total; an order that knows nothing gives about half of it.
func (p *problem) deletion(ctx context.Context, order []int) (curve, error) {
	steps := min(curveSteps, len(order))
	base, values, err := p.evaluate(ctx, steps, func(i int, dst []byte) {
		for _, f := range order[:upTo(i+1, steps, len(order))] {
			p.view.hide(dst, f, p.view.fill)
		}
	})
	if err != nil {
		return curve{}, err
	}
	for i := range values {
		values[i] = base - values[i]
	}
	return curveOf(values), nil
}

// insertion starts with all features hidden and shows them in an order: the target rises to that of the sample.
func (p *problem) insertion(ctx context.Context, order []int) (curve, error) {
	steps := min(curveSteps, len(order))
	base, values, err := p.evaluate(ctx, steps, func(i int, dst []byte) {
		for _, f := range order[upTo(i, steps, len(order)):] {
			p.view.hide(dst, f, p.view.fill)
		}
	})
	if err != nil {
		return curve{}, err
	}
	start := values[0] // everything is hidden
	values = append(values[1:], base)
	for i := range values {
		values[i] -= start
	}
	return curveOf(values), nil
}

// upTo is how many of n features are done after step i of steps.
func upTo(i, steps, n int) int { return (n*i + steps - 1) / steps }

// curveOf returns the curve that starts at 0 and goes through equally spaced values.
func curveOf(values []float64) curve {
	c := curve{total: values[len(values)-1]}
	for _, v := range values {
		c.area += v
	}
	c.area = (c.area - c.total/2) / float64(len(values))
	return c
}

// descending orders features by signed attribution, of equal ones the first.
func descending(a []float64) []int {
	order := make([]int, len(a))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(a[j], a[i]) })
	return order
}
