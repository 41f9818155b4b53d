package dataset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// inputSum is the digest of one sample's inputs as they are stored: the pixels
// of a picture before resizing, an array's row before conversion. Each element
// counts by its value: an input whose elements are all whole numbers from 0 to 255
// as bytes, which is a quarter of the work for pictures; in any other, each as a
// float32 if it is a float or an integer that float32 holds exactly, else as an
// int64. So the same picture has the same sum in a folder and in an array, and the
// same numbers in any type, for any model and any preprocessing.
type inputSum struct {
	h   hash.Hash
	buf []byte
}

// newInputSum returns nil, which sums nothing, unless on.
func newInputSum(on bool) *inputSum {
	if !on {
		return nil
	}
	return &inputSum{h: sha256.New()}
}

func (s *inputSum) sum() (out [16]byte) {
	if s != nil {
		copy(out[:], s.h.Sum(nil))
	}
	return out
}

// start begins the next input, of n elements.
func (s *inputSum) start(n int) { s.head(uint64(n)) }

// startBytes begins one whose elements are bytes.
func (s *inputSum) startBytes(n int) { s.head(uint64(n) | 1<<63) }

func (s *inputSum) head(v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	s.h.Write(b[:])
}

// add adds a tensor.
func (s *inputSum) add(t *onnx.Tensor) {
	if s == nil {
		return
	}
	switch {
	case t.DType == onnx.String:
		s.start(len(t.Str))
		for _, v := range t.Str {
			s.start(len(v))
			s.h.Write(v)
		}
	case isComplex(t.DType):
		if b, err := t.Bytes(); err == nil {
			s.start(len(b))
			s.h.Write(b)
		}
	case t.DType == onnx.Uint8:
		if b, err := t.Bytes(); err == nil {
			s.pixels(b)
		}
	default:
		s.numbers(t)
	}
}

// numbers adds the elements of a tensor as numbers.
func (s *inputSum) numbers(t *onnx.Tensor) {
	list := parts(t)
	n, _ := t.Elements()
	small := !slices.ContainsFunc(list, func(p *onnx.Tensor) bool { return !smallNumbers(p) })
	if small {
		s.startBytes(int(n))
	} else {
		s.start(int(n))
	}
	for _, p := range list {
		if p.DType.IsFloat() {
			if v, err := p.Floats(); err == nil {
				s.putFloats(v, small)
			}
		} else if v, err := p.Ints(); err == nil {
			s.putInts(v, small)
		}
	}
}

// smallNumbers reports whether all elements are whole numbers from 0 to 255.
func smallNumbers(t *onnx.Tensor) bool {
	if t.DType.IsFloat() {
		v, err := t.Floats()
		return err == nil && smallFloats(v)
	}
	v, err := t.Ints()
	return err == nil && !slices.ContainsFunc(v, func(x int64) bool { return x != int64(uint8(x)) })
}

func smallFloats(v []float32) bool {
	return !slices.ContainsFunc(v, func(x float32) bool { return math.Float32bits(x) != math.Float32bits(float32(uint8(x))) })
}

// parts cuts a tensor into lists that are small as numbers of 8 bytes too. What
// has several elements in a byte stays whole.
func parts(t *onnx.Tensor) []*onnx.Tensor {
	width := t.DType.Bits() / 8
	b, err := t.Bytes()
	if err != nil || width == 0 {
		return []*onnx.Tensor{t}
	}
	var out []*onnx.Tensor
	for part := range slices.Chunk(b, partSize*width) {
		out = append(out, &onnx.Tensor{DType: t.DType, Shape: []int64{int64(len(part) / width)}, Data: onnx.Raw(part)})
	}
	return out
}

// partSize is how many elements become numbers at once.
const partSize = 1 << 20

// sumChunk is how many bytes are put together before they are hashed: they stay in the nearest cache.
const sumChunk = 16 << 10

// chunk returns the buffer, of sumChunk bytes.
func (s *inputSum) chunk() []byte {
	if s.buf == nil {
		s.buf = make([]byte, sumChunk)
	}
	return s.buf
}

func (s *inputSum) pixels(v []byte) {
	s.startBytes(len(v))
	s.h.Write(v)
}

