package dataset

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func TestParsePreprocess(t *testing.T) {
	full := &Preprocess{
		Input: "x", Resize: Size{Width: 256}, Interpolation: "bicubic", Crop: Size{224, 192}, Channels: "bgr",
		Scale: 1.0 / 255, Mean: []float64{1, 2.5, 3}, Std: []float64{0.5}, Layout: "nhwc", DType: onnx.Float16,
	}
	canonical := "input=x,resize=256,interpolation=bicubic,crop=224x192,channels=bgr,scale=0.00392156862745098,mean=1:2.5:3,std=0.5,layout=nhwc,dtype=float16"
	dir := write(t, map[string][]byte{
		"p.yaml": []byte("std: 0.5\nlayout: nhwc\ndtype: float16\ninput: x\nresize: 256\ninterpolation: bicubic\ncrop: [224, 192]\nchannels: bgr\nscale: 1/255\nmean: [1, 2.5, 3]\n"),
		"p.json": []byte(`{"std": [0.5], "layout": "nhwc", "dtype": "float16", "input": "x", "resize": 256, "interpolation": "bicubic", "crop": "224x192", "channels": "bgr", "scale": 0.00392156862745098, "mean": [1, 2.5, 3]}`),
	})
	for _, spec := range []string{
		"mean=1:2.5:3, std=0.5,resize=256,crop=224x192,interpolation=bicubic,layout=nhwc,channels=bgr,scale=1/255,dtype=float16,input=x",
		canonical, filepath.Join(dir, "p.yaml"), filepath.Join(dir, "p.json"),
	} {
		p, err := ParsePreprocess(spec)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(full, p); d != "" {
			t.Errorf("%s: %s", spec, d)
		}
		if got := p.String(); got != canonical {
			t.Errorf("canonical %q", got)
		}
	}
	if got := (&Preprocess{Interpolation: "bilinear", Scale: 1}).String(); got != "" {
		t.Errorf("defaults are printed: %q", got)
	}
	// SHA-256 of no bytes.
	if got := (&Preprocess{}).Digest(); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("digest %s", got)
	}
}

func TestParsePreprocessErrors(t *testing.T) {
	dir := write(t, map[string][]byte{
		"unknown.yaml": []byte("resise: 3\nscale: 1\n"),
		"nested.yaml":  []byte("mean: {a: 1}\n"),
		"list.yaml":    []byte("- 1\n"),
		"huge.yaml":    make([]byte, maxPreprocessFile+1),
	})
	for spec, want := range map[string]string{
		"resise=3,croop=2":                   `unknown key "croop", "resise"; the keys are input, resize`,
		"resize=0":                           "want N or WIDTHxHEIGHT",
		"resize=20000":                       "from 1 to 16384",
		"crop=3x":                            "want N or WIDTHxHEIGHT",
		"scale=0":                            "the factor is zero",
		"scale=1/0":                          "finite number",
		"mean=nan":                           "finite number",
		"std=1:0":                            "a divisor is zero",
		"layout=chw":                         "want one of nchw, nhwc",
		"channels=rgba":                      "want one of rgb, bgr, gray",
		"dtype=string":                       "want a number type",
		"dtype=int4":                         "at least 8 bits",
		"scale=1,scale=2":                    "want each key once",
		"scale=1,crop":                       "want each key once",
		filepath.Join(dir, "missing.yaml"):   "no such file",
		filepath.Join(dir, "unknown.yaml"):   `unknown key "resise"`,
		filepath.Join(dir, "nested.yaml"):    "want a value or a list",
		filepath.Join(dir, "list.yaml"):      "cannot unmarshal",
		filepath.Join(dir, "huge.yaml"):      "more than 65536 bytes",
		"interpolation=lanczos,resize=64x64": "want one of bilinear",
	} {
		_, err := ParsePreprocess(spec)
		t.Run(spec, func(t *testing.T) { wantError(t, err, want) })
	}
}

// gradient is a picture whose channels tell position and colour apart.
func gradient(h, w, c int) *picture {
	p := &picture{h: h, w: w, c: c}
	for y := range h {
		for x := range w {
			for k := range c {
				p.bytes = append(p.bytes, byte(100*k+10*y+x))
			}
		}
	}
	return p
}

