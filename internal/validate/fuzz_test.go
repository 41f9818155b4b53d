package validate

import (
	"math"
	"strings"
	"testing"
)

// FuzzHead reads how outputs become boxes, inline and as a file, and decodes some with what is read.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"boxes=dets,scores=conf,layout=cxcywh,normalized=true,background=0,nms=0.5", "boxes=b,objectness=true,activation=softmax,keep=2",
		"boxes=b,size=640x480,labels=pixels", "boxes=b,nms=.nan", "boxes=b,keep=9223372036854775807,nms=1", "boxes=b,variances=[.inf, 0]",
		"boxes=b,size=1e9,priors={strides: [1], sizes: [[1]]}", "boxes=b,size=4294967296x4294967296,priors={strides: [1], sizes: [[1]]}",
	} {
		f.Add(s, 0.5)
	}
	f.Fuzz(func(t *testing.T, spec string, x float64) {
		if !strings.Contains(spec, "=") {
			return // the name of a file
		}
		h, err := ParseHead(spec)
		if err != nil {
			return
		}
		if len(h.priors) > maxPriors {
			t.Fatalf("%d priors, more than %d", len(h.priors), maxPriors)
		}
		n := max(len(h.priors), 2)
		if n > 1000 {
			return
		}
		v := make([]float64, n*7)
		for i := range v {
			v[i] = x * float64(i%5)
		}
		both := table{v: v, n: n, columns: 7}
		for _, b := range h.decode(both, both, both) {
			if math.IsNaN(b.Score) && !math.IsNaN(x) && !math.IsInf(x, 0) && h.Activation == "none" && !h.Objectness && math.Abs(x) < 1e300 {
				t.Fatalf("a box with the score %v", b.Score)
			}
		}
	})
}

// FuzzScores reads what a scoring program prints.
func FuzzScores(f *testing.F) {
	f.Add([]byte("1\nnull\n0.5\n"), 3)
	f.Add([]byte("1e999\n"), 1)
	f.Add([]byte("\n\n[1]\n"), 0)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if v, err := parseScores(b, n); err == nil && len(v) != n {
			t.Fatalf("%d scores of %d", len(v), n)
		}
	})
}
