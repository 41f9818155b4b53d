package dataset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Limits on what an .npy header may say. NumPy itself writes at most a few
// hundred bytes and reads at most 64 dimensions.
const (
	maxNpyHeader = 1 << 20
	maxNpyRank   = 64
	maxNpyString = 1 << 20 // bytes of one element
)

// npyHeader describes the array in an .npy file.
type npyHeader struct {
	elem    npyElem
	fortran bool    // first axis varies fastest
	shape   []int64 // sizes, all positive
	start   int64   // bytes before the first element
}

// npyElem is the element type of an array, NumPy's "descr".
type npyElem struct {
	kind  byte // b, i, u, f, c, S, U or V
	width int  // bytes
	big   bool // big-endian
}

// dtype returns the ONNX type of the elements; Undefined for raw bytes.
func (e npyElem) dtype() onnx.DType {
	switch string(e.kind) + strconv.Itoa(e.width) {
	case "b1":
		return onnx.Bool
	case "i1":
		return onnx.Int8
	case "i2":
		return onnx.Int16
	case "i4":
		return onnx.Int32
	case "i8":
		return onnx.Int64
	case "u1":
		return onnx.Uint8
	case "u2":
		return onnx.Uint16
	case "u4":
		return onnx.Uint32
	case "u8":
		return onnx.Uint64
	case "f2":
		return onnx.Float16
	case "f4":
		return onnx.Float
	case "f8":
		return onnx.Double
	case "c8":
		return onnx.Complex64
	case "c16":
		return onnx.Complex128
	}
	if e.kind == 'S' || e.kind == 'U' {
		return onnx.String
	}
	return onnx.Undefined
}

// swap is the size of the units whose bytes are reversed in big-endian files.
func (e npyElem) swap() int {
	switch e.kind {
	case 'c':
		return e.width / 2
	case 'U':
		return 4
	case 'S', 'V', 'b':
		return 1
	}
	return e.width
}

// bytes returns the size of the array's elements in the file.
func (h *npyHeader) bytes() int64 {
	n, _ := onnx.ElementCount(h.shape)
	return n * int64(h.elem.width)
}

// readNpyHeader reads the header of an .npy file, versions 1 to 3.
func readNpyHeader(r io.Reader) (*npyHeader, error) {
	var lead [10]byte
	if _, err := io.ReadFull(r, lead[:]); err != nil {
		return nil, shortFile(err, "the header")
	}
	if string(lead[:6]) != "\x93NUMPY" {
		return nil, errors.New("not an .npy file: the first six bytes are not \\x93NUMPY")
	}
	size, start := int64(binary.LittleEndian.Uint16(lead[8:])), int64(10)
	switch lead[6] {
	case 1:
	case 2, 3:
		var more [2]byte
		if _, err := io.ReadFull(r, more[:]); err != nil {
			return nil, shortFile(err, "the header")
		}
		size |= int64(binary.LittleEndian.Uint16(more[:])) << 16
		start = 12
	default:
		return nil, fmt.Errorf("format version %d.%d is not known; save the array again with NumPy", lead[6], lead[7])
	}
	if size > maxNpyHeader {
		return nil, fmt.Errorf("the header claims %d bytes, more than the %d allowed", size, maxNpyHeader)
	}
	var text bytes.Buffer // grows with what is there, not with what is claimed
	if n, err := io.CopyN(&text, r, size); err != nil {
		return nil, fmt.Errorf("the file ends %d bytes into a header of %d", n, size)
	}
	h, err := parseNpyHeader(text.String())
	if err != nil {
		return nil, err
	}
	h.start = start + size
	return h, nil
}

// shortFile names what an unexpected end of file cuts off.
func shortFile(err error, what string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the file ends within %s", what)
	}
	return err
}

// parseNpyHeader parses the Python dictionary of a header, such as
// {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
func parseNpyHeader(s string) (*npyHeader, error) {
	p := &literal{s: s}
	h := &npyHeader{}
	seen := map[string]bool{}
	p.expect('{')
	for p.err == nil && !p.skip('}') {
		key := p.str()
		p.expect(':')
		if seen[key] {
			p.failf("key %q appears twice", key)
		}
		seen[key] = true
		switch key {
		case "descr":
			p.descr(h)
		case "fortran_order":
			h.fortran = p.boolean()
		case "shape":
			h.shape = p.tuple()
		default:
			p.failf("unknown key %q", key)
		}
		if !p.skip(',') && p.peek() != '}' {
			p.failf("no comma after %q", key)
		}
	}
	if p.err == nil && len(seen) != 3 {
		p.failf("descr, fortran_order and shape are needed")
	}
	if p.err == nil && strings.TrimSpace(p.s[p.i:]) != "" {
		p.failf("text after the dictionary")
	}
	if p.err == nil {
		p.err = h.check()
	}
	if p.err != nil {
		return nil, p.err
	}
	return h, nil
}

