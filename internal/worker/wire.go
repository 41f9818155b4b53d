//go:build unix || windows

package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// A frame is a length of four bytes, little endian, and that many bytes:
// a message. Integers in a message are varints, lists begin with their length.
// Tensors of numbers are not in the message: it says where they lie in the
// shared memory.

// maxFrame bounds a message; only string tensors make a long one.
const maxFrame = 1 << 30

// writeFrame sends one message.
func writeFrame(w io.Writer, msg []byte) error {
	if len(msg) > maxFrame {
		return fmt.Errorf("a message of %d bytes is more than the %d that a worker takes", len(msg), maxFrame)
	}
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(msg)), uint32(len(msg)))
	_, err := w.Write(append(b, msg...))
	return err
}

// readFrame receives one message. Memory grows with what arrives, not with
// what the length announces.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a message of %d bytes was announced, more than %d", n, maxFrame)
	}
	if n <= 1<<16 {
		b := make([]byte, n)
		_, err := io.ReadFull(r, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(b) != int(n) {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// encoder builds a message.
type encoder struct{ b []byte }

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }

func (e *encoder) bool(v bool) {
	if v {
		e.uint(1)
	} else {
		e.uint(0)
	}
}

func (e *encoder) bytes(v []byte) {
	e.uint(uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) str(v string) {
	e.uint(uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *encoder) strs(v []string) {
	e.bool(v != nil)
	e.uint(uint64(len(v)))
	for _, s := range v {
		e.str(s)
	}
}

func (e *encoder) ints(v []int64) {
	e.uint(uint64(len(v)))
	for _, n := range v {
		e.int(n)
	}
}

// decoder reads a message; after the first fault it gives zeros.
type decoder struct {
	b   []byte
	err error
}

var errMessage = errors.New("malformed message")

func (d *decoder) fail() {
	d.b, d.err = nil, errMessage
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bool() bool { return d.uint() != 0 }

// maxAhead bounds the elements that a list has room for before they were read.
const maxAhead = 1 << 10

// count reads the length of a list whose elements take a byte or more each.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

// bytes returns a window of the message.
func (d *decoder) bytes() []byte {
	n := d.count()
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) str() string { return string(d.bytes()) }

func (d *decoder) strs() []string {
	present := d.bool()
	n := d.count()
	if !present {
		return nil
	}
	out := make([]string, 0, min(n, maxAhead))
	for range n {
		out = append(out, d.str())
	}
	return out
}

func (d *decoder) ints() []int64 {
	n := d.count()
	out := make([]int64, 0, min(n, maxAhead))
	for range n {
		out = append(out, d.int())
	}
	return out
}

// done returns the first fault, or that something is left over.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) > 0 {
		return errMessage
	}
	return d.err
}

func (e *encoder) options(o session.Options) {
	e.str(o.Device)
	e.int(int64(o.Threads))
	e.int(int64(o.Level))
	e.strs(o.Outputs)
	e.str(o.Profile)
	e.str(o.SaveModel)
	e.bool(o.Strict)
	e.bool(o.Spin)
	e.bool(o.NoArena)
	e.bool(o.Flush)
	e.bool(o.TimeRead)
	e.int(o.MaxMemory)
	e.uint(uint64(len(o.Config)))
	for k, v := range o.Config {
		e.str(k)
		e.str(v)
	}
}

// options reads what the engine in the worker is opened with; the limits of time are
// the coordinator's to keep.
func (d *decoder) options() session.Options {
	o := session.Options{
		Device: d.str(), Threads: int(d.int()), Level: session.Level(d.int()), Outputs: d.strs(), Profile: d.str(),
		SaveModel: d.str(), Strict: d.bool(), Spin: d.bool(), NoArena: d.bool(), Flush: d.bool(), TimeRead: d.bool(), MaxMemory: d.int(),
	}
	n := d.count()
	if n > 0 {
		o.Config = map[string]string{}
	}
	for range n {
		k := d.str()
		o.Config[k] = d.str()
	}
	return o
}

func (e *encoder) ports(ports []session.Port) {
	e.uint(uint64(len(ports)))
	for _, p := range ports {
		e.str(p.Name)
		e.typ(p.Type)
	}
}

func (d *decoder) ports() []session.Port {
	n := d.count()
	out := make([]session.Port, 0, min(n, maxAhead))
	for range n {
		out = append(out, session.Port{Name: d.str(), Type: d.typ(0)})
	}
	return out
}

func (e *encoder) typ(t *onnx.Type) {
	e.bool(t != nil)
	if t == nil {
		return
	}
	e.uint(uint64(t.Kind))
	e.int(int64(t.Elem))
	e.int(int64(t.Key))
	e.bool(t.Shape.Ranked())
	e.uint(uint64(len(t.Shape)))
	for _, dim := range t.Shape {
		e.int(dim.Value)
		e.str(dim.Param)
	}
	e.typ(t.Of)
}

// maxNesting bounds the nesting of types.
const maxNesting = 16

func (d *decoder) typ(depth int) *onnx.Type {
	if !d.bool() {
		return nil
	}
	if depth > maxNesting {
		d.fail()
		return nil
	}
	t := &onnx.Type{Kind: onnx.TypeKind(d.uint()), Elem: onnx.DType(d.int()), Key: onnx.DType(d.int())}
	ranked := d.bool()
	n := d.count()
	if ranked {
		t.Shape = make(onnx.Shape, 0, min(n, maxAhead))
	}
	for range n {
		t.Shape = append(t.Shape, onnx.Dim{Value: d.int(), Param: d.str()})
	}
	t.Of = d.typ(depth + 1)
	return t
}

func (e *encoder) stats(s session.Stats) {
	for _, v := range []int64{int64(s.PID), int64(s.Read), int64(s.Create), int64(s.FirstRun), s.PeakMemory, s.BaseMemory, s.Switches, int64(s.Fallbacks)} {
		e.int(v)
	}
	e.str(s.Provider)
}

// put writes tensors: their content into memory, the rest into the message.
// What already lies in memory is not moved.
func (e *encoder) put(m *memory, list map[string]*onnx.Tensor) error {
	e.uint(uint64(len(list)))
	for name, t := range list {
		e.str(name)
		e.int(int64(t.DType))
		e.ints(t.Shape)
		if t.DType == onnx.String {
			e.uint(uint64(len(t.Str)))
			for _, s := range t.Str {
				e.bytes(s)
			}
			continue
		}
		b, err := t.Bytes()
		if err != nil {
			return err
		}
		at, err := m.put(b)
		if err != nil {
			return err
		}
		e.uint(uint64(at))
		e.uint(uint64(len(b)))
	}
	return nil
}

// take reads tensors whose content stays in memory.
func (d *decoder) take(m *memory) (map[string]*onnx.Tensor, error) {
	n := d.count()
	out := make(map[string]*onnx.Tensor, min(n, maxAhead))
	for range n {
		t := &onnx.Tensor{Name: d.str(), DType: onnx.DType(d.int()), Shape: d.ints()}
		out[t.Name] = t
		if t.DType == onnx.String {
			count := d.count()
			for range count {
				t.Str = append(t.Str, d.bytes())
			}
			continue
		}
		at, size := d.uint(), d.uint()
		if d.err != nil {
			return nil, d.err
		}
		elements, ok := t.Elements()
		want, known := t.DType.ByteSize(elements)
		if !ok || !known || uint64(want) != size || at > math.MaxInt64 {
			return nil, fmt.Errorf("%w: tensor %q of %d bytes is not %v%v", errMessage, t.Name, size, t.DType, t.Shape)
		}
		b, err := m.window(int64(at), want)
		if err != nil {
			return nil, err
		}
		t.Data = onnx.Raw(b)
	}
	return out, d.err
}
