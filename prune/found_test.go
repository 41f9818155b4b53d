package prune

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// TestFound holds what [FuzzMeaning] found.
func TestFound(t *testing.T) {
	for name, text := range map[string]string{
		"a computed scale of a group normalization": `<ir_version: 10, opset_import: ["" : 21]>
main (float[N,4,3,5] x) => (float[N,4,3,5] y) <float[4,4,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}, int64[3] s = {0, 2, -1}, float[2] o = {1, 2}, float[2] z = {0, 1}> {
  c = Conv (x, w)
  f = Reshape (c, s)
  p = Neg (o)
  q = Transpose (z)
  i = InstanceNormalization <epsilon = 1e-06> (f, p, q)
  t = Shape (c)
  y = Reshape (i, t)
}`,
		"axes that are no permutation": `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,6,2,2] x) => (y) <int64[5] a = {1, 3, 2, 2, 2}, int64[4] b = {1, 6, 2, 2}> {
  r = Reshape (x, a)
  t = Transpose <perm = [0, 7, 1, 3, 4]> (r)
  y = Reshape (t, b)
}`,
		"fewer steps than starts": `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,6,2,2] x) => (y) <int64[2] from = {0, 1}, int64[2] to = {2, 2}, int64[2] axes = {2, 3}, int64[1] steps = {1}> {
  y = Slice (x, from, to, axes, steps)
}`,
	} {
		t.Run(name, func(t *testing.T) {
			for how := range uint8(3) {
				m, err := onnxtext.Parse(name, []byte(text))
				if err != nil {
					t.Fatal(err)
				}
				meaningOracle(t, m, how)
			}
		})
	}
}
