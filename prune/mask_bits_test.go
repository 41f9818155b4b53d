package prune

import (
	"bytes"
	"io"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// parted is content that is read in parts.
type parted struct{ onnx.Raw }

func (p parted) ReadAt(b []byte, off int64) (int, error) { return copy(b, p.Raw[off:]), nil }

// TestZeroedParts: wherever a part begins and ends, it is what the whole has there.
func TestZeroedParts(t *testing.T) {
	values := make([]float32, 300)
	for i := range values {
		values[i] = float32(i) + 0.3
	}
	w := onnx.FromFloats("w", []int64{300}, values)
	raw, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	w.Data = parted{raw}
	mask := newMask(300)
	for i := 0; i < 300; i += 3 {
		mask.set(i)
	}
	d := zeroedOf(w, mask)
	want, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(want, raw) {
		t.Fatal("nothing is zero")
	}
	r := d.(io.ReaderAt)
	for off := 0; off < len(want); off += 37 {
		for _, n := range []int{1, 3, 4, 50, 511} {
			b := make([]byte, min(n, len(want)-off))
			if _, err := r.ReadAt(b, int64(off)); err != nil || !bytes.Equal(b, want[off:off+len(b)]) {
				t.Fatalf("%d bytes from %d on: %v, want %v (%v)", len(b), off, b, want[off:off+len(b)], err)
			}
		}
	}
}
