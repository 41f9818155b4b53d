package quantize

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// coded8 returns a layer between codes as text, with weights of the given shape.
func coded8(op, attrs, x, w, y string, axis int) string {
	return fmt.Sprintf(`<ir_version: 8, opset_import: ["" : 17]>
layer (uint8%s x) => (float%s y) <float s = {0.02}, uint8 z = {7}, int8[1] w = {0}, float[1] ws = {1}, int8[1] wz = {0}, int32[1] b = {0}, float[1] bs = {1}, int32[1] bz = {0}> {
  a = DequantizeLinear (x, s, z)
  v = DequantizeLinear <axis = %d> (w, ws, wz)
  c = DequantizeLinear <axis = 0> (b, bs, bz)
  y = %s %s (a, v%s)
}`, x, y, axis, op, attrs, map[bool]string{true: ", c"}[op != "MatMul"])
}

// TestSaturating: the twin computes what a processor does that adds products in
// pairs to 16 bits, for every element, and only that differs from the original.
func TestSaturating(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	for _, c := range []struct {
		name, text string
		w          []int64
		channels   int64
		x          []int64
		window     func(x []uint8, o, pos int) []uint8 // what output o at pos reads, in order
	}{
		{"product", coded8("MatMul", "", "[3,5]", "", "[3,4]", 1), []int64{5, 4}, 4, []int64{3, 5},
			func(x []uint8, _, pos int) []uint8 { return x[5*pos : 5*pos+5] }},
		{"transposed", coded8("Gemm", "<transB = 1>", "[3,6]", "", "[3,4]", 0), []int64{4, 6}, 4, []int64{3, 6},
			func(x []uint8, _, pos int) []uint8 { return x[6*pos : 6*pos+6] }},
		{"convolution", coded8("Conv", "<pads = [1, 0, 0, 1], strides = [1, 2]>", "[1,3,3,4]", "", "[1,4,3,2]", 0), []int64{4, 3, 2, 2}, 4, []int64{1, 3, 3, 4},
			func(x []uint8, _, pos int) []uint8 {
				var out []uint8
				for tap := range 4 {
					r, q := pos/2-1+tap/2, pos%2*2+tap%2
					for ch := range 3 {
						if r < 0 || q > 3 {
							out = append(out, 7)
						} else {
							out = append(out, x[ch*12+r*4+q])
						}
					}
				}
				return out
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := onnxtext.Parse(c.name, []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			count, _ := onnx.ElementCount(c.w)
			w := make(onnx.Raw, count)
			for i := range w {
				w[i] = byte(int8(r.IntN(255) - 127))
			}
			scales, bias := make([]float32, c.channels), make([]int64, c.channels)
			for i := range scales {
				scales[i], bias[i] = 0.01*float32(i+1), int64(1000*i)
			}
			content := map[string]*onnx.Tensor{
				"w":  {Name: "w", DType: onnx.Int8, Shape: c.w, Data: w},
				"ws": onnx.FromFloats("ws", []int64{c.channels}, scales), "bs": onnx.FromFloats("bs", []int64{c.channels}, scales),
				"wz": {Name: "wz", DType: onnx.Int8, Shape: []int64{c.channels}, Data: make(onnx.Raw, c.channels)},
				"bz": {Name: "bz", DType: onnx.Int32, Shape: []int64{c.channels}, Data: make(onnx.Raw, 4*c.channels)},
			}
			if content["b"], err = onnx.FromFloat64s("b", onnx.Int32, []int64{c.channels}, floatsOf(bias)); err != nil {
				t.Fatal(err)
			}
			fill(m, content)
			layers, err := layersOf(m)
			if err != nil || len(layers) != 1 || layers[0].unsafe(255) == 0 {
				t.Fatalf("%d layers, %v", len(layers), err)
			}
			changed, list, err := saturating(m, nil, nil)
			if err != nil || len(list) != 1 || list[0] != "y" {
				t.Fatalf("%v changed, %v", list, err)
			}
			if _, none, err := saturating(m, nil, func(string) bool { return false }); err != nil || none != nil {
				t.Errorf("%v changed, %v", none, err)
			}
			count, _ = onnx.ElementCount(c.x)
			x := make(onnx.Raw, count)
			for i := range x {
				x[i] = byte(r.IntN(256))
			}
			got := ran(t, open, changed, x, c.x)
			exact := ran(t, open, m, x, c.x)
			if signed := asSigned(t, open, c.text, content, x, c.x); !slices.Equal(signed, got) {
				t.Errorf("with activations in int8: %v, want %v", signed, got)
			}
			positions, apart := len(got)/int(c.channels), 0
			for i := range got {
				o, pos := i%int(c.channels), i/int(c.channels)
				if len(c.w) > 2 {
					o, pos = i/positions, i%positions
				}
				a := c.window(x, o, pos)
				sat, all := layers[0].dot(o, a)
				var offset int32
				for _, k := range layers[0].pairs[o] {
					offset += 7 * int32(k)
				}
				scale := 0.02 * float64(scales[o])
				add := 0.
				if c.name != "product" {
					add = float64(bias[o]) * float64(scales[o])
				}
				want, plain := float64(sat-offset)*scale+add, float64(all-offset)*scale+add
				if math.Abs(float64(got[i])-want) > 1e-3*math.Max(1, math.Abs(want)) {
					t.Fatalf("element %d is %v, want %v (%v without saturation)", i, got[i], want, plain)
				}
				if math.Abs(float64(exact[i])-plain) > 1e-3*math.Max(1, math.Abs(plain)) {
					t.Fatalf("element %d of the original is %v, want %v", i, exact[i], plain)
				}
				if sat != all {
					apart++
				}
			}
			if apart == 0 {
				t.Error("nothing saturates")
			}
		})
	}
}

// fill gives constants content by name.
func fill(m *onnx.Model, content map[string]*onnx.Tensor) {
	for _, v := range m.Graph.Initializers() {
		if x := content[v.Name()]; x != nil {
			v.Const, v.Type = x, x.Type()
		}
	}
}

// asSigned returns what the same layer with the same activations in int8 computes,
// which engines multiply as uint8.
func asSigned(t *testing.T, open session.Opener, text string, content map[string]*onnx.Tensor, x onnx.Raw, shape []int64) []float32 {
	t.Helper()
	m, err := onnxtext.Parse("signed", []byte(strings.NewReplacer("uint8", "int8", "{7}", "{-121}").Replace(text)))
	if err != nil {
		t.Fatal(err)
	}
	fill(m, content)
	changed, list, err := saturating(m, nil, nil)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v changed, %v", list, err)
	}
	codes := make(onnx.Raw, len(x))
	for i, c := range x {
		codes[i] = c - 128
	}
	return ran(t, open, changed, codes, shape)
}

