package quantize

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measured"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// OpTime is what one operator takes on this machine, in seconds.
type OpTime struct {
	Float float64 `json:"float"`
	Int8  float64 `json:"int8"` // from codes to codes
}

// opTimes measures operators, once for each class of them, and remembers.
type opTimes struct {
	o       *Options
	known   map[string]OpTime
	dir     string
	started time.Time
	missed  int // classes that were not measured, for lack of time
}

// mostMeasuring bounds the time for one model.
const mostMeasuring = 30 * time.Second

// openOpTimes reads what o.Times keeps, or begins with nothing.
func openOpTimes(o *Options) (*opTimes, error) {
	t := &opTimes{o: o, known: map[string]OpTime{}, started: time.Now()}
	if ok, err := measured.Read(o.Times, &t.known); !ok || err != nil || t.known == nil {
		t.known = map[string]OpTime{} // a damaged cache is measured anew
	}
	return t, nil
}

// close writes what was measured, and removes the models.
func (t *opTimes) close() error {
	if t.dir == "" {
		return nil
	}
	os.RemoveAll(t.dir)
	return measured.Write(t.o.Times, t.known)
}

// of returns the times of a class, measuring them where they are not known;
// false where there is no time left for that.
func (t *opTimes) of(ctx context.Context, class string, models func() (float, coded *onnx.Model, err error)) (OpTime, bool, error) {
	if x, ok := t.known[class]; ok {
		return x, true, nil
	}
	if time.Since(t.started) > mostMeasuring {
		t.missed++
		return OpTime{}, false, nil
	}
	a, b, err := models()
	if err != nil {
		return OpTime{}, false, err
	}
	x, err := t.measure(ctx, a, b)
	if err != nil {
		return OpTime{}, false, fmt.Errorf("timing %s: %w", class, err)
	}
	t.known[class] = x
	return x, true, nil
}

// measure times two models by turns and takes the best of each: what disturbs
// makes runs longer, never shorter.
func (t *opTimes) measure(ctx context.Context, float, coded *onnx.Model) (OpTime, error) {
	var s [2]session.Session
	var in [2]map[string]*onnx.Tensor
	for i, m := range []*onnx.Model{float, coded} {
		var err error
		if s[i], err = t.open(ctx, m); err != nil {
			return OpTime{}, err
		}
		defer s[i].Close()
		in[i] = filled(m)
	}
	best := [2]float64{math.Inf(1), math.Inf(1)}
	for range 5 {
		for i := range s {
			d, err := trial.Burst(ctx, s[i], in[i], best[i])
			if err != nil {
				return OpTime{}, err
			}
			best[i] = min(best[i], d)
		}
	}
	return OpTime{best[0], best[1]}, nil
}

func (t *opTimes) open(ctx context.Context, m *onnx.Model) (session.Session, error) {
	if t.dir == "" {
		var err error
		if t.dir, err = os.MkdirTemp("", "lapidary-optime-"); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(t.dir, fmt.Sprintf("%d.onnx", len(t.known)))
	if err := onnxfile.Scratch(path, m); err != nil {
		return nil, err
	}
	so := t.o.Session
	so.Level, so.Outputs = session.LevelAll, nil
	return t.o.Open(ctx, path, so)
}

// filled returns inputs for m, all of them small positive numbers.
func filled(m *onnx.Model) map[string]*onnx.Tensor {
	out := map[string]*onnx.Tensor{}
	for _, v := range m.Graph.Inputs() {
		dims, _ := v.Shape().Static()
		n, _ := onnx.ElementCount(dims)
		if v.DType().IsInt() {
			b := make(onnx.Raw, int(n)*v.DType().Bits()/8)
			for i := range b {
				b[i] = byte(100 + i%50)
			}
			out[v.Name()] = &onnx.Tensor{Name: v.Name(), DType: v.DType(), Shape: dims, Data: b}
			continue
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(i%50)/100 + 0.01
		}
		out[v.Name()] = onnx.FromFloats(v.Name(), dims, x)
	}
	return out
}
