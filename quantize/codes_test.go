package quantize

import "testing"

// TestNoElements: the codes of a tensor without elements, which may have no data.
func TestNoElements(t *testing.T) {
	c := &coded{size: 2, fill: each(2, func([]byte, float32) { t.Error("a number was coded") })}
	if b, err := c.Bytes(); err != nil || len(b) != 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if n, err := c.ReadAt(nil, 0); err != nil || n != 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
