package explain

import "context"

// occlusion hides windows of the input, A_R = f(x) - f(x with window R hidden). By default the windows are the features
// themselves. With a window and a stride they slide and overlap, as in Captum's Occlusion: a pixel's score is the mean over the
// windows that cover it, a window that passes the edge is cut off there, and a cell's value is the mean of its pixels.
var occlusion = Method{
	Name: "occlusion", Doc: "windows of the input are hidden in turn",
	Runs: func(p *partition, _ int, o Options) int {
		windows, _ := p.windows(o)
		return len(windows)
	},
	Attribute: func(ctx context.Context, p *problem) (*attribution, error) {
		v := p.view
		windows, spread := v.part.windows(p.o)
		base, hidden, err := p.evaluate(ctx, len(windows), func(i int, dst []byte) { v.copyElements(dst, windows[i], v.fill) })
		if err != nil {
			return nil, err
		}
		for i := range hidden {
			hidden[i] = base - hidden[i]
		}
		return p.result(base, spread(hidden)), nil
	},
}
