//go:build unix

package worker

import (
	"bytes"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// FuzzWire reads messages as the other process may send them once it obeys
// somebody else: every part of one, and tensors that claim to lie in the shared memory.
func FuzzWire(f *testing.F) {
	var e encoder
	e.options(session.Options{Device: "cpu", Outputs: []string{"y"}, Config: map[string]string{"a": "b"}})
	f.Add(bytes.Clone(e.b))
	e = encoder{}
	e.ports([]session.Port{{Name: "x", Type: onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("N"), onnx.Fixed(2)})}})
	f.Add(bytes.Clone(e.b))
	e = encoder{}
	e.uint(1)
	e.str("x")
	e.int(int64(onnx.Float))
	e.ints([]int64{2})
	e.uint(0)
	e.uint(8)
	f.Add(bytes.Clone(e.b))
	e = encoder{}
	if err := e.put(nil, map[string]*onnx.Tensor{"s": onnx.FromStrings("s", []int64{2}, []string{"a", ""})}); err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(e.b))
	file, err := newMemoryFile(func() (string, error) { return f.TempDir(), nil })
	if err != nil {
		f.Fatal(err)
	}
	m, err := mapMemory(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { m.close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func(*decoder){
			func(d *decoder) { d.options() }, func(d *decoder) { d.ports() }, func(d *decoder) { d.typ(0) }, func(d *decoder) { d.strs() }, func(d *decoder) { d.ints() },
		} {
			d := &decoder{b: b}
			read(d)
			d.done()
		}
		d := &decoder{b: b}
		list, err := d.take(m)
		if err != nil {
			return
		}
		for name, x := range list {
			if x.DType == onnx.String {
				continue
			}
			if v, err := x.Bytes(); err != nil || int64(len(v)) != x.Size() {
				t.Fatalf("%q: %d bytes for %v (%v)", name, len(v), x, err)
			}
		}
	})
}

// FuzzFrame splits a stream into messages: no more is held than arrived.
func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	if err := writeFrame(&b, []byte("hello")); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0x3f, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		for {
			msg, err := readFrame(r)
			if err != nil {
				return
			}
			if len(msg) > len(stream) {
				t.Fatalf("a message of %d bytes in a stream of %d", len(msg), len(stream))
			}
		}
	})
}
