package dataset

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Samples returns the samples in order. After an error, which may be that of
// ctx, there is nothing more.
func (s *Set) Samples(ctx context.Context) iter.Seq2[*Sample, error] {
	return func(yield func(*Sample, error) bool) {
		if s.picture != "" && s.o.Workers > 1 && s.len > 1 {
			s.concurrent(ctx, yield)
		} else {
			s.inline(ctx, yield)
		}
	}
}

func (s *Set) inline(ctx context.Context, yield func(*Sample, error) bool) {
	c, err := s.src.open()
	if err != nil {
		yield(nil, err)
		return
	}
	defer c.Close()
	for k := range s.len {
		if err := ctx.Err(); err != nil {
			yield(nil, err)
			return
		}
		sample, err := s.read(c, k)
		if !yield(sample, err) || err != nil {
			return
		}
	}
}

// read fetches and prepares the k-th sample.
func (s *Set) read(c cursor, k int64) (*Sample, error) {
	r, err := c.fetch(s.order.at(s.first + k))
	if err != nil {
		return nil, err
	}
	return s.prepare(r)
}

// job is a row on its way through the workers.
type job struct {
	raw    *raw
	sample *Sample
	err    error
	done   chan struct{}
}

// concurrent prepares samples by several workers and yields them in order. At
// most three times as many samples as workers are in memory. All goroutines
// have ended when it returns.
func (s *Set) concurrent(ctx context.Context, yield func(*Sample, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	pending, work := make(chan *job, s.o.Workers), make(chan *job)
	wg.Go(func() { s.produce(ctx, pending, work) })
	for range s.o.Workers {
		wg.Go(func() {
			for j := range work {
				j.sample, j.err = s.prepare(j.raw)
				close(j.done)
			}
		})
	}
	for j := range pending {
		select {
		case <-j.done:
		case <-ctx.Done():
			yield(nil, ctx.Err())
			return
		}
		if !yield(j.sample, j.err) || j.err != nil {
			return
		}
	}
	if err := ctx.Err(); err != nil {
		yield(nil, err)
	}
}

// produce fetches rows in order, announces each in pending and hands it to the workers.
func (s *Set) produce(ctx context.Context, pending, work chan<- *job) {
	defer close(work)
	defer close(pending)
	c, err := s.src.open()
	if err == nil {
		defer c.Close()
	}
	for k := int64(0); k < s.len; k++ {
		j := &job{done: make(chan struct{})}
		if err == nil {
			j.raw, err = c.fetch(s.order.at(s.first + k))
		}
		if j.err = err; err != nil {
			close(j.done)
		}
		select {
		case pending <- j:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
		select {
		case work <- j:
		case <-ctx.Done():
			return
		}
	}
}

// Batches returns the samples in batches of n, or of the size that
// [Set.BatchSize] demands. The last batch of a model with a fixed batch size
// is filled up with copies of the last sample. A batch also ends where the
// next sample has other shapes.
func (s *Set) Batches(ctx context.Context, n int) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		n := max(n, 1)
		if s.batch > 0 {
			n = s.batch
		}
		var held []*Sample
		flush := func() bool {
			if len(held) == 0 {
				return true
			}
			pad := 0
			if s.batch > 0 {
				pad = n - len(held)
			}
			b, err := join(held, pad)
			held = nil
			return yield(b, err) && err == nil
		}
		for sample, err := range s.Samples(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			apart := len(held) > 0 && (sample.whole || held[0].whole || !batchable(held[0], sample))
			if (apart || len(held) == n) && !flush() {
				return
			}
			held = append(held, sample)
		}
		flush()
	}
}

// At returns the k-th sample, 0 ≤ k < Len. Reading a compressed array that is
// not shuffled at random places costs time in proportion to k.
func (s *Set) At(ctx context.Context, k int64) (*Sample, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if k < 0 || k >= s.len {
		return nil, fmt.Errorf("sample %d of %d does not exist", k, s.len)
	}
	c, err := s.src.open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return s.read(c, k)
}

// prepare turns a row into what the model takes.
func (s *Set) prepare(r *raw) (*Sample, error) {
	sample := r.sample
	stored := sample.Inputs
	sample.Inputs = make(map[string]*onnx.Tensor, len(stored)+1)
	sum := newInputSum(s.o.Sum)
	for _, name := range sortedNames(stored, r.image, s.picture) {
		p, known := findPort(s.ports, name)
		p.Name = name
		t, err := s.input(r, stored[name], p, known, sum)
		if err != nil {
			return nil, fmt.Errorf("%s: input %q: %w", sample.ID, name, err)
		}
		sample.Inputs[name] = t
	}
	sample.Sum = sum.sum()
	return sample, nil
}

// input prepares one input from its stored form, or from the row's picture.
func (s *Set) input(r *raw, t *onnx.Tensor, p Port, known bool, sum *inputSum) (*onnx.Tensor, error) {
	pictured := p.Name == s.picture && (r.image != "" || s.o.Preprocess != nil)
	if pictured {
		t, err := s.paint(r.image, t, p, sum)
		if err == nil && p.shape() != nil && !agreeAll(p.shape(), t.Shape) {
			err = fmt.Errorf("pictures come out as %v, but the model takes %v; set resize, crop, layout or channels", t.Shape, p.Type)
		}
		return t, err
	}
	sum.add(t)
	if r.exact {
		return t, nil
	}
	shape, whole, err := fitRow(p, t.Shape, r.flat)
	if err != nil {
		return nil, err
	}
	r.sample.whole = r.sample.whole || whole
	if known {
		if t, err = convert(t, p.elem()); err != nil {
			return nil, err
		}
	}
	return reshaped(t, p.Name, shape), nil
}

// agreeAll is like agree for a shape whose first axis is a batch of one:
// a larger fixed batch is filled later.
func agreeAll(want onnx.Shape, have []int64) bool {
	return len(want) == len(have) && len(have) > 0 && agree(want[1:], have[1:])
}
