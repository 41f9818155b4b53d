package dataset

import (
	"archive/zip"
	"bytes"
	"image"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"golang.org/x/image/bmp"
)

// fuzzRow bounds the memory of one sample while fuzzing.
const fuzzRow = 1 << 16

// drain reads up to 100 samples of whatever b is when named name.
func drain(t *testing.T, name string, b []byte, o Options) {
	o.MaxRow = fuzzRow
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, o)
	if err != nil {
		return
	}
	defer s.Close()
	n := int64(0)
	for x, err := range s.Samples(t.Context()) {
		if err != nil {
			return
		}
		for in, v := range x.Inputs {
			if _, err := v.Float64s(); err != nil && v.DType != onnx.String && !isComplex(v.DType) {
				t.Fatalf("input %q: %v", in, err)
			}
		}
		if n++; n == 100 {
			return
		}
	}
	if n != s.Len() {
		t.Fatalf("%d samples of %d without an error", n, s.Len())
	}
}

// FuzzNpy reads arrays: rows as their header says, or an error.
func FuzzNpy(f *testing.F) {
	f.Add(npyBytes("<f4", false, []int64{2, 3}, le(floatRange(6))))
	f.Add(npyBytes(">i2", true, []int64{3, 2}, make([]byte, 12)))
	f.Add(npyBytes("<U2", false, []int64{1, 2}, make([]byte, 16)))
	f.Add(npyVersion(2, "{'descr': '|S3', 'fortran_order': False, 'shape': (1,)}", []byte("abc")))
	f.Fuzz(func(t *testing.T, b []byte) {
		drain(t, "x.npy", b, Options{})
		path := filepath.Join(t.TempDir(), "map.npy")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if m, err := npyLabelMap(path, fuzzRow); err == nil {
			if v, err := m.Ints(); err != nil || len(m.Shape) != 2 || int64(len(v)) != m.Shape[0]*m.Shape[1] {
				t.Fatalf("%v has %d labels (%v)", m, len(v), err)
			}
		}
	})
}

// FuzzNpz reads archives of arrays.
func FuzzNpz(f *testing.F) {
	x, y := npyBytes("<f4", false, []int64{2, 3}, le(floatRange(6))), npyBytes("<i8", false, []int64{2}, le([]int64{1, 0}))
	f.Add(npzBytes(zip.Deflate, "x.npy", x, "labels.npy", y))
	f.Add(npzBytes(zip.Store, "x.npy", x, "slices.npy", y, "sequence.npy", y))
	f.Fuzz(func(t *testing.T, b []byte) { drain(t, "x.npz", b, Options{}) })
}

// FuzzTable reads .csv, .tsv and .jsonl tables, with the ports of a model and without.
func FuzzTable(f *testing.F) {
	f.Add(0, []byte("a,b,label\n1,2,0\n3,\"4\",1\n"))
	f.Add(1, []byte("a\tb\tlabels\tslices\n1\t2\t1|2\tx\n"))
	f.Add(2, []byte(`{"x": [[1, 2]], "label": [1, 2], "slices": ["a"]}`+"\n"))
	ports := []Port{port("x", onnx.Float, -1, 2)}
	f.Fuzz(func(t *testing.T, kind int, b []byte) {
		name := []string{"t.csv", "t.tsv", "t.jsonl"}[uint(kind)%3]
		drain(t, name, b, Options{Inputs: ports})
		drain(t, name, b, Options{})
	})
}

// FuzzPreprocess reads how pictures become inputs, inline and as a file: what is read has a text that reads the same.
func FuzzPreprocess(f *testing.F) {
	f.Add("resize=256,crop=224x200,layout=nchw,channels=bgr,scale=1/255,mean=104.007:116.669:122.679,std=1", false)
	f.Add("mean: [1, 2, 3]\nscale: 1/255\n", true)
	f.Add(`{"std": [1, 2], "dtype": "float16"}`, true)
	f.Fuzz(func(t *testing.T, text string, file bool) {
		var p *Preprocess
		var err error
		if file {
			p, err = parsePreprocessYAML([]byte(text))
		} else if bytes.ContainsRune([]byte(text), '=') {
			p, err = ParsePreprocess(text)
		} else {
			return
		}
		if err != nil {
			return
		}
		canonical := p.String()
		if canonical == "" {
			return
		}
		again, err := ParsePreprocess(canonical)
		if err != nil || again.String() != canonical {
			t.Fatalf("%q is not canonical: %v %v", canonical, again, err)
		}
	})
}

// FuzzImage decodes JPEG, PNG, GIF, BMP and WebP pictures, and label maps of PNG.
func FuzzImage(f *testing.F) {
	for _, b := range everyPicture(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > fuzzRow {
			return
		}
		if cfg, _, err := image.DecodeConfig(bytes.NewReader(b)); err == nil && cfg.Width*cfg.Height > 1<<22 {
			return // allowed, and slow: TestPictureBombs has these
		}
		if p, err := decodeImage(b); err == nil && len(p.bytes) != p.h*p.w*3 {
			t.Fatalf("%d bytes for %d × %d pixels", len(p.bytes), p.w, p.h)
		}
		if m, err := pngLabelMap(b); err == nil {
			if v, err := m.Ints(); err != nil || len(m.Shape) != 2 || int64(len(v)) != m.Shape[0]*m.Shape[1] {
				t.Fatalf("%v has %d labels (%v)", m, len(v), err)
			}
		}
	})
}

