package calibrate

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// grouped cuts wants into groups whose activations of one run keep to the limit.
// How large these are the first batch tells: a probe gives their shapes.
func grouped(ctx context.Context, m *onnx.Model, wants []Want, start func() Pass, o *Options, r *Result) ([][]Want, error) {
	if o.MaxBytes <= 0 {
		return [][]Want{wants}, nil
	}
	sizes, err := sizesOf(ctx, m, wants, start(), o)
	if err != nil {
		return nil, err
	}
	// One run is summed up while another one is under way in each session, and
	// one is waiting; both sides of the shared memory hold a copy.
	limit := o.MaxBytes / int64(2*(max(o.Workers, 1)+2))
	var out [][]Want
	var group []Want
	var sum int64
	for i, w := range wants {
		size := sizes[i]
		switch {
		case w.reduced():
			size = 0
		case size > limit && !w.MaybeEmpty && !w.Channels && !w.Gram:
			r.Notices = append(r.Notices, fmt.Sprintf("tensor %q has %d bytes in one run, more than fits the memory limit: its extremes are measured, not its distribution", w.Tensor, size))
			w.Extremes, size = true, 0
		case size > limit:
			return nil, fmt.Errorf("calibration: tensor %q has %d bytes in one run, more than the memory limit of %d leaves; raise it, or calibrate with smaller samples or batches", w.Tensor, size, o.MaxBytes)
		}
		if len(group) > 0 && sum+size > limit {
			out, group, sum = append(out, group), nil, 0
		}
		group, sum = append(group, w), sum+size
	}
	return append(out, group), nil
}

// sizesOf returns the bytes that each tensor has in the first run of a pass.
func sizesOf(ctx context.Context, m *onnx.Model, wants []Want, pass Pass, o *Options) ([]int64, error) {
	p := &probe{}
	c := m.Clone()
	byName, t := tensors(c), tap{c}
	names := make([]string, len(wants))
	for i, w := range wants {
		v := byName[w.Tensor]
		if v == nil {
			return nil, fmt.Errorf("calibration: the model has no tensor %q", w.Tensor)
		}
		if w.reduced() {
			continue
		}
		n := t.add(v.Graph(), "Size", w.Tensor, onnx.TensorType(onnx.Int64, onnx.Shape{}), []*onnx.Value{v})
		n = t.out(n, onnx.FromInts("empty", []int64{}, []int64{0}), reduction{})
		c.Graph.AddOutput(n)
		names[i] = n.Name()
	}
	if err := p.write(c, o.TempDir); err != nil {
		return nil, err
	}
	defer p.close()
	s, err := p.open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	out := make([]int64, len(wants))
	for b, err := range pass.Batches {
		if err != nil {
			return nil, fmt.Errorf("calibration data: %w", err)
		}
		w := &workshop{ctx: ctx, p: p}
		got, _, err := w.one(s, b)
		if err != nil {
			return nil, fmt.Errorf("calibrating on sample %s: %w", b.ID, err)
		}
		for i, name := range names {
			if name == "" {
				continue // three numbers are measured, whatever its size
			}
			n, err := got[name].Ints()
			if err != nil || len(n) != 1 {
				return nil, fmt.Errorf("calibration: the engine gave no size of tensor %q", wants[i].Tensor)
			}
			out[i] = 4 * n[0]
		}
		break
	}
	return out, nil
}
