package dataset

// order is a permutation of 0 … n-1 that is computed, not stored: a Feistel
// network of four rounds over the least even number of bits that holds n, with
// cycle walking to stay below n (Black and Rogaway, "Ciphers with Arbitrary
// Finite Domains", 2002). Without keys it is the identity.
type order struct {
	n    uint64
	half uint // bits of half a block
	keys [4]uint64
}

func newOrder(n, seed uint64) order {
	o := order{n: n, half: 1}
	for n > 1<<(2*o.half) {
		o.half++
	}
	for i := range o.keys {
		o.keys[i] = mix(seed + uint64(i+1)*0x9e3779b97f4a7c15)
	}
	return o
}

// at returns the k-th element, 0 ≤ k < n.
func (o order) at(k int64) int64 {
	if o.half == 0 {
		return int64(k)
	}
	x, mask := uint64(k), uint64(1)<<o.half-1
	for {
		l, r := x>>o.half, x&mask
		for _, key := range o.keys {
			l, r = r, l^mix(r^key)&mask
		}
		if x = l<<o.half | r; x < o.n {
			return int64(x)
		}
	}
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