// everyPicture returns one small picture of each format, and several of PNG.
func everyPicture(tb testing.TB) [][]byte {
	tb.Helper()
	rect := image.Rect(0, 0, 5, 4)
	gray, paletted, deep := image.NewGray(rect), image.NewPaletted(rect, palette.Plan9), image.NewNRGBA64(rect)
	for i := range gray.Pix {
		gray.Pix[i], paletted.Pix[i] = uint8(9*i), uint8(i)
	}
	out := [][]byte{pngBytes(3, 2, func(x, y int) [3]byte { return [3]byte{byte(x), byte(y), 7} })}
	for _, encode := range []func(io.Writer) error{
		func(w io.Writer) error { return jpeg.Encode(w, gray, nil) },
		func(w io.Writer) error { return jpeg.Encode(w, deep, &jpeg.Options{Quality: 30}) },
		func(w io.Writer) error { return png.Encode(w, gray) },
		func(w io.Writer) error { return png.Encode(w, paletted) },
		func(w io.Writer) error { return png.Encode(w, deep) },
		func(w io.Writer) error { return gif.Encode(w, paletted, nil) },
		func(w io.Writer) error { return bmp.Encode(w, paletted) },
		func(w io.Writer) error { return bmp.Encode(w, deep) },
	} {
		var b bytes.Buffer
		if err := encode(&b); err != nil {
			tb.Fatal(err)
		}
		out = append(out, b.Bytes())
	}
	return append(out, tinyWebP)
}

// tinyWebP is a lossless picture of one pixel.
var tinyWebP = []byte("RIFF\x1a\x00\x00\x00WEBPVP8L\r\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00")

// FuzzCOCO reads annotation files; the pictures that they name are not there.
func FuzzCOCO(f *testing.F) {
	f.Add([]byte(`{"images":[{"id":1,"file_name":"a.png","width":5,"height":4}],"annotations":[{"image_id":1,"category_id":3,"bbox":[0,1,2,3],"iscrowd":0}],"categories":[{"id":3}]}`))
	f.Add([]byte(`{"info":{"a":[[[]]]},"images":[{"id":-1,"file_name":"../a.png"}],"annotations":[]}`))
	f.Add([]byte(`{"images":[{"id":1,"file_name":"a.png"},{"id":1,"file_name":"a.png"}],"annotations":[{"image_id":9}],"categories":[]}`))
	f.Add([]byte(`{"images":[` + strings.Repeat("[", 200)))
	f.Fuzz(func(t *testing.T, b []byte) {
		drain(t, "a.json", b, Options{})
		drain(t, "a.json", b, Options{CategoryOrder: true})
	})
}

// FuzzTestData reads the inputs of a test data folder as the type that a model's input has.
func FuzzTestData(f *testing.F) {
	for _, x := range []*onnx.Tensor{
		onnx.FromFloats("x", []int64{2, 1}, []float32{1, 2}), onnx.FromInts("", []int64{1, 2}, []int64{-1, 1}), onnx.FromStrings("x", []int64{1}, []string{"a"}),
	} {
		b, err := onnxfile.EncodeTensor(x)
		if err != nil {
			f.Fatal(err)
		}
		for kind := range 3 {
			f.Add(kind, b)
		}
	}
	for _, b := range zootest.Seeds(f, ".pb", 16<<10) {
		f.Add(0, b)
	}
	kinds := []onnx.TypeKind{onnx.KindTensor, onnx.KindSequence, onnx.KindOptional}
	f.Fuzz(func(t *testing.T, kind int, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "input_0.pb"), b, 0o666); err != nil {
			t.Fatal(err)
		}
		p := Port{Name: "x", Type: &onnx.Type{Kind: kinds[uint(kind)%3], Of: onnx.TensorType(onnx.Float, nil)}}
		for _, ports := range [][]Port{nil, {p}} {
			s, err := Open(dir, Options{MaxRow: fuzzRow, Inputs: ports})
			if err != nil {
				continue
			}
			for x, err := range s.Samples(t.Context()) {
				if err != nil {
					break
				}
				for name, v := range x.Inputs {
					if v.DType != onnx.String {
						if got, err := v.Bytes(); err != nil || int64(len(got)) != v.Size() {
							t.Fatalf("input %q: %d bytes for %v (%v)", name, len(got), v, err)
						}
					}
				}
			}
			s.Close()
		}
	})
}

// FuzzBoxes reads labels as they stand in a table: classes, several of them, numbers, boxes.
func FuzzBoxes(f *testing.F) {
	for _, s := range []string{"1", "cat", "1|2", "0.5", "", "1 0 0 2 2", "cat:0.5:0.5:1:1;dog:0:0:1:1", "[[1,0,0,2,2]]", `[{"class":1,"box":[0,0,1,1]}]`, "-1", "1e999", "NaN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, classes := range [][]string{nil, {"cat", "dog"}} {
			_, kind, err := parseLabel(s, classes)
			if err != nil {
				continue
			}
			if _, again, err := parseLabel(s, classes); err != nil || again != kind {
				t.Fatalf("%q is a label of kind %v, then of kind %v (%v)", s, kind, again, err)
			}
		}
	})
}
