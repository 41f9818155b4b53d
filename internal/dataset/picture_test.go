package dataset

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/color/palette"
	"image/gif"
	"image/jpeg"
	"image/png"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/image/bmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// encode encodes m or fails.
func encode(t *testing.T, f func(*bytes.Buffer) error) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := f(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestDecodeKinds decodes every kind of image and compares with what was drawn.
func TestDecodeKinds(t *testing.T) {
	pix := func(x, y int) [3]byte { return [3]byte{byte(40 * x), byte(60 * y), 200} }
	want := &picture{h: 3, w: 5, c: 3}
	nrgba, gray, wide := image.NewNRGBA(image.Rect(0, 0, 5, 3)), image.NewGray(image.Rect(0, 0, 5, 3)), image.NewNRGBA64(image.Rect(0, 0, 5, 3))
	pal := image.NewPaletted(image.Rect(0, 0, 5, 3), palette.Plan9)
	grays, colours := &picture{h: 3, w: 5, c: 3}, &picture{h: 3, w: 5, c: 3}
	for y := range 3 {
		for x := range 5 {
			c := pix(x, y)
			want.bytes = append(want.bytes, c[:]...)
			nrgba.SetNRGBA(x, y, color.NRGBA{c[0], c[1], c[2], byte(100 + x)})
			wide.SetNRGBA64(x, y, color.NRGBA64{uint16(c[0]) * 257, uint16(c[1]) * 257, uint16(c[2]) * 257, 0xffff})
			gray.SetGray(x, y, color.Gray{c[0]})
			grays.bytes = append(grays.bytes, c[0], c[0], c[0])
			pal.SetColorIndex(x, y, uint8(20*x+y))
			r, g, b, _ := palette.Plan9[20*x+y].RGBA()
			colours.bytes = append(colours.bytes, byte(r>>8), byte(g>>8), byte(b>>8))
		}
	}
	for name, c := range map[string]struct {
		b    []byte
		want *picture
	}{
		"png":       {pngBytes(5, 3, pix), want},
		"png alpha": {encode(t, func(b *bytes.Buffer) error { return png.Encode(b, nrgba) }), want},
		"png 16":    {encode(t, func(b *bytes.Buffer) error { return png.Encode(b, wide) }), want},
		"png gray":  {encode(t, func(b *bytes.Buffer) error { return png.Encode(b, gray) }), grays},
		"gif":       {encode(t, func(b *bytes.Buffer) error { return gif.Encode(b, pal, nil) }), colours},
		"bmp":       {encode(t, func(b *bytes.Buffer) error { return bmp.Encode(b, wide) }), want},
	} {
		got, err := decodeImage(c.b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, got, cmp.AllowUnexported(picture{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestChroma interpolates halved chroma and compares with the triangle filter
// written as a formula: weights 3/4 and 1/4 in each direction.
func TestChroma(t *testing.T) {
	for _, ratio := range []image.YCbCrSubsampleRatio{image.YCbCrSubsampleRatio420, image.YCbCrSubsampleRatio422} {
		for _, size := range [][2]int{{6, 4}, {5, 3}, {1, 1}, {2, 5}} {
			m := image.NewYCbCr(image.Rect(0, 0, size[0], size[1]), ratio)
			for i := range m.Cb {
				m.Cb[i] = byte(37 * i)
			}
			n := (size[0] + 1) / 2
			row := make([]byte, size[0]+1)
			for y := range size[1] {
				halfY := ratio == image.YCbCrSubsampleRatio420
				widen(row, m.Cb, m.CStride, y, size[1], halfY, make([]int, n))
				for x := range size[0] {
					if d := float64(row[x]) - triangle(m, x, y, halfY); d < -0.76 || d > 0.76 {
						t.Errorf("%v %v: pixel %d, %d is off by %g", ratio, size, x, y, d)
					}
				}
			}
		}
	}
}

func triangle(m *image.YCbCr, x, y int, halfY bool) float64 {
	w, h := (m.Rect.Dx()+1)/2, m.Rect.Dy()
	sample := func(i, j int) float64 {
		return float64(m.Cb[max(0, min(j, h-1))*m.CStride+max(0, min(i, w-1))])
	}
	across := func(j int) float64 { return .75*sample(x/2, j) + .25*sample(x/2-1+2*(x%2), j) }
	if !halfY {
		return across(y)
	}
	h = (h + 1) / 2
	return .75*across(y/2) + .25*across(y/2-1+2*(y%2))
}

func TestYCbCrIsJFIF(t *testing.T) {
	for y := 0; y < 256; y += 5 {
		for cb := -128; cb < 128; cb += 9 {
			for cr := -128; cr < 128; cr += 9 {
				got := make([]byte, 3)
				rowYCbCr(got, []byte{byte(y)}, []byte{byte(cb + 128)}, []byte{byte(cr + 128)})
				want := []float64{float64(y) + 1.402*float64(cr), float64(y) - .344136*float64(cb) - .714136*float64(cr), float64(y) + 1.772*float64(cb)}
				for k, w := range want {
					if d := float64(got[k]) - max(0, min(w, 255)); d < -.51 || d > .51 {
						t.Fatalf("y %d cb %d cr %d: channel %d is off by %g", y, cb, cr, k, d)
					}
				}
			}
		}
	}
}

func TestImageHostile(t *testing.T) {
	good := pngBytes(4, 4, func(x, y int) [3]byte { return [3]byte{byte(x), byte(y), 0} })
	huge := bytes.Clone(good)
	binary.BigEndian.PutUint32(huge[16:], 1<<30)
	binary.BigEndian.PutUint32(huge[20:], 1<<30)
	bomb := encode(t, func(b *bytes.Buffer) error { return bmp.Encode(b, image.NewGray(image.Rect(0, 0, 2, 2))) })
	binary.LittleEndian.PutUint32(bomb[18:], 1<<20)
	binary.LittleEndian.PutUint32(bomb[22:], 1<<20)
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty": {nil, "not a JPEG, PNG"}, "text": {[]byte("file\tlabel\n"), "not a JPEG, PNG"},
		"cut": {good[:len(good)-20], ""}, "huge": {huge, ""}, "bmp": {bomb, "at most 134217728 are allowed"},
	} {
		_, err := decodeImage(c.b)
		t.Run(name, func(t *testing.T) { wantError(t, err, c.want) })
	}
}

// pictures is a folder of n images of 8 × 6 pixels and their labels.
func pictures(t testing.TB, n int) string {
	files := map[string][]byte{}
	var tsv strings.Builder
	tsv.WriteString("file\tlabel\tname\tslices\n")
	for i := range n {
		name := fmt.Sprintf("p%03d.png", i)
		files[name] = pngBytes(8, 6, func(x, y int) [3]byte { return [3]byte{byte(i), byte(x), byte(y)} })
		fmt.Fprintf(&tsv, "%s\t%d\tsome\tdark\n", name, i%10)
	}
	files["labels.tsv"] = []byte(tsv.String())
	return write(t, files)
}

func TestImageFolder(t *testing.T) {
	dir := pictures(t, 20)
	pre, err := ParsePreprocess("crop=4,channels=bgr")
	if err != nil {
		t.Fatal(err)
	}
	for _, workers := range []int{1, 4} {
		s := mustOpen(t, dir, Options{Inputs: []Port{port("x", onnx.Float, 1, 3, 4, 4)}, Preprocess: pre, Workers: workers})
		for i, x := range all(t, s) {
			if x.Index != int64(i) || x.ID != fmt.Sprintf("p%03d.png", i) || values(t, x.Label)[0] != float64(i%10) || x.Slices[0] != "dark" {
				t.Errorf("sample %d: %+v", i, x)
			}
			v := values(t, x.Inputs["x"])
			if v[0] != 1 || v[16] != 2 || v[32] != float64(i) { // first row y=1, first column x=2
				t.Errorf("sample %d: %v", i, v)
			}
		}
		if s.Labels() != Class || s.BatchSize() != 1 || s.Len() != 20 {
			t.Errorf("%v, batch %d, %d samples", s.Labels(), s.BatchSize(), s.Len())
		}
	}
	_, err = Open(dir, Options{Inputs: []Port{port("x", onnx.Float, 1, 3, 5, 5)}, Preprocess: pre})
	wantError(t, err, "pictures come out as [1 3 4 4], but the model takes float[1,3,5,5]")
	_, err = Open(dir, Options{Inputs: []Port{port("x", onnx.Float, 1, 3), port("y", onnx.Float, 1)}})
	wantError(t, err, "say which takes the pictures by input=NAME")
}

func TestImagesWithoutLabels(t *testing.T) {
	f := func(x, y int) [3]byte { return [3]byte{9, 9, 9} }
	dir := write(t, map[string][]byte{"b.png": pngBytes(2, 2, f), "a.PNG": pngBytes(2, 2, f)})
	s := mustOpen(t, dir, Options{Inputs: []Port{port("x", onnx.Float, -1, 3, -1, -1)}})
	x := all(t, s)
	if len(x) != 2 || x[0].ID != "a.PNG" || x[1].Label != nil || s.Labels() != NoLabel {
		t.Errorf("%v %v", x, s.Labels())
	}
}

// TestPicturesFromArrays: rows of uint8 in any layout give what the image file gives.
func TestPicturesFromArrays(t *testing.T) {
	var chw, hwc []byte
	for k := range 3 {
		for i := range 12 {
			chw = append(chw, byte(50*k+i))
		}
	}
	for i := range 12 {
		hwc = append(hwc, byte(i), byte(50+i), byte(100+i))
	}
	dir := write(t, map[string][]byte{
		"chw.npy": npyBytes("|u1", false, []int64{1, 3, 3, 4}, chw), "hwc.npy": npyBytes("|u1", false, []int64{1, 3, 4, 3}, hwc),
		"float.npy": npyBytes("<f4", false, []int64{1, 3, 4, 3}, func() (b []byte) {
			for _, x := range hwc {
				b = append(b, le(float32(x))...)
			}
			return b
		}()),
		"d/img.png": pngBytes(4, 3, func(x, y int) [3]byte { i := byte(4*y + x); return [3]byte{i, 50 + i, 100 + i} }),
	})
	var sums [][16]byte
	for _, name := range []string{"chw.npy", "hwc.npy", "float.npy", "d"} {
		spec := "scale=1/255,mean=0.5,std=0.25,layout=nchw"
		if name != "chw.npy" {
			spec = strings.ReplaceAll(spec, "nchw", "nhwc")
		}
		pre, err := ParsePreprocess(spec)
		if err != nil {
			t.Fatal(err)
		}
		in := port("x", onnx.Float, -1, 3, 4, 3)
		if name == "chw.npy" {
			in = port("x", onnx.Float, -1, 3, 3, 4)
		}
		x := all(t, mustOpen(t, filepath.Join(dir, name), Options{Inputs: []Port{in}, Preprocess: pre, Sum: true}))[0]
		sums = append(sums, x.Sum)
		for i, v := range values(t, x.Inputs["x"]) {
			want := hwc[i]
			if name == "chw.npy" {
				want = chw[i]
			}
			if float32(v) != float32((float64(want)/255-.5)/.25) {
				t.Fatalf("%s element %d: %g", name, i, v)
			}
		}
	}
	if sums[0] != sums[1] || sums[1] != sums[2] || sums[2] != sums[3] {
		t.Errorf("the same picture has different sums: %x", sums)
	}
}

// TestIterationStops leaves loops in every way and waits for the workers to end:
// the iterator returns only after they have, so none may be left.
func TestIterationStops(t *testing.T) {
	dir := pictures(t, 40)
	s := mustOpen(t, dir, Options{Inputs: []Port{port("x", onnx.Float, 1, 3, 6, 8)}, Workers: 4})
	before := runtime.NumGoroutine()
	for range s.Samples(t.Context()) {
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for _, err := range s.Samples(ctx) {
		if n++; n == 3 {
			cancel()
		}
		last = err
	}
	if !errors.Is(last, context.Canceled) || n > 40 {
		t.Errorf("after cancel: %d samples, %v", n, last)
	}
	for range s.Samples(ctx) {
	}
	for range 1000 { // ended goroutines may take a moment to be counted out
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// TestBrokenImage: an error comes in its place, after the samples before it.
func TestBrokenImage(t *testing.T) {
	dir := write(t, map[string][]byte{
		"labels.csv": []byte("file,label\na.png,1\nb.png,2\nc.png,3\nd.png,4\n"),
		"d.png":      pngBytes(2, 2, func(x, y int) [3]byte { return [3]byte{} }),
		"a.png":      pngBytes(2, 2, func(x, y int) [3]byte { return [3]byte{} }),
		"b.png":      pngBytes(2, 2, func(x, y int) [3]byte { return [3]byte{} }), "c.png": []byte("no image"),
	})
	s := mustOpen(t, dir, Options{Workers: 3})
	n := 0
	var last error
	for _, err := range s.Samples(t.Context()) {
		n, last = n+1, err
	}
	if n != 3 {
		t.Errorf("%d steps", n)
	}
	wantError(t, last, "c.png: not a JPEG, PNG, GIF, BMP or WebP image")
}

func TestJPEG(t *testing.T) {
	m := image.NewNRGBA(image.Rect(0, 0, 33, 17))
	for i := range m.Pix {
		m.Pix[i] = []byte{200, 100, 50, 255}[i%4]
	}
	p, err := decodeImage(encode(t, func(b *bytes.Buffer) error { return jpeg.Encode(b, m, &jpeg.Options{Quality: 100}) }))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range p.bytes {
		if d := int(v) - []int{200, 100, 50}[i%3]; d < -2 || d > 2 {
			t.Fatalf("byte %d is %d", i, v)
		}
	}
}
