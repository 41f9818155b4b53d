package quantize

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/randgraph"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// FuzzQuantize quantizes arbitrary graphs, without data and without an engine, to
// what needs neither: nothing panics or loops, and a result is a valid model.
func FuzzQuantize(f *testing.F) {
	targets := []Options{
		{To: Int8}, {To: Int8, PerTensor: true}, {To: Float16}, {To: BFloat16}, {To: Int4}, {To: Int8, WeightOptions: WeightOptions{WeightOnly: true}},
	}
	for i, b := range randgraph.Seeds(30) {
		f.Add(b, uint8(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, which uint8) {
		m := randgraph.Model(data)
		if _, err := m.Repair(); err != nil || m.Check() != nil {
			return
		}
		transform, _, err := Transform(targets[int(which)%len(targets)])
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := transform(ctx, m, rewrite.Options{}); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Fatal("it takes more than a minute")
			}
			return
		}
		if err := m.Check(); err != nil {
			t.Fatalf("the result is not valid: %v", err)
		}
		if _, err := onnxfile.Encode(m); err != nil {
			t.Fatalf("the result cannot be written: %v", err)
		}
	})
}

// FuzzCheckpoint reads the file of a search that was interrupted: trials that are
// taken from it are scores that can be.
func FuzzCheckpoint(f *testing.F) {
	b, err := json.Marshal(checkpoint{"k", map[string]score{"": {DB: 20, SQNR: 21, Right: 5, Rows: 8, Gains: 1, Losses: 2}, "a\nb": {}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"key":"k","trials":{"a":{"Rows":1,"Losses":-9223372036854775808}}}`))
	f.Add([]byte(`{"key":"k","trials":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "checkpoint")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		trials, err := readCheckpoint(path, "k")
		if err != nil {
			return
		}
		held := &trial.Held{Labels: [][]int64{}}
		for _, x := range trials {
			q := qualityOf(held, x)
			if q.Accuracy != nil && (*q.Accuracy < 0 || *q.Accuracy > 100 || q.DropCI95[0] > q.DropCI95[1]) {
				t.Fatalf("%+v means %+v", x, q)
			}
		}
	})
}