func floatsOf(v []int64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

func ran(t *testing.T, open session.Opener, m *onnx.Model, x onnx.Raw, shape []int64) []float32 {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := open(context.Background(), path, session.Options{Level: session.LevelOff})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Run(context.Background(), map[string]*onnx.Tensor{"x": {Name: "x", DType: m.Graph.Inputs()[0].DType(), Shape: shape, Data: x}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Outputs["y"].Floats()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestUnsafe: the screen knows what can leave 16 bits.
func TestUnsafe(t *testing.T) {
	for _, c := range []struct {
		row  []int8
		top  int
		want float64
	}{
		{[]int8{127, 1}, 255, 0}, {[]int8{64, 64}, 255, 0}, {[]int8{64, 65}, 255, 1}, {[]int8{-64, -65}, 255, 1}, {[]int8{127, -127}, 255, 0},
		{[]int8{127, 127}, 128, 0}, {[]int8{127, 127}, 130, 1}, {[]int8{127, 127, 1, 1}, 255, 0.5}, {[]int8{127}, 255, 0},
	} {
		l := &layer8{pairs: [][]int8{c.row}}
		if got := l.unsafe(c.top); got != c.want {
			t.Errorf("%v up to %d: %v, want %v", c.row, c.top, got, c.want)
		}
	}
}