// check refuses shapes that no file can hold.
func (h *npyHeader) check() error {
	n, ok := onnx.ElementCount(h.shape)
	switch {
	case len(h.shape) > maxNpyRank:
		return fmt.Errorf("the array has %d dimensions, more than the %d allowed", len(h.shape), maxNpyRank)
	case !ok || n > (1<<62)/int64(h.elem.width):
		return fmt.Errorf("shape %v overflows", h.shape)
	case n == 0:
		return fmt.Errorf("shape %v has no elements", h.shape)
	}
	return nil
}

// literal reads the few Python literals that headers consist of. The first
// error stays.
type literal struct {
	s   string
	i   int
	err error
}

func (p *literal) failf(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("header byte %d: "+format, append([]any{p.i}, args...)...)
	}
}

func (p *literal) peek() byte {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
	if p.i == len(p.s) {
		return 0
	}
	return p.s[p.i]
}

func (p *literal) skip(c byte) bool {
	if p.err == nil && p.peek() == c && p.i < len(p.s) {
		p.i++
		return true
	}
	return false
}

func (p *literal) expect(c byte) {
	if p.err == nil && !p.skip(c) {
		p.failf("want %q", c)
	}
}

func (p *literal) str() string {
	q := p.peek()
	if q != '\'' && q != '"' {
		p.failf("want a string")
		return ""
	}
	end := strings.IndexByte(p.s[p.i+1:], q)
	if end < 0 {
		p.failf("a string does not end")
		return ""
	}
	out := p.s[p.i+1 : p.i+1+end]
	p.i += end + 2
	return out
}

func (p *literal) boolean() bool {
	p.peek()
	for word, v := range map[string]bool{"True": true, "False": false} {
		if strings.HasPrefix(p.s[p.i:], word) {
			p.i += len(word)
			return v
		}
	}
	p.failf("want True or False")
	return false
}

// tuple reads (), (3,) or (3, 4); Python 2 wrote an L after long integers.
func (p *literal) tuple() []int64 {
	out := []int64{}
	p.expect('(')
	for p.err == nil && !p.skip(')') {
		p.peek()
		end := p.i
		for end < len(p.s) && p.s[end] >= '0' && p.s[end] <= '9' {
			end++
		}
		n, err := strconv.ParseInt(p.s[p.i:end], 10, 64)
		if err != nil {
			p.failf("the shape has a size that is not a number from 0 to 2^63-1")
			return nil
		}
		p.i = end
		p.skip('L')
		out = append(out, n)
		if !p.skip(',') && p.peek() != ')' {
			p.failf("no comma in the shape")
		}
		if len(out) > maxNpyRank {
			p.failf("more than %d dimensions", maxNpyRank)
		}
	}
	return out
}

func (p *literal) descr(h *npyHeader) {
	if p.peek() == '[' || p.peek() == '(' {
		p.failf("structured arrays are not supported; save one array per field")
		return
	}
	d := p.str()
	if p.err != nil {
		return
	}
	e, err := parseDescr(d)
	if err != nil {
		p.failf("%v", err)
	}
	h.elem = e
}

// parseDescr parses an element type such as "<f4", ">i8", "|S12" or "<U5".
func parseDescr(d string) (npyElem, error) {
	if len(d) < 2 {
		return npyElem{}, fmt.Errorf("element type %q is not known", d)
	}
	e := npyElem{big: d[0] == '>'}
	if strings.IndexByte("<>|=", d[0]) >= 0 {
		d = d[1:]
	}
	if d[0] == 'O' {
		return e, errors.New("arrays of Python objects are not supported; save numbers or strings")
	}
	n, err := strconv.ParseUint(d[1:], 10, 31)
	if err != nil {
		return e, fmt.Errorf("element type %q is not known", d)
	}
	e.kind, e.width = d[0], int(n)
	if e.kind == 'U' {
		e.width = 4 * int(min(n, maxNpyString))
	}
	raw := e.kind == 'V' && (e.width == 1 || e.width == 2)
	if e.dtype() == onnx.Undefined && !raw {
		return e, fmt.Errorf("element type %q is not supported; convert the array to numbers or strings", d)
	}
	if e.width < 1 || e.width > maxNpyString {
		return e, fmt.Errorf("element type %q: elements of %d bytes are not supported", d, e.width)
	}
	return e, nil
}
