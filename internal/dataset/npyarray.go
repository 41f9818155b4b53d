package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// fortranBlock is how many bytes of a Fortran-ordered array are turned at once.
const fortranBlock = 16 << 20

// array is a NumPy array in a file or an archive, read row by row along its
// first axis. An array of rank 0 has one row, which serves every sample.
type array struct {
	name   string // without .npy
	path   string // for messages
	head   *npyHeader
	at     io.ReaderAt                   // the .npy bytes, where they can be read at random
	stream func() (io.ReadCloser, error) // the .npy bytes from the start, where not
	spill  *os.File                      // uncompressed copy
	linked string                        // name of the copy, where open files cannot be unlinked
}

func (a *array) constant() bool { return len(a.head.shape) == 0 }

// rows returns the number of samples; 1 for an array of rank 0.
func (a *array) rows() int64 {
	if a.constant() {
		return 1
	}
	return a.head.shape[0]
}

// rowShape returns the shape without the sample axis.
func (a *array) rowShape() []int64 {
	if a.constant() {
		return []int64{}
	}
	return a.head.shape[1:]
}

// rowSize returns the bytes of one row in the file.
func (a *array) rowSize() int64 { return a.head.bytes() / a.rows() }

// check compares the header with the size of the .npy content, and a row with limit.
func (a *array) check(size, limit int64) error {
	want := a.head.start + a.head.bytes()
	switch {
	case size < want:
		return fmt.Errorf("%s: %d bytes, but its header describes %d; the file is incomplete", a.path, size, want)
	case size > want:
		return fmt.Errorf("%s: %d bytes after the end of the array; save one array per file", a.path, size-want)
	case a.rowSize() > limit:
		return fmt.Errorf("%s: one row of shape %v takes %d bytes, more than the limit of %d; is the first axis the samples?",
			a.path, a.rowShape(), a.rowSize(), limit)
	}
	return nil
}

// stringMemory is about what a string takes in memory beside its text.
const stringMemory = 64

// memory returns about how many bytes a row takes while it becomes a tensor of
// type d: what is stored, and numbers of 8 bytes on the way to another type.
func (a *array) memory(d onnx.DType) int64 {
	size, width := a.rowSize(), int64(a.head.elem.width)
	switch have := a.head.elem.dtype(); {
	case have == onnx.String:
		return size/width*stringMemory + size
	case d == have || d == onnx.Undefined || have == onnx.Undefined:
		return size
	case have == onnx.Uint8 && d == onnx.Float: // straight
		return size + 4*size
	default:
		return size + size/width*(8+int64(d.Bits()+7)/8)
	}
}

// random makes the rows cheap to read in any order: a compressed array is
// copied into a temporary file below dir.
func (a *array) random(dir string) error {
	if a.at != nil {
		return nil
	}
	src, err := a.stream()
	if err != nil {
		return err
	}
	defer src.Close()
	f, err := os.CreateTemp(dir, "lapidary-*.npy")
	if err != nil {
		return fmt.Errorf("%s: making a temporary copy: %w", a.path, err)
	}
	a.spill = f
	if os.Remove(f.Name()) != nil { // an unlinked file vanishes even if the process is killed
		a.linked = f.Name()
	}
	want := a.head.start + a.head.bytes()
	if n, err := io.CopyN(f, src, want); err != nil {
		return fmt.Errorf("%s: making a temporary copy: byte %d of %d: %w", a.path, n, want, err)
	}
	a.at = f
	return nil
}

// close removes the temporary copy, if there is one.
func (a *array) close() error {
	if a.spill == nil {
		return nil
	}
	err := a.spill.Close()
	if a.linked != "" {
		err = errors.Join(err, os.Remove(a.linked))
	}
	return err
}

// rowReader reads rows of one array; it is not safe for concurrent use.
type rowReader interface {
	read(i int64, dst []byte) error
	io.Closer
}

// open returns a reader of the array's rows.
func (a *array) open() (rowReader, error) {
	elements := a.rowSize() / int64(a.head.elem.width)
	switch {
	case a.at == nil:
		return &streamRows{a: a}, nil
	case a.head.fortran && elements > 1:
		return &fortranRows{a: a, first: -1}, nil
	}
	return randomRows{a}, nil
}

// randomRows reads rows of a C-ordered array at their place.
type randomRows struct{ a *array }

func (r randomRows) Close() error { return nil }

func (r randomRows) read(i int64, dst []byte) error {
	if _, err := r.a.at.ReadAt(dst, r.a.head.start+i*int64(len(dst))); err != nil {
		return fmt.Errorf("%s: row %d: %w", r.a.path, i, shortFile(err, "the array"))
	}
	return nil
}

// streamRows reads rows of a compressed C-ordered array; going back starts again.
type streamRows struct {
	a    *array
	src  io.ReadCloser
	next int64
}

