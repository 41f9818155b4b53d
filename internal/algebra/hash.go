package algebra

import "math"

// hashStart and hashPrime are those of the 64-bit FNV hash.
const (
	hashStart = 14695981039346656037
	hashPrime = 1099511628211
)

// hash mixes x into h: a multiplication spreads the bits upwards, the shifts
// bring them back down.
func hash(h, x uint64) uint64 {
	h = (h ^ x) * hashPrime
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func hashText(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * hashPrime
	}
	return hash(h, uint64(len(s)))
}

// rounded returns the bits of c to 24 binary digits, those of float32 without
// its range: numbers that exporters rounded differently mostly agree in them.
func rounded(c float64) uint64 {
	const below = 1 << 28 // half of what is cut
	return (math.Float64bits(c) + below) >> 29
}
