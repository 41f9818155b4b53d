package quantize

import (
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// faulty is a node that reads weights in blocks, before and after something went wrong.
type faulty struct {
	b     *blockwise
	form  form
	codes []byte
	parts [3]*onnx.Tensor
}

// squareWeights are as many rows as columns, so that no shape betrays a mistake.
func squareWeights(n int) []float32 {
	w := make([]float32, n*n)
	for i := range w {
		w[i] = float32(pseudo(i)) * float32(1+i%7)
	}
	return w
}

func newFaulty(t *testing.T, f form, asymmetric, rows bool, w []float32, n int) *faulty {
	t.Helper()
	op := operand{t: onnx.FromFloats("w", []int64{int64(n), int64(n)}, w), k: n, n: n, batch: 1, rows: rows}
	b := &blockwise{f: blocks{bits: 4, size: 16, asymmetric: asymmetric, dtype: onnx.Float}, op: op}
	var err error
	if b.steps, err = b.fit(); err != nil {
		t.Fatal(err)
	}
	l := (&weightsPass{}).layout(b, f)
	x := &faulty{b: b, form: f, parts: [3]*onnx.Tensor{l.codes("codes"), l.scales("scales"), l.zeros("zeros")}}
	if x.codes, err = x.parts[0].Bytes(); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *faulty) node() *onnx.Node {
	var v [3]*onnx.Value
	for i, t := range x.parts {
		if t != nil {
			v[i] = onnx.Unattached(t)
		}
	}
	return (&weightsPass{}).reader(v, x.b, &use{form: x.form})
}

func (x *faulty) check(n *onnx.Node) error {
	return checkBlocks(`node "/fc/MatMul" (MatMul)`, n, x.codes, x.b)
}

// TestSeededFaults breaks weights in the ways in which tools got them wrong, and
// checks that each is found and the node named.
func TestSeededFaults(t *testing.T) {
	const n = 48 // three blocks, an odd number
	w := squareWeights(n)
	turned := make([]float32, len(w))
	transpose(turned, w, n, n)
	for _, f := range []form{formNBits, formPlain, formGather} {
		for _, asymmetric := range []bool{false, true} {
			rows := f == formGather
			name := string(f)
			x := newFaulty(t, f, asymmetric, rows, w, n)
			if err := x.check(x.node()); err != nil {
				t.Fatalf("%s: sound weights are called broken: %v", name, err)
			}
			caught := func(fault string, x *faulty, node *onnx.Node) {
				t.Helper()
				err := x.check(node)
				if err == nil || !strings.Contains(err.Error(), `"/fc/MatMul"`) || !strings.Contains(err.Error(), `"w"`) {
					t.Errorf("%s, asymmetric %v: %s: %v", name, asymmetric, fault, err)
				}
			}
			swapped := newFaulty(t, f, asymmetric, rows, w, n)
			for i, c := range swapped.codes {
				swapped.codes[i] = c<<4 | c>>4
			}
			caught("swapped nibbles", swapped, swapped.node())

			other := newFaulty(t, f, asymmetric, rows, turned, n)
			other.b = x.b
			caught("transposed weights", other, other.node())

			if f != formNBits {
				node := x.node()
				node.SetAttr(onnx.IntAttr(map[form]string{formPlain: "axis", formGather: "quantize_axis"}[f], int64(map[bool]int{true: 0, false: 1}[rows])))
				caught("wrong axis", x, node)
			}
			node := x.node()
			node.SetAttr(onnx.IntAttr("block_size", 32))
			caught("other blocks", x, node)

			if asymmetric {
				shifted := newFaulty(t, f, true, rows, w, n)
				for i := range shifted.b.steps.zero {
					if z := &shifted.b.steps.zero[i]; *z > 0 {
						*z--
					}
				}
				caught("zero points off by one", shifted, shifted.node())
			}
			if asymmetric && f == formNBits {
				odd := newFaulty(t, f, true, rows, w, n)
				odd.parts[2] = withoutPadding(odd.b)
				caught("zero points of an odd number of blocks not filled up", odd, odd.node())
			}
		}
	}
}

// withoutPadding packs zero points one behind the other, over the ends of channels.
func withoutPadding(b *blockwise) *onnx.Tensor {
	row := b.f.zeroBytes(b.count())
	out := make([]byte, b.op.n*row)
	b.f.pack(out[:len(b.steps.zero)/2], b.steps.zero)
	return &onnx.Tensor{Name: "zeros", DType: onnx.Uint8, Shape: []int64{int64(b.op.n), int64(row)}, Data: onnx.Raw(out)}
}

// TestCheckedWhenWritten makes a node read codes of other weights, and expects
// that they cannot be written.
func TestCheckedWhenWritten(t *testing.T) {
	x := newFaulty(t, formNBits, false, false, squareWeights(48), 48)
	x.b.check = func(codes []byte) error {
		for i := range codes {
			codes[i] ^= 0x11
		}
		return checkBlocks(`node "/fc/MatMul" (MatMul)`, x.node(), codes, x.b)
	}
	if _, err := (layout{c: x.b}).codes("c").Bytes(); err == nil || !strings.Contains(err.Error(), "/fc/MatMul") {
		t.Errorf("wrong codes were written: %v", err)
	}
}

// TestPackUnpack takes codes of every width there and back.
func TestPackUnpack(t *testing.T) {
	for bits := 2; bits <= 8; bits++ {
		f := blocks{bits: bits, size: 16}
		codes := make([]byte, 16)
		for i := range codes {
			codes[i] = byte(i*37+5) & byte(f.top())
		}
		packed := make([]byte, f.bytes())
		f.pack(packed, codes)
		for i, want := range codes {
			if got := unpack(packed, i, bits); got != want {
				t.Errorf("%d bits: element %d is %d, want %d", bits, i, got, want)
			}
			if got := bitsAt(packed, int64(i*bits), int64(bits)); got != int64(want) {
				t.Errorf("%d bits: element %d reads as %d, want %d", bits, i, got, want)
			}
		}
	}
}
