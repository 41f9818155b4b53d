package dataset

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
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

func FuzzNpy(f *testing.F) {
	f.Add(npyBytes("<f4", false, []int64{2, 3}, le(floatRange(6))))
	f.Add(npyBytes(">i2", true, []int64{3, 2}, make([]byte, 12)))
	f.Add(npyBytes("<U2", false, []int64{1, 2}, make([]byte, 16)))
	f.Add(npyVersion(2, "{'descr': '|S3', 'fortran_order': False, 'shape': (1,)}", []byte("abc")))
	f.Fuzz(func(t *testing.T, b []byte) { drain(t, "x.npy", b, Options{}) })
}

func FuzzNpz(f *testing.F) {
	x, y := npyBytes("<f4", false, []int64{2, 3}, le(floatRange(6))), npyBytes("<i8", false, []int64{2}, le([]int64{1, 0}))
	f.Add(npzBytes(zip.Deflate, "x.npy", x, "labels.npy", y))
	f.Add(npzBytes(zip.Store, "x.npy", x, "slices.npy", y, "sequence.npy", y))
	f.Fuzz(func(t *testing.T, b []byte) { drain(t, "x.npz", b, Options{}) })
}

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

func FuzzImage(f *testing.F) {
	f.Add(pngBytes(3, 2, func(x, y int) [3]byte { return [3]byte{byte(x), byte(y), 7} }))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > fuzzRow {
			return
		}
		if p, err := decodeImage(b); err == nil && len(p.bytes) != p.h*p.w*3 {
			t.Fatalf("%d bytes for %d × %d pixels", len(p.bytes), p.w, p.h)
		}
	})
}
