package dataset

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// npyBytes writes an .npy file of version 1.0.
func npyBytes(descr string, fortran bool, shape []int64, data []byte) []byte {
	order, dims := "False", ""
	if fortran {
		order = "True"
	}
	for _, d := range shape {
		dims += fmt.Sprintf("%d, ", d)
	}
	return npyVersion(1, fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }", descr, order, dims), data)
}

func npyVersion(major byte, header string, data []byte) []byte {
	b := []byte("\x93NUMPY")
	b = append(b, major, 0)
	header += "\n"
	if major == 1 {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(header)))
	} else {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(header)))
	}
	return append(append(b, header...), data...)
}

// le packs numbers as little-endian elements.
func le(v any) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}

func floatRange(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i)
	}
	return v
}

// npzBytes writes an archive of name, content pairs.
func npzBytes(method uint16, pairs ...any) []byte {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for i := 0; i < len(pairs); i += 2 {
		w, err := z.CreateHeader(&zip.FileHeader{Name: pairs[i].(string), Method: method})
		if err == nil {
			_, err = w.Write(pairs[i+1].([]byte))
		}
		if err != nil {
			panic(err)
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// write puts files into a new folder and returns it. Names may have folders.
func write(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pngBytes encodes an image whose pixel at x, y is f(x, y).
func pngBytes(w, h int, f func(x, y int) [3]byte) []byte {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := f(x, y)
			copy(m.Pix[m.PixOffset(x, y):], []byte{c[0], c[1], c[2], 255})
		}
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, m); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// port returns a tensor port; a negative size is an unknown dimension.
func port(name string, d onnx.DType, dims ...int64) Port {
	shape := onnx.Shape{}
	for _, n := range dims {
		if n < 0 {
			shape = append(shape, onnx.Symbol("N"))
		} else {
			shape = append(shape, onnx.Fixed(n))
		}
	}
	return Port{name, onnx.TensorType(d, shape)}
}

func mustOpen(t testing.TB, spec string, o Options) *Set {
	t.Helper()
	s, err := Open(spec, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func all(t testing.TB, s *Set) []*Sample {
	t.Helper()
	var out []*Sample
	for x, err := range s.Samples(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, x)
	}
	return out
}

func values(t testing.TB, x *onnx.Tensor) []float64 {
	t.Helper()
	if x == nil {
		t.Fatal("no tensor")
	}
	v, err := x.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantError fails unless err says want; it names the file by base name at most.
func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want one with %q", err, want)
	}
}
