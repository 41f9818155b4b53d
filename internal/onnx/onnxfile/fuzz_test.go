package onnxfile

import (
	"bytes"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"google.golang.org/protobuf/encoding/protowire"
)

// seedModel is a small model with a subgraph, constants and typed values.
func seedModel() *onnx.Model {
	m := onnx.NewModel(17)
	g := m.Graph
	x := g.AddInput("x", onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("N"), onnx.Fixed(2)}))
	w := g.AddInitializer(onnx.FromFloats("w", []int64{2}, []float32{1, 2}))
	s := g.AddInitializer(onnx.FromStrings("s", []int64{1}, []string{"a"}))
	add := onnx.NewNode("Add", []*onnx.Value{x, w}, "y")
	g.Append(add)
	branch := onnx.NewGraph("then")
	id := onnx.NewNode("Identity", []*onnx.Value{add.Output(0)}, "z")
	branch.Append(id)
	branch.AddOutput(id.Output(0))
	node := onnx.NewNode("If", []*onnx.Value{s, nil}, "q")
	node.Attrs = []*onnx.Attr{{Name: "then_branch", Type: onnx.AttrGraph, G: branch}, onnx.IntsAttr("i", 1, -1)}
	g.Append(node)
	g.AddOutput(node.Output(0))
	return m
}

// FuzzDecode: no bytes make the decoder panic, and what it accepts has a
// stable encoding.
func FuzzDecode(f *testing.F) {
	b, err := Encode(seedModel())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x3a, 0})
	for _, b := range zootest.Seeds(f, ".onnx", 64<<10) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		_ = m.Check()
		once, err := Encode(m)
		if err != nil {
			return
		}
		m2, err := Decode(once)
		if err != nil {
			t.Fatalf("what was written does not read back: %v", err)
		}
		twice, err := Encode(m2)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("the second encoding differs (%v):\n%x\n%x", err, once, twice)
		}
		c := m.Clone()
		if enc, err := Encode(c); err != nil || !bytes.Equal(enc, once) {
			t.Fatalf("the encoding of a clone differs (%v)", err)
		}
		_, _ = c.Repair()
	})
}

// FuzzDecodeTensor: a decoded tensor either has all of its content or says why not.
func FuzzDecodeTensor(f *testing.F) {
	for _, t := range []*onnx.Tensor{
		onnx.FromFloats("f", []int64{2, 1}, []float32{1, 2}),
		onnx.FromInts("i", []int64{}, []int64{-1}),
		onnx.FromStrings("s", []int64{1}, []string{"a"}),
	} {
		b, err := EncodeTensor(t)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{8, 1, 16, 3, 40, 0xff, 1})
	for _, b := range zootest.Seeds(f, ".pb", 16<<10) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := DecodeTensor(b)
		if err != nil {
			return
		}
		if v, err := x.Bytes(); err == nil && int64(len(v)) != x.Size() {
			t.Fatalf("%v: %d bytes, want %d", x, len(v), x.Size())
		}
		_, _ = x.Float64s()
		_, _ = x.Ints()
	})
}

// FuzzSequence: a decoded sequence or optional value has tensors that are whole or say why not.
func FuzzSequence(f *testing.F) {
	one, err := EncodeTensor(onnx.FromFloats("f", []int64{2, 1}, []float32{1, 2}))
	if err != nil {
		f.Fatal(err)
	}
	sequence := protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 1)
	sequence = protowire.AppendBytes(protowire.AppendTag(sequence, 3, protowire.BytesType), one)
	f.Add(sequence)
	f.Add(protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), one))
	f.Add(protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), sequence))
	for _, b := range zootest.Seeds(f, ".pb", 16<<10) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := DecodeSequence(b)
		if o, err2 := DecodeOptional(b); err2 == nil {
			list = append(list, o.Sequence...)
			if o.Tensor != nil {
				list = append(list, o.Tensor)
			}
		} else if err != nil {
			return
		}
		for _, x := range list {
			if v, err := x.Bytes(); err == nil && int64(len(v)) != x.Size() {
				t.Fatalf("%v: %d bytes, want %d", x, len(v), x.Size())
			}
		}
	})
}
