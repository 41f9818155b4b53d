package validate

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/score"
)

func mustHead(t *testing.T, spec string) *Head {
	t.Helper()
	h, err := ParseHead(spec)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func same(a, b score.Box) bool {
	near := func(x, y float64) bool { return math.Abs(x-y) < 1e-9 }
	return near(a.X1, b.X1) && near(a.Y1, b.Y1) && near(a.X2, b.X2) && near(a.Y2, b.Y2) && near(a.Score, b.Score) && a.Class == b.Class
}

func TestDecode(t *testing.T) {
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	file := filepath.Join(t.TempDir(), "head.yaml")
	if err := os.WriteFile(file, []byte("boxes: b\nscores: s\nsize: 32x16\nactivation: softmax\nmin_score: 0.1\npriors:\n  strides: [16]\n  sizes: [[8]]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, head             string
		boxes, scores, classes table
		want                   []score.Box
	}{
		{"corners", "boxes=b,scores=s", table{v: []float64{1, 2, 3, 4}, n: 1, columns: 4}, table{v: []float64{0.2, 0.7}, n: 1, columns: 2}, table{},
			[]score.Box{{X1: 1, Y1: 2, X2: 3, Y2: 4, Class: 1, Score: 0.7}, {X1: 1, Y1: 2, X2: 3, Y2: 4, Score: 0.2}}},
		{"rows before columns", "boxes=b,scores=s,layout=yxyx,background=0", table{v: []float64{1, 2, 3, 4}, n: 1, columns: 4},
			table{v: []float64{0.2, 0.7}, n: 1, columns: 2}, table{}, []score.Box{{X1: 2, Y1: 1, X2: 4, Y2: 3, Class: 1, Score: 0.7}}},
		{"centre and size, in pixels for labels as fractions", "boxes=b,scores=s,layout=cxcywh,size=10x20,labels=normalized",
			table{v: []float64{5, 10, 2, 4}, n: 1, columns: 4}, table{v: []float64{0.7}, n: 1, columns: 1}, table{},
			[]score.Box{{X1: 0.4, Y1: 0.4, X2: 0.6, Y2: 0.6, Score: 0.7}}},
		{"fractions for labels in pixels", "boxes=b,scores=s,normalized=true,size=10x20,labels=pixels",
			table{v: []float64{0.1, 0.1, 0.5, 0.5}, n: 1, columns: 4}, table{v: []float64{0.7}, n: 1, columns: 1}, table{},
			[]score.Box{{X1: 1, Y1: 2, X2: 5, Y2: 10, Score: 0.7}}},
		{"one transposed output with objectness, as YOLO", "boxes=b,layout=cxcywh,transposed=true,objectness=true,activation=sigmoid",
			table{v: []float64{5, 50, 5, 50, 2, 4, 2, 4, 0, 9, -9, 1, 2, -9}, n: 2, columns: 7, transposed: true}, table{}, table{},
			[]score.Box{
				{X1: 48, Y1: 48, X2: 52, Y2: 52, Score: sigmoid(9) * sigmoid(1)}, {X1: 4, Y1: 4, X2: 6, Y2: 6, Class: 1, Score: sigmoid(0) * sigmoid(2)},
			}},
		{"classes in an output of their own, filled up with -1", "boxes=b,scores=s,classes=c,nms=0.5",
			table{v: []float64{0, 0, 9, 9, 0, 0, 9, 8, 0, 0, 9, 9, 0, 0, 0, 0}, n: 4, columns: 4}, table{v: []float64{0.8, 0.9, 0.7, 0.9}, n: 4, columns: 1},
			table{v: []float64{3, 3, 5, -1}, n: 4, columns: 1},
			[]score.Box{{X2: 9, Y2: 8, Class: 3, Score: 0.9}, {X2: 9, Y2: 9, Class: 5, Score: 0.7}}},
		// Two priors of 8 by 8 pixels at (8, 8) and (24, 8) of 32 by 16: centre 0.75 + 0.5·0.1·0.25, width 0.25·exp(1·0.2).
		{"priors of an SSD, softmax", file, table{v: []float64{0, 0, 0, 0, 0.5, 0, 1, 0}, n: 2, columns: 4},
			table{v: []float64{9, -9, math.Log(3), 0}, n: 2, columns: 2}, table{},
			[]score.Box{
				{X1: 0.125, Y1: 0.25, X2: 0.375, Y2: 0.75, Score: 1 / (1 + math.Exp(-18))},
				{X1: 0.7625 - 0.125*math.Exp(0.2), Y1: 0.25, X2: 0.7625 + 0.125*math.Exp(0.2), Y2: 0.75, Score: 0.75},
				{X1: 0.7625 - 0.125*math.Exp(0.2), Y1: 0.25, X2: 0.7625 + 0.125*math.Exp(0.2), Y2: 0.75, Class: 1, Score: 0.25},
			}},
	} {
		got := mustHead(t, tt.head).decode(tt.boxes, tt.scores, tt.classes)
		ok := len(got) == len(tt.want)
		for i := range got {
			ok = ok && same(got[i], tt.want[i])
		}
		if !ok {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestUltrafacePriors counts the boxes that the detector's own post-processing starts from.
func TestUltrafacePriors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "head.json")
	text := `{"boxes": "b", "scores": "s", "size": "320x240", "priors": {"strides": [8, 16, 32, 64], "sizes": [[10, 16, 24], [32, 48], [64, 96], [128, 192, 256]]}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := len(mustHead(t, file).priors); n != 4420 {
		t.Errorf("%d priors, want 4420", n)
	}
}

func TestHeadErrors(t *testing.T) {
	for spec, want := range map[string]string{
		"scores=s":                                "boxes is missing",
		"boxes=b,layout=xyzw":                     "want xyxy, yxyx, xywh, cxcywh",
		"boxes=b,classes=c":                       "classes needs scores",
		"boxes=b,scores=s,objectness=true":        "needs scores to be in the same output",
		"boxes=b,labels=normalized":               "size is missing",
		"boxes=b,size=320":                        "want WxH",
		"boxes=b,nms=2":                           "nms from 0 to 1",
		"boxes=b,colour=red":                      "field colour not found",
		"boxes=b,scores=s,classes=c,background=0": "with classes there is none",
		"no-such-file.yaml":                       "give a file or key=value pairs",
	} {
		if _, err := ParseHead(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", spec, err, want)
		}
	}
}
