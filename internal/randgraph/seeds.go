package randgraph

import "math/rand/v2"

// Seeds returns n byte strings of up to 300 bytes to begin fuzzing with, always the same.
func Seeds(n int) [][]byte {
	r := rand.New(rand.NewPCG(7, 7))
	out := make([][]byte, n)
	for i := range out {
		out[i] = make([]byte, 20+r.IntN(280))
		for j := range out[i] {
			out[i][j] = byte(r.Uint32())
		}
	}
	return out
}
