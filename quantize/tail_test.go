package quantize

import (
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
)

const detectorTail = `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
  float[4,8,1,1] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> {
  boxes = Conv (x, w)
  scores = Conv (x, w)
  joined = Concat <axis = 1> (boxes, scores)
  y = Conv (joined, v)
}`

// TestDetectionTail: what joins ranges far apart keeps them apart, and says why.
func TestDetectionTail(t *testing.T) {
	for _, c := range []struct {
		boxes, scores float32
		refused       bool
	}{{640, 1, true}, {51, 1, true}, {1, 640, true}, {49, 1, false}, {1, 1, false}, {640, 0, false}} {
		p := plannedWith(t, detectorTail, map[string]calibrate.Range{"boxes": {Max: c.boxes}, "scores": {Max: c.scores}})
		for n := range p.nodes() {
			if !n.Is("Concat") {
				continue
			}
			if p.chosen[n] == c.refused || c.refused != strings.Contains(p.reasons[n], "one scale for both") {
				t.Errorf("%v and %v: chosen %v, %q", c.boxes, c.scores, p.chosen[n], p.reasons[n])
			}
		}
	}
}

// TestPartsOfConcat: what a Concat alone reads has its codes from the start, whatever its own range is; what others read too, and what has
// codes of its own, keeps them.
func TestPartsOfConcat(t *testing.T) {
	const model = `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,4,8,8] x) => (float[1,4,8,8] y) <float[4,4,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
  float[4,16,1,1] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> {
  a = Conv (x, w)
  alone = Relu (a)
  shared = Conv (x, w)
  again = Conv (shared, w)
  gate = Conv (x, w)
  share = Sigmoid (gate)
  joined = Concat <axis = 1> (alone, shared, share, again)
  y = Conv (joined, v)
}`
	p := plannedWith(t, model, map[string]calibrate.Range{"alone": {Max: 9}, "shared": {Min: -2, Max: 2}, "again": {Min: -1, Max: 1}, "joined": {Min: -2, Max: 8}})
	p.settle()
	all := p.s.o.activations().coding(-2, 8)
	got := map[string]bool{}
	for v, c := range p.params {
		got[v.Name()] = c.scale == all.scale && c.zero == all.zero
	}
	for name, want := range map[string]bool{"alone": true, "again": true, "joined": true, "shared": false, "share": false} {
		if got[name] != want {
			t.Errorf("%s has the codes of the Concat: %v", name, got[name])
		}
	}
}

// TestClipOfConv: a Relu behind a convolution is done by its codes, whoever reads it; behind a product, which need not write codes, it is not.
func TestClipOfConv(t *testing.T) {
	const model = `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,4,8,8] x, float[2,4] z) => (float[1,4,1,1] y, float[2,4] o) <float[4,4,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
  float[4,4] m = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> {
  c = Conv (x, w)
  r = Relu (c)
  y = GlobalAveragePool (r)
  d = MatMul (z, m)
  s = Relu (d)
  o = Exp (s)
}`
	p := plannedWith(t, model, map[string]calibrate.Range{"c": {Min: -4, Max: 4}, "r": {Max: 4}, "d": {Min: -4, Max: 4}, "s": {Max: 4}})
	p.settle()
	quantized := map[string]bool{}
	for v := range p.quantized {
		quantized[v.Name()] = true
	}
	for name, want := range map[string]bool{"c": false, "r": true, "y": false, "d": false, "s": false} {
		if quantized[name] != want {
			t.Errorf("%s is quantized: %v", name, quantized[name])
		}
	}
}