func (r *streamRows) Close() error {
	if r.src == nil {
		return nil
	}
	return r.src.Close()
}

func (r *streamRows) read(i int64, dst []byte) error {
	if err := r.seek(i, int64(len(dst))); err != nil {
		return fmt.Errorf("%s: row %d: %w", r.a.path, i, err)
	}
	if _, err := io.ReadFull(r.src, dst); err != nil {
		return fmt.Errorf("%s: row %d: %w", r.a.path, i, shortFile(err, "the array"))
	}
	r.next++
	if r.next < r.a.rows() {
		return nil
	}
	var one [1]byte // reading past the end makes the archive compare its checksum
	if n, err := r.src.Read(one[:]); n != 0 || err != io.EOF {
		return fmt.Errorf("%s: %w", r.a.path, cmpErr(err, errors.New("data after the end of the array")))
	}
	return nil
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (r *streamRows) seek(i, size int64) error {
	skip := (i - r.next) * size
	if r.src == nil || i < r.next {
		if r.src != nil {
			r.src.Close()
		}
		src, err := r.a.stream()
		if err != nil {
			return err
		}
		r.src, r.next, skip = src, 0, r.a.head.start+i*size
	}
	r.next = i
	if skip == 0 {
		return nil
	}
	_, err := io.CopyN(io.Discard, r.src, skip)
	return shortFile(err, "the array")
}

// fortranRows reads rows of an array whose first axis varies fastest, a block
// of rows at a time: one read per element of a row.
type fortranRows struct {
	a     *array
	first int64 // first row of the block, -1 for none
	block []byte
}

func (r *fortranRows) Close() error { return nil }

func (r *fortranRows) read(i int64, dst []byte) error {
	size := int64(len(dst))
	per := max(1, min(fortranBlock/size, r.a.rows()))
	first := i / per * per
	if first != r.first {
		if err := r.load(first, min(per, r.a.rows()-first), size); err != nil {
			return fmt.Errorf("%s: row %d: %w", r.a.path, i, err)
		}
		r.first = first
	}
	copy(dst, r.block[(i-first)*size:])
	return nil
}

// load fills the block with rows first to first+n in C order.
func (r *fortranRows) load(first, n, size int64) error {
	w, shape := int64(r.a.head.elem.width), r.a.rowShape()
	r.first, r.block = -1, slices.Grow(r.block[:0], int(n*size))[:n*size]
	stride := make([]int64, len(shape)) // of the row in C order, in elements
	for k, s := len(shape)-1, int64(1); k >= 0; k-- {
		stride[k], s = s, s*shape[k]
	}
	index := make([]int64, len(shape))
	run := make([]byte, n*w)
	for f := int64(0); f < size/w; f++ {
		if _, err := r.a.at.ReadAt(run, r.a.head.start+(f*r.a.rows()+first)*w); err != nil {
			return err
		}
		var c int64
		for k := range index {
			c += index[k] * stride[k]
		}
		for j := int64(0); j < n; j++ {
			copy(r.block[j*size+c*w:][:w], run[j*w:])
		}
		for k := range index { // the next index, first axis fastest
			if index[k]++; index[k] < shape[k] {
				break
			}
			index[k] = 0
		}
	}
	return nil
}

// tensor wraps row bytes b as a tensor named name with the array's row shape,
// in place: big-endian elements are turned. Raw elements become type raw.
func (a *array) tensor(name string, b []byte, raw onnx.DType) (*onnx.Tensor, error) {
	e := a.head.elem
	if u := e.swap(); e.big && u > 1 {
		for i := 0; i+u <= len(b); i += u {
			slices.Reverse(b[i : i+u])
		}
	}
	d := e.dtype()
	if d == onnx.String {
		return onnx.FromStrings(name, a.rowShape(), npyStrings(b, e)), nil
	}
	if d == onnx.Undefined {
		if raw.Bits() != 8*e.width {
			return nil, fmt.Errorf("%s: raw elements of %d bytes cannot be %v", a.path, e.width, raw)
		}
		d = raw
	}
	if d == onnx.Bool {
		for i, x := range b {
			if x > 1 {
				b[i] = 1
			}
		}
	}
	t, err := onnx.NewTensor(name, d, a.rowShape(), b)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", a.path, err)
	}
	return t, nil
}

// npyStrings cuts fixed-width strings and strips the zeros that pad them.
func npyStrings(b []byte, e npyElem) []string {
	out := make([]string, 0, len(b)/e.width)
	for ; len(b) >= e.width; b = b[e.width:] {
		if e.kind == 'S' {
			out = append(out, strings.TrimRight(string(b[:e.width]), "\x00"))
			continue
		}
		var sb strings.Builder
		for i := 0; i < e.width; i += 4 {
			sb.WriteRune(rune(binary.LittleEndian.Uint32(b[i:])))
		}
		out = append(out, strings.TrimRight(sb.String(), "\x00"))
	}
	return out
}
