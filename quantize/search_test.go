package quantize_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/quantize"
)

// searched quantizes digits-cnn to a budget and returns the model.
func searched(ctx context.Context, t *testing.T, change func(*quantize.Options)) ([]byte, *quantize.Result, error) {
	t.Helper()
	src := "../testdata/digits-cnn.onnx"
	o := quantize.Options{Open: opener(t), Method: "minmax", Calibration: openData(t, src, "../testdata/digits-calib.npz", dataset.Options{Limit: 80})}
	change(&o)
	dst := filepath.Join(t.TempDir(), "q.onnx")
	r, err := quantize.File(ctx, dst, src, o)
	if err != nil {
		return nil, nil, err
	}
	b, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	return b, r, nil
}

// TestSearch: a budget is kept by some layers in float32, not by all; an
// interrupted search goes on and ends in the same bytes; one that cannot be kept
// gives the nearest model, and says so.
func TestSearch(t *testing.T) {
	ctx := context.Background()
	want, r, err := searched(ctx, t, func(o *quantize.Options) { o.MinSQNR = 40 })
	if err != nil {
		t.Fatal(err)
	}
	chosen, all := -1, -1
	for i, p := range r.Search.Points {
		if p.Chosen {
			chosen = i
		}
		if len(p.Float) == 0 {
			all = i
		}
	}
	if chosen < 0 || all < 0 || !r.Search.Met {
		t.Fatalf("%+v", r.Search)
	}
	c, base := r.Search.Points[chosen], r.Search.Points[all]
	if base.Met || !c.Met || c.Quality.SQNR < 40 || base.Quality.SQNR >= 40 || len(c.Float) == 0 || len(c.Float) >= len(r.Search.Order) {
		t.Errorf("chosen %+v, all in int8 %+v, %d layers", c, base, len(r.Search.Order))
	}
	for _, p := range r.Search.Points {
		if p.Met && len(p.Float) < len(c.Float) {
			t.Errorf("%d layers suffice: %v, %d are in float32", len(p.Float), p.Float, len(c.Float))
		}
	}
	if err := xml.Unmarshal(r.Search.Picture(), new(struct{})); err != nil || !bytes.Contains(r.Search.Picture(), []byte("<circle")) {
		t.Errorf("the picture is malformed: %v", err)
	}
	t.Run("interrupted", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "checkpoint")
		for range 2 {
			stopped, cancel := context.WithCancel(ctx)
			trials := 0
			_, _, err := searched(stopped, t, func(o *quantize.Options) {
				o.MinSQNR, o.Checkpoint = 40, file
				o.Progress = func(stage string) {
					if strings.HasPrefix(stage, "searching") {
						if trials++; trials == 6 {
							cancel()
						}
					}
				}
			})
			if cancel(); !errors.Is(err, context.Canceled) {
				t.Fatalf("it was not interrupted: %v", err)
			}
		}
		got, r, err := searched(ctx, t, func(o *quantize.Options) { o.MinSQNR, o.Checkpoint = 40, file })
		if err != nil || r.Search.Reused < 4 || !bytes.Equal(got, want) {
			t.Errorf("after %d trials from the checkpoint the model is another one (%v)", r.Search.Reused, err)
		}
		_, r, err = searched(ctx, t, func(o *quantize.Options) { o.MinSQNR, o.Checkpoint = 39, file })
		if err != nil || r.Search.Reused != 0 {
			t.Errorf("trials of another budget were used: %+v (%v)", r.Search, err)
		}
	})
	t.Run("out of reach", func(t *testing.T) {
		_, r, err := searched(ctx, t, func(o *quantize.Options) { o.MinSQNR = 200 })
		if err != nil || r.Search.Met || r.Quantized == 0 {
			t.Errorf("%v, %+v", err, r)
		}
	})
	t.Run("labels", func(t *testing.T) {
		_, r, err := searched(ctx, t, func(o *quantize.Options) { o.MaxDrop = 1 })
		if err != nil || !r.Search.Met || r.Search.Points[0].Quality.Accuracy == nil {
			t.Errorf("%v, %+v", err, r.Search)
		}
	})
}

// TestPage: the page of layers has every one, with its cost, and needs nothing
// from elsewhere.
func TestPage(t *testing.T) {
	_, r, err := searched(context.Background(), t, func(o *quantize.Options) { o.Sensitivity = true })
	if err != nil {
		t.Fatal(err)
	}
	page, err := r.Page()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Sensitivity) != 14 {
		t.Errorf("%d layers are ranked, there are 14", len(r.Sensitivity))
	}
	for i, s := range r.Sensitivity {
		if i > 0 && s.Gain > r.Sensitivity[i-1].Gain {
			t.Errorf("%s is ranked too low", s.Layer)
		}
	}
	for _, l := range r.Layers {
		if !bytes.Contains(page, []byte(l.Output)) {
			t.Errorf("the page lacks %s", l.Output)
		}
	}
	for _, no := range []string{"http:", "https:", "<script", "ZgotmplZ"} {
		if bytes.Contains(page, []byte(no)) {
			t.Errorf("the page has %q", no)
		}
	}
}
