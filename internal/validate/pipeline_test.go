package validate

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

func TestAhead(t *testing.T) {
	var read atomic.Int64
	stop := errors.New("stop")
	numbers := func(n int, last error) func(yield func(int, error) bool) {
		return func(yield func(int, error) bool) {
			for i := range n {
				read.Add(1)
				if !yield(i, nil) {
					return
				}
			}
			if last != nil {
				yield(0, last)
			}
		}
	}
	var got []int
	var failed error
	for v, err := range ahead(numbers(100, stop), 2) {
		if err != nil {
			failed = err
			break
		}
		if got = append(got, v); int(read.Load()) > v+1+4 { // taken, two in the queue, one at its door
			t.Fatalf("%d were read when %d was taken", read.Load(), v)
		}
	}
	if len(got) != 100 || !slices.IsSorted(got) || failed != stop {
		t.Errorf("%v, then %v", got, failed)
	}
	read.Store(0)
	for v := range ahead(numbers(1000, nil), 2) {
		if v == 3 {
			break
		}
	}
	if n := read.Load(); n > 8 {
		t.Errorf("%d were read although 4 were taken", n)
	}
}

func TestFollow(t *testing.T) {
	var got []int
	f := follow(func(v int) error { got = append(got, v); return nil })
	for i := range 50 {
		if err := f.next(i); err != nil {
			t.Fatal(err)
		}
	}
	later := errors.New("later")
	if err := f.end(later); err != later || len(got) != 50 || !slices.IsSorted(got) {
		t.Errorf("%v, %v", got, err)
	}
	bad := errors.New("bad")
	f = follow(func(v int) error {
		if v == 3 {
			return bad
		}
		return nil
	})
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = f.next(i)
	}
	if err != bad || f.end(later) != bad {
		t.Errorf("error %v, want that of the value that failed first", err)
	}
}

// TestPipelineParity: what is read ahead and scored behind gives the very report that one step after the other gives.
func TestPipelineParity(t *testing.T) {
	bad := edited(t, testdata+"digits-cnn.onnx", func(m *onnx.Model) { spoil(t, head(m), 0.1, 0) })
	o := runtimeOptions(t, testdata+"digits-cnn.onnx", bad, testdata+"digits-val.npz")
	o.Latency.Off, o.Explain.Off, o.IncludeSamples, o.Batch = true, true, true, 7
	piped, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	v := &validation{o: o, r: newReport(o)}
	if err := v.o.check(); err != nil {
		t.Fatal(err)
	}
	if err := v.pair(ctx); err != nil {
		t.Fatal(err)
	}
	defer v.set.Close()
	p, err := v.newPass(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.s.Close()
	for b, err := range v.set.Batches(ctx, o.Batch) {
		if err != nil {
			t.Fatal(err)
		}
		a := answers{b: b}
		for model, s := range []session.Session{p.s.baseline, p.s.candidate} {
			r, err := p.run(ctx, s, model, b)
			if err != nil {
				t.Fatal(err)
			}
			if model == 0 {
				a.want = r
			} else {
				a.got = r
			}
		}
		if err := p.take(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.fill(p.census); err != nil {
		t.Fatal(err)
	}
	if err := p.report(); err != nil {
		t.Fatal(err)
	}
	v.r.Normalize()
	if d := cmp.Diff(v.r.Accuracy, piped.Accuracy); d != "" {
		t.Errorf("accuracy (-one after the other +piped):\n%s", d)
	}
	if d := cmp.Diff(v.r.Data, piped.Data); d != "" {
		t.Errorf("data (-one after the other +piped):\n%s", d)
	}
}