func (s *inputSum) floats(v []float32) {
	small := smallFloats(v)
	if small {
		s.startBytes(len(v))
	} else {
		s.start(len(v))
	}
	s.putFloats(v, small)
}

// putFloats adds elements of an input that began: as bytes if all of its elements are small.
func (s *inputSum) putFloats(v []float32, small bool) {
	buf := s.chunk()
	for part := range slices.Chunk(v, sumChunk/4) {
		if small {
			for i, x := range part {
				buf[i] = uint8(x)
			}
			s.h.Write(buf[:len(part)])
			continue
		}
		for i, x := range part {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(x))
		}
		s.h.Write(buf[:4*len(part)])
	}
}

// putInts does the same with integers.
func (s *inputSum) putInts(v []int64, small bool) {
	buf := s.chunk()[:0]
	lo, hi := exactRange(onnx.Float)
	for _, x := range v {
		switch {
		case small:
			buf = append(buf, uint8(x))
		case lo <= x && x <= hi:
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(float32(x)))
		default:
			buf = binary.LittleEndian.AppendUint64(buf, uint64(x))
		}
		if len(buf) > sumChunk-8 {
			s.h.Write(buf)
			buf = buf[:0]
		}
	}
	s.h.Write(buf)
}

// Digest is the SHA-256 of a data set: of its samples' inputs (by
// [Sample.Sum]), labels, slices and sequences, in order. The zero value is the
// digest of no samples.
type Digest struct{ h hash.Hash }

// Add adds a sample that was read with Options.Sum.
func (d *Digest) Add(s *Sample) {
	if d.h == nil {
		d.h = sha256.New()
	}
	var label inputSum
	label.h = sha256.New()
	if s.Label != nil {
		label.start(len(s.Label.Shape))
		label.add(s.Label)
	}
	for _, text := range append([]string{s.Sequence}, s.Slices...) {
		label.start(len(text))
		label.h.Write([]byte(text))
	}
	for _, name := range sortedNames(s.Expected, "", "") {
		label.h.Write([]byte(name))
		label.add(s.Expected[name])
	}
	d.h.Write(s.Sum[:])
	d.h.Write(label.h.Sum(nil))
}

// Hex returns the digest of what was added so far, in lower-case hexadecimal.
func (d *Digest) Hex() string {
	if d.h == nil {
		d.h = sha256.New()
	}
	return hex.EncodeToString(d.h.Sum(nil))
}

// Digest reads the whole set and returns its digest, in lower-case hexadecimal.
// A caller that reads the samples anyway may collect it by [Digest.Add].
func (s *Set) Digest(ctx context.Context) (string, error) {
	var d Digest
	for sample, err := range s.summed().Samples(ctx) {
		if err != nil {
			return "", err
		}
		d.Add(sample)
	}
	return d.Hex(), nil
}

// summed returns a view of s with sums.
func (s *Set) summed() *Set {
	c := *s
	c.o.Sum = true
	return &c
}

// Overlap counts the samples of a whose inputs also occur in b, whatever their
// labels, and names up to five of them. It needs 16 bytes of memory per sample of b.
func Overlap(ctx context.Context, a, b *Set) (rows int64, examples []string, err error) {
	if a == nil || b == nil {
		return 0, nil, errors.New("overlap: two data sets are needed")
	}
	var known [][16]byte
	for s, err := range b.summed().Samples(ctx) {
		if err != nil {
			return 0, nil, err
		}
		known = append(known, s.Sum)
	}
	compare := func(x, y [16]byte) int { return bytes.Compare(x[:], y[:]) }
	slices.SortFunc(known, compare)
	for s, err := range a.summed().Samples(ctx) {
		if err != nil {
			return 0, nil, err
		}
		if _, ok := slices.BinarySearchFunc(known, s.Sum, compare); !ok {
			continue
		}
		if rows++; len(examples) < 5 {
			examples = append(examples, s.ID)
		}
	}
	return rows, examples, nil
}

// sortedNames returns the keys of m, and picture if there is an image for it.
func sortedNames(m map[string]*onnx.Tensor, image, picture string) []string {
	names := make([]string, 0, len(m)+1)
	for name := range m {
		names = append(names, name)
	}
	if image != "" && m[picture] == nil {
		names = append(names, picture)
	}
	slices.Sort(names)
	return names
}
