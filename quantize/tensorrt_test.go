package quantize

import (
	"math"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestShortcut: of an Add the branch has codes that passes by the convolution.
func TestShortcut(t *testing.T) {
	weights := `<float[4,4,1,1] w, float[4,4,1,1] u, float[4,4,1,1] v>`
	for _, c := range []struct {
		name, body string
		input      int
		ok         bool
	}{
		{"behind a convolution", "r = Relu (x) c = Conv (r, w) y = Add (c, r)", 1, true},
		{"the other way round", "r = Relu (x) c = Conv (r, w) y = Add (r, c)", 0, true},
		{"a shorter branch of convolutions", "r = Relu (x) c = Conv (r, w) d = Relu (c) e = Conv (d, u) f = Conv (r, v) y = Add (e, f)", 1, true},
		{"which may come first", "r = Relu (x) c = Conv (r, w) d = Relu (c) e = Conv (d, u) f = Conv (r, v) y = Add (f, e)", 0, true},
		{"no convolution", "r = Relu (x) s = Sigmoid (x) y = Add (r, s)", 0, false},
		{"a convolution that others read too", "r = Relu (x) c = Conv (r, w) d = Add (c, r) e = Relu (c) y = Add (d, e)", 0, false},
		{"a value with itself", "c = Conv (x, w) y = Add (c, c)", 0, false},
	} {
		m := parsed(t, `<ir_version: 8, opset_import: ["" : 17]> main (float[1,4,4,4] x) => (float[1,4,4,4] y) `+
			zeroed(weights)+` { `+c.body+` }`)
		var last *onnx.Node
		for n := range m.Graph.Nodes() {
			last = n
		}
		input, ok := (&plan{m: m}).shortcut(last)
		if ok != c.ok || ok && input != c.input {
			t.Errorf("%s: input %d, %v; want %d, %v", c.name, input, ok, c.input, c.ok)
		}
	}
}

// zeroed gives the weights of a text content.
func zeroed(text string) string {
	zeros := "{0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}"
	out := ""
	for _, r := range text {
		if r == ',' && len(out) > 0 && (out[len(out)-1] == 'w' || out[len(out)-1] == 'u') || r == '>' {
			out += " = " + zeros
		}
		out += string(r)
	}
	return out
}

// TestWeightCodes: uint8 has 128 in the middle per channel, and a zero point of its
// own for a whole tensor; in 7 bits it ends at 127.
func TestWeightCodes(t *testing.T) {
	w := onnx.FromFloats("w", []int64{2, 2}, []float32{-1, 3, 0, 0})
	for _, c := range []struct {
		axis   int
		narrow bool
		scales []float32
		zero   int
		codes  []int64
	}{
		{0, false, []float32{6. / 255, 1}, 128, []int64{128 - 42, 255, 128, 128}}, // 85.5 ends at 42.5, half to even
		{-1, false, []float32{4. / 255}, 64, []int64{0, 255, 64, 64}},
		{0, true, []float32{6. / 127, 1}, 64, []int64{64 - 21, 127, 64, 64}},
		{-1, true, []float32{4. / 127}, 32, []int64{0, 127, 32, 32}},
	} {
		o := &Options{CodeOptions: CodeOptions{Weights: "uint8"}}
		m := channelsOf(w, c.axis)
		s, err := o.weightCodes(c.axis >= 0, c.narrow).steps(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.coded("q", s).Ints()
		for i := range c.scales {
			if s.scales[i] != c.scales[i] || s.zero != c.zero || err != nil {
				t.Errorf("axis %d: scales %v, zero point %d, want %v and %d (%v)", c.axis, s.scales, s.zero, c.scales, c.zero, err)
			}
		}
		for i := range c.codes {
			if got[i] != c.codes[i] {
				t.Errorf("axis %d, narrow %v: codes %v, want %v", c.axis, c.narrow, got, c.codes)
				break
			}
		}
	}
}

// TestWideParity: scales, as float32 bits, and zero points of
// onnxruntime.quantization 1.30, by compute_scale_zp with the ends of the type.
func TestWideParity(t *testing.T) {
	for _, c := range wideParity {
		scale, zero := activationTypes[c.t].params(c.lo, c.hi)
		if got := math.Float32bits(scale); got != c.bits || zero != c.zero {
			t.Errorf("%s, %v to %v: scale of bits %d and zero point %d, want %d and %d", c.t, c.lo, c.hi, got, zero, c.bits, c.zero)
		}
	}
}

var wideParity = []struct {
	t      string
	lo, hi float32
	bits   uint32
	zero   int
}{
	{"int8", 0, 6, 1019265217, -128}, {"int8", -1, 1, 1006665857, 0}, {"int8", -0.3, 2.7, 1010876609, -102}, {"int8", 1, 3, 1010876609, -128},
	{"int8", -5, -2, 1017159841, 127}, {"int8", 0, 0, 1065353216, 0}, {"int8", -0.1, 12.345678, 1028122985, -126}, {"int8", -1.2345678, 3.3333333, 1016250110, -59},
	{"uint16", 0, 6, 952107200, 0}, {"uint16", -1, 1, 939524224, 32768}, {"uint16", -0.3, 2.7, 943718592, 6554}, {"uint16", 1, 3, 943718592, 0},
	{"uint16", -5, -2, 950010016, 65535}, {"uint16", 0, 0, 1065353216, 0}, {"uint16", -0.1, 12.345678, 960963143, 527}, {"uint16", -1.2345678, 3.3333333, 949103825, 17712},
	{"int16", 0, 6, 952107200, -32768}, {"int16", -1, 1, 939524224, 0}, {"int16", -0.3, 2.7, 943718592, -26214}, {"int16", 1, 3, 943718592, -32768},
	{"int16", -5, -2, 950010016, 32767}, {"int16", 0, 0, 1065353216, 0}, {"int16", -0.1, 12.345678, 960963143, -32241}, {"int16", -1.2345678, 3.3333333, 949103825, -15056},
}
