package quantize

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// goldenWeights are those that testdata/blocks.txt was made of: [k, n], with a
// channel of zeros, one above zero, and two with ties.
func goldenWeights(k, n int) []float32 {
	w := make([]float32, k*n)
	for i := range w {
		w[i] = float32(pseudo(i))
		switch i % n {
		case 0:
			w[i] = 0
		case 1:
			w[i] = abs32(w[i])
		case 2:
			w[i] = float32(math.RoundToEven(float64(w[i]*8))) / 8
		case 3:
			w[i] = float32(math.RoundToEven(float64(w[i]*16)))/16 + 0.25
		}
	}
	return w
}

// TestGoldenBlocks compares codes, scales and zero points with what
// onnxruntime's own tool made of the same weights, to the last bit, for both
// ways in which weights are stored.
func TestGoldenBlocks(t *testing.T) {
	text, err := os.ReadFile("testdata/blocks.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
		var bits, size, symmetric, k, n int
		var codes, scales, zeros string
		if _, err := fmt.Sscan(line, &bits, &size, &symmetric, &k, &n, &codes, &scales, &zeros); err != nil {
			t.Fatal(err)
		}
		f := blocks{bits: bits, size: size, asymmetric: symmetric == 0, dtype: onnx.Float}
		w := goldenWeights(k, n)
		turned := make([]float32, len(w))
		transpose(turned, w, k, n)
		for _, op := range []operand{
			{t: onnx.FromFloats("w", []int64{int64(k), int64(n)}, w), k: k, n: n, batch: 1},
			{t: onnx.FromFloats("w", []int64{int64(n), int64(k)}, turned), k: k, n: n, batch: 1, rows: true},
		} {
			name := fmt.Sprintf("%d bits, blocks of %d, symmetric %d, %d×%d, rows %v", bits, size, symmetric, k, n, op.rows)
			l := layout{c: &blockwise{f: f, op: op}}
			same(t, name+": codes", l.codes("c"), codes)
			same(t, name+": scales", l.scales("s"), scales)
			if z := l.zeros("z"); z != nil {
				same(t, name+": zero points", z, zeros)
			}
		}
	}
}

func same(t *testing.T, name string, x *onnx.Tensor, want string) {
	t.Helper()
	b, err := x.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if w, _ := hex.DecodeString(want); !bytes.Equal(b, w) {
		t.Errorf("%s:\n%x, want\n%x", name, b, w)
	}
}
