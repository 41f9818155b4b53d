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
