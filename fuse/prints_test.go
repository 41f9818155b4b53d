package fuse

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestPrints compares tensors that differ in one byte, at every kind of place.
func TestPrints(t *testing.T) {
	const size = 3 * printBlock
	tensor := func(change int) *onnx.Tensor {
		b := make([]byte, size)
		if change >= 0 {
			b[change] = 1
		}
		return &onnx.Tensor{DType: onnx.Uint8, Shape: []int64{size}, Data: onnx.Raw(b)}
	}
	p := newPrints()
	same, err := p.equal(tensor(-1), tensor(-1))
	if err != nil || !same {
		t.Errorf("equal tensors: %v, %v", same, err)
	}
	for _, c := range []struct {
		at      int
		sampled bool // a sample sees it
	}{{0, true}, {size / 2, true}, {size - 1, true}, {sampleBlock, false}, {size / 4, false}} {
		a, b := tensor(-1), tensor(c.at)
		x, err1 := p.of(a, sampled)
		y, err2 := p.of(b, sampled)
		if err1 != nil || err2 != nil || (x != y) != c.sampled {
			t.Errorf("byte %d: sampled fingerprints differ: %v, want %v", c.at, x != y, c.sampled)
		}
		if same, err := p.equal(a, b); err != nil || same {
			t.Errorf("byte %d: equal %v, %v", c.at, same, err)
		}
	}
}
