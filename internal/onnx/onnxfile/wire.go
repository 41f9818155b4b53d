package onnxfile

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// FormatError says what is wrong with a file's bytes, and where.
type FormatError struct {
	Path   string
	Offset int64 // in bytes from the start of the file; -1 if not known
	Msg    string
}

func (e *FormatError) Error() string {
	at := ""
	if e.Offset >= 0 {
		at = fmt.Sprintf(" at byte %d", e.Offset)
	}
	if e.Path == "" {
		return e.Msg + at
	}
	return fmt.Sprintf("%s: %s%s", e.Path, e.Msg, at)
}

// Limits on hostile files: each bounds memory to a multiple of the file's size.
const (
	maxDepth = 100     // nesting of graphs and of types
	maxItems = 1 << 19 // nodes, their outputs, and what else has a name in all graphs together
	maxParts = 1 << 23 // what these are made of: names, dimensions, metadata; attributes, tensors and graphs count as eight
	maxRank  = 1 << 10 // dimensions of one tensor
	maxName  = 1 << 16 // bytes of one name
)

// decoder holds what is common to all messages of one file.
type decoder struct {
	path  string
	whole []byte   // the whole file
	file  *mapping // where whole is mapped; nil for bytes in memory
	dir   *folder
	items int
	parts int
}

// field is one decoded field of a message.
type field struct {
	num protowire.Number
	typ protowire.Type
	raw []byte // tag and value as encoded
	val []byte // content of a length-delimited field
	n   uint64 // value of a varint or fixed field
}

func (f field) int() int64      { return int64(f.n) }
func (f field) str() string     { return string(f.val) }
func (f field) float() float32  { return math.Float32frombits(uint32(f.n)) }
func (f field) isBytes() bool   { return f.typ == protowire.BytesType }
func (f field) isVarint() bool  { return f.typ == protowire.VarintType }
func (f field) isFixed32() bool { return f.typ == protowire.Fixed32Type }

// offset returns where b, a subslice of the file, begins; -1 if it is none or nil.
func (d *decoder) offset(b []byte) int64 {
	if b == nil || d.whole == nil || cap(b) > cap(d.whole) {
		return -1
	}
	return int64(cap(d.whole) - cap(b))
}

// errf returns a FormatError located at the start of b, a subslice of the file.
func (d *decoder) errf(b []byte, format string, args ...any) error {
	return &FormatError{Path: d.path, Offset: d.offset(b), Msg: fmt.Sprintf(format, args...)}
}

// fields calls f for each field of message b; msg names the message in errors.
func (d *decoder) fields(b []byte, msg string, f func(field) error) error {
	for len(b) > 0 {
		fd, rest, err := d.next(b, msg)
		if err != nil {
			return err
		}
		if err := f(fd); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// next splits the first field off b.
func (d *decoder) next(b []byte, msg string) (fd field, rest []byte, err error) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return fd, nil, d.errf(b, "%s: malformed field tag", msg)
	}
	fd.num, fd.typ = num, typ
	v := b[n:]
	var m int
	switch typ {
	case protowire.VarintType:
		fd.n, m = protowire.ConsumeVarint(v)
	case protowire.Fixed32Type:
		var x uint32
		x, m = protowire.ConsumeFixed32(v)
		fd.n = uint64(x)
	case protowire.Fixed64Type:
		fd.n, m = protowire.ConsumeFixed64(v)
	case protowire.BytesType:
		fd.val, m = protowire.ConsumeBytes(v)
	case protowire.StartGroupType:
		fd.val, m = protowire.ConsumeGroup(num, v)
	default:
		m = -1
	}
	if m < 0 {
		return fd, nil, d.errf(b, "%s: field %d is cut off or malformed", msg, num)
	}
	fd.raw = b[: n+m : n+m]
	return fd, v[m:], nil
}

// want checks the wire type of a field whose number is known.
func (d *decoder) want(fd field, typ protowire.Type, msg string) error {
	if fd.typ != typ {
		return d.errf(fd.raw, "%s: field %d has wire type %d, want %d", msg, fd.num, fd.typ, typ)
	}
	return nil
}

// count charges one more node or value to the file.
func (d *decoder) count(b []byte) error {
	if d.items++; d.items > maxItems {
		return d.errf(b, "more than %d nodes and values", maxItems)
	}
	return nil
}

// part charges one more part of a node or value to the file.
func (d *decoder) part(b []byte) error { return d.charge(b, 1) }

// largePart charges a part that takes a few hundred bytes of memory.
func (d *decoder) largePart(b []byte) error { return d.charge(b, 8) }

func (d *decoder) charge(b []byte, n int) error {
	if d.parts += n; d.parts > maxParts {
		return d.errf(b, "more than %d attributes, names, dimensions and other parts of nodes and values, as they are counted", maxParts)
	}
	return nil
}

// name charges a name.
func (d *decoder) name(f field) (string, error) {
	if len(f.val) > maxName {
		return "", d.errf(f.raw, "a name of %d bytes; at most %d are allowed", len(f.val), maxName)
	}
	return f.str(), d.part(f.raw)
}

// varints appends the int64 elements of a packed or unpacked repeated field.
func (d *decoder) varints(out []int64, fd field, msg string) ([]int64, error) {
	if fd.isVarint() {
		return append(out, fd.int()), nil
	}
	if err := d.want(fd, protowire.BytesType, msg); err != nil {
		return nil, err
	}
	for b := fd.val; len(b) > 0; {
		x, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, d.errf(b, "%s: field %d: malformed number", msg, fd.num)
		}
		out = append(out, int64(x))
		b = b[n:]
	}
	return out, nil
}

// floats appends the elements of a packed or unpacked repeated float field.
func (d *decoder) floats(out []float32, fd field, msg string) ([]float32, error) {
	if fd.isFixed32() {
		return append(out, fd.float()), nil
	}
	if err := d.want(fd, protowire.BytesType, msg); err != nil {
		return nil, err
	}
	if len(fd.val)%4 != 0 {
		return nil, d.errf(fd.raw, "%s: field %d: %d bytes are no whole floats", msg, fd.num, len(fd.val))
	}
	for b := fd.val; len(b) > 0; b = b[4:] {
		x, _ := protowire.ConsumeFixed32(b)
		out = append(out, math.Float32frombits(x))
	}
	return out, nil
}
