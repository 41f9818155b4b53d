package fuse

import (
	"bytes"
	"hash/maphash"
	"io"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// prints remembers fingerprints of tensors, which never change, so that each is
// read once however often a model is rewritten. Large content passes through in
// blocks and is never held.
type prints struct {
	seed  maphash.Seed
	known [2]map[*onnx.Tensor]uint64
	buf   [2][]byte
}

// extent is how much of a tensor a fingerprint is of.
type extent int

const (
	sampled extent = iota // its beginning, middle and end
	whole
)

const printBlock = 1 << 16 // bytes read at a time

// sampleBlock is how many bytes are read at each place of a sampled fingerprint.
const sampleBlock = 4 << 10

func newPrints() *prints {
	p := &prints{seed: maphash.MakeSeed()}
	for i := range p.known {
		p.known[i], p.buf[i] = map[*onnx.Tensor]uint64{}, make([]byte, printBlock)
	}
	return p
}

// of returns the fingerprint of the content of t.
func (p *prints) of(t *onnx.Tensor, x extent) (uint64, error) {
	if h, ok := p.known[x][t]; ok {
		return h, nil
	}
	var h maphash.Hash
	h.SetSeed(p.seed)
	d, err := readable(t.Data)
	if err != nil {
		return 0, err
	}
	size := d.Len()
	if x == whole || size <= 3*sampleBlock {
		for off := int64(0); off < size; off += printBlock {
			if err := p.add(&h, d, off, min(printBlock, size-off)); err != nil {
				return 0, err
			}
		}
	} else {
		for _, off := range []int64{0, size / 2, size - sampleBlock} {
			if err := p.add(&h, d, off, sampleBlock); err != nil {
				return 0, err
			}
		}
	}
	p.known[x][t] = h.Sum64()
	return h.Sum64(), nil
}

// readable returns d in a form that blocks can be read from at no further cost.
func readable(d onnx.Data) (onnx.Data, error) {
	if _, ok := d.(io.ReaderAt); ok {
		return d, nil
	}
	b, err := d.Bytes()
	return onnx.Raw(b), err
}

func (p *prints) add(h *maphash.Hash, d onnx.Data, off, n int64) error {
	b, err := p.read(0, d, off, n)
	if err == nil {
		h.Write(b)
	}
	return err
}

func (p *prints) read(buf int, d onnx.Data, off, n int64) ([]byte, error) {
	b := p.buf[buf][:n]
	return b, onnx.ReadDataAt(d, b, off)
}

// equal compares tensors of one type and size whose sampled fingerprints agree.
func (p *prints) equal(a, b *onnx.Tensor) (bool, error) {
	x, err := p.of(a, whole)
	if err != nil {
		return false, err
	}
	if y, err := p.of(b, whole); err != nil || x != y {
		return false, err
	}
	da, err := readable(a.Data)
	if err != nil {
		return false, err
	}
	db, err := readable(b.Data)
	if err != nil {
		return false, err
	}
	for off := int64(0); off < da.Len(); off += printBlock {
		n := min(printBlock, da.Len()-off)
		c, err := p.read(0, da, off, n)
		if err != nil {
			return false, err
		}
		d, err := p.read(1, db, off, n)
		if err != nil || !bytes.Equal(c, d) {
			return false, err
		}
	}
	return true, nil
}