func TestPreprocessClosedForms(t *testing.T) {
	in := gradient(2, 3, 3)
	pixel := func(k, y, x int) float64 { return float64(100*k + 10*y + x) }
	for _, c := range []struct {
		spec  string
		port  Port
		shape []int64
		want  func(i int) float64
	}{
		{"layout=nchw", Port{}, []int64{1, 3, 2, 3}, func(i int) float64 { return pixel(i/6, i/3%2, i%3) }},
		{"layout=nhwc", Port{}, []int64{1, 2, 3, 3}, func(i int) float64 { return pixel(i%3, i/9, i/3%3) }},
		{"channels=bgr", Port{}, []int64{1, 3, 2, 3}, func(i int) float64 { return pixel(2-i/6, i/3%2, i%3) }},
		{"channels=bgr,mean=1:2:3,std=2:4:8,scale=1/4", Port{}, []int64{1, 3, 2, 3}, func(i int) float64 {
			k := i / 6
			return (pixel(2-k, i/3%2, i%3)/4 - float64(k+1)) / float64(int(2)<<k)
		}},
		{"channels=gray", Port{}, []int64{1, 1, 2, 3}, func(i int) float64 {
			return .299*pixel(0, i/3, i%3) + .587*pixel(1, i/3, i%3) + .114*pixel(2, i/3, i%3)
		}},
		{"scale=1", port("x", onnx.Float, 1, 1, 2, 3), []int64{1, 1, 2, 3}, func(i int) float64 {
			return .299*pixel(0, i/3, i%3) + .587*pixel(1, i/3, i%3) + .114*pixel(2, i/3, i%3)
		}},
		{"crop=1x2", Port{}, []int64{1, 3, 2, 1}, func(i int) float64 { return pixel(i/2, i%2, 1) }},
		{"dtype=uint8", Port{}, []int64{1, 3, 2, 3}, func(i int) float64 { return pixel(i/6, i/3%2, i%3) }},
		{"scale=1/8,dtype=float16", Port{}, []int64{1, 3, 2, 3}, func(i int) float64 { return pixel(i/6, i/3%2, i%3) / 8 }},
		{"mean=127,dtype=int8", Port{}, []int64{1, 3, 2, 3}, func(i int) float64 { return min(pixel(i/6, i/3%2, i%3)-127, 127) }},
	} {
		t.Run(c.spec, func(t *testing.T) {
			approx := cmpopts.EquateApprox(1e-6, 1e-6)
			p, err := ParsePreprocess(c.spec)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.apply(in, c.port)
			if err != nil {
				t.Fatal(err)
			}
			n, _ := onnx.ElementCount(c.shape)
			want := make([]float64, n)
			for i := range want {
				want[i] = c.want(i)
			}
			if d := cmp.Diff(c.shape, got.Shape); d != "" {
				t.Error(d)
			}
			if c.shape[1] == 1 { // gray is rounded to a byte
				approx = cmpopts.EquateApprox(0, 0.501)
			}
			if d := cmp.Diff(want, values(t, got), approx); d != "" {
				t.Error(d)
			}
			if in.floats != nil || c.spec == "dtype=uint8" || c.spec == "mean=127,dtype=int8" || p.Channels == "gray" || c.port.Type != nil {
				return
			}
			f := &picture{h: in.h, w: in.w, c: in.c} // the same by the way of floats
			for _, b := range in.bytes {
				f.floats = append(f.floats, float32(b))
			}
			if got, err = p.apply(f, c.port); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, values(t, got), approx); d != "" {
				t.Errorf("floats: %s", d)
			}
		})
	}
}

func TestResize(t *testing.T) {
	flat := &picture{h: 30, w: 40, c: 3, bytes: make([]byte, 30*40*3)}
	for i := range flat.bytes {
		flat.bytes[i] = byte(50 + i%3)
	}
	for _, c := range []struct {
		size Size
		h, w int
	}{{Size{Width: 15}, 15, 20}, {Size{Width: 7}, 7, 9}, {Size{9, 11}, 11, 9}, {Size{Width: 60}, 60, 80}} {
		for _, filter := range []string{"", "bicubic", "nearest"} {
			got, err := (&Preprocess{Resize: c.size, Interpolation: filter}).resize(flat)
			if err != nil {
				t.Fatal(err)
			}
			if got.h != c.h || got.w != c.w {
				t.Errorf("%v: %d × %d, want %d × %d", c.size, got.w, got.h, c.w, c.h)
			}
			for i, b := range got.bytes {
				if b != byte(50+i%3) {
					t.Fatalf("%v %s: a flat picture got value %d at %d", c.size, filter, b, i)
				}
			}
		}
	}
	// Halving stripes one pixel wide must give their mean: a filter that does
	// not widen would keep only one of the colours.
	stripes := &picture{h: 8, w: 16, c: 1, bytes: make([]byte, 128)}
	for i := range stripes.bytes {
		stripes.bytes[i] = byte(i % 2 * 200)
	}
	got, err := (&Preprocess{Resize: Size{8, 4}}).resize(stripes)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range got.bytes {
		if x := i % 8; x > 0 && x < 7 && (b < 99 || b > 101) {
			t.Errorf("pixel %d of resized stripes: %d, want about 100", i, b)
		}
	}
}

func TestPreprocessRefusals(t *testing.T) {
	pic := gradient(4, 4, 3)
	float := &picture{h: 2, w: 2, c: 1, floats: make([]float32, 4)}
	for _, c := range []struct {
		spec string
		pic  *picture
		port Port
		want string
	}{
		{"crop=5", pic, Port{}, "cannot crop 5 × 5 out of 4 × 4"},
		{"mean=1:2", pic, Port{}, "2 values of mean or std for 3 channels"},
		{"resize=8", float, Port{}, "only pictures of 8 bits"},
		{"dtype=float16", pic, port("x", onnx.Float, 1, 3, 4, 4), "but the model takes float"},
		{"scale=1000", pic, port("x", onnx.Float16, 1, 3, 4, 4), "beyond the range of float16"},
	} {
		p, err := ParsePreprocess(c.spec)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.apply(c.pic, c.port)
		t.Run(c.spec, func(t *testing.T) { wantError(t, err, c.want) })
	}
}
