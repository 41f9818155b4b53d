package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"slices"

	"golang.org/x/image/bmp"
	"golang.org/x/image/webp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// maxPixels bounds the memory that one image takes to decode.
const maxPixels = 1 << 27

// picture is a decoded image or a row of an array: values in the order row,
// column, channel, either bytes or floats.
type picture struct {
	h, w, c int
	bytes   []byte
	floats  []float32
}

// imageExt reports whether ext, with its dot and in lower case, is that of an image.
func imageExt(ext string) bool {
	return slices.Contains([]string{".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}, ext)
}

// codec decodes images that start with magic ('?' is any byte).
type codec struct {
	magic  string
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

var codecs = []codec{
	{"\xff\xd8", jpeg.DecodeConfig, jpeg.Decode},
	{"\x89PNG\r\n\x1a\n", png.DecodeConfig, png.Decode},
	{"GIF8", gif.DecodeConfig, gif.Decode},
	{"BM", bmp.DecodeConfig, bmp.Decode},
	{"RIFF????WEBP", webp.DecodeConfig, webp.Decode},
}

// readImage decodes the image file at path to RGB. Transparency is dropped
// and the orientation in EXIF data is not applied, as is usual in training.
// Of an animation the first frame counts.
func readImage(path string, limit int64) (*picture, error) {
	b, err := readfile.All(path, limit)
	if err != nil {
		return nil, err
	}
	p, err := decodeImage(b)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return p, nil
}

func decodeImage(b []byte) (*picture, error) {
	i := slices.IndexFunc(codecs, func(c codec) bool { return hasMagic(b, c.magic) })
	if i < 0 {
		return nil, errors.New("not a JPEG, PNG, GIF, BMP or WebP image")
	}
	cfg, err := codecs[i].config(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if cfg.Width < 1 || cfg.Height < 1 || cfg.Width > maxPixels/cfg.Height {
		return nil, fmt.Errorf("the image has %d × %d pixels; at most %d are allowed", cfg.Width, cfg.Height, maxPixels)
	}
	img, err := codecs[i].decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return rgb(img), nil
}

func hasMagic(b []byte, magic string) bool {
	if len(b) < len(magic) {
		return false
	}
	for i := range len(magic) {
		if magic[i] != '?' && magic[i] != b[i] {
			return false
		}
	}
	return true
}

// rgb converts an image to three bytes per pixel, alpha dropped.
func rgb(img image.Image) *picture {
	r := img.Bounds()
	p := &picture{h: r.Dy(), w: r.Dx(), c: 3, bytes: make([]byte, 0, 3*r.Dx()*r.Dy())}
	switch m := img.(type) {
	case *image.YCbCr:
		p.bytes = fromYCbCr(m, p.bytes)
	case *image.Gray:
		for y := range p.h {
			for _, v := range m.Pix[y*m.Stride:][:p.w] {
				p.bytes = append(p.bytes, v, v, v)
			}
		}
	case *image.NRGBA:
		for y := range p.h {
			p.bytes = appendRGB(p.bytes, m.Pix[y*m.Stride:][:4*p.w])
		}
	case *image.RGBA:
		if !m.Opaque() {
			p.appendAny(img)
			break
		}
		for y := range p.h {
			p.bytes = appendRGB(p.bytes, m.Pix[y*m.Stride:][:4*p.w])
		}
	default:
		p.appendAny(img)
	}
	return p
}

func appendRGB(dst, src []byte) []byte {
	for ; len(src) >= 4; src = src[4:] {
		dst = append(dst, src[0], src[1], src[2])
	}
	return dst
}

// appendAny converts an image of any kind.
func (p *picture) appendAny(img image.Image) {
	r := img.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			p.bytes = append(p.bytes, c.R, c.G, c.B)
		}
	}
}

// pictureOf views a row of an array as a picture: [H,W], [C,H,W] or [H,W,C],
// with leading axes of one ignored. C is 1 or 3; where either end could be the
// channels, layout decides, and nchw is the default.
func pictureOf(t *onnx.Tensor, layout string) (*picture, error) {
	shape := t.Shape
	for len(shape) > 3 && shape[0] == 1 {
		shape = shape[1:]
	}
	channel := func(n int64) bool { return n == 1 || n == 3 }
	p := &picture{c: 1}
	planar := false
	switch {
	case len(shape) == 2:
		p.h, p.w = int(shape[0]), int(shape[1])
	case len(shape) == 3 && channel(shape[0]) && !(layout == "nhwc" && channel(shape[2])):
		p.c, p.h, p.w, planar = int(shape[0]), int(shape[1]), int(shape[2]), true
	case len(shape) == 3 && channel(shape[2]):
		p.h, p.w, p.c = int(shape[0]), int(shape[1]), int(shape[2])
	default:
		return nil, fmt.Errorf("shape %v is not a picture; want [H,W], [C,H,W] or [H,W,C] with 1 or 3 channels", t.Shape)
	}
	if t.DType == onnx.Uint8 {
		b, err := t.Bytes()
		p.bytes = b
		if planar {
			p.bytes = interleave(b, p.c)
		}
		return p, err
	}
	v, err := t.Floats()
	p.floats = v
	if planar {
		p.floats = interleave(v, p.c)
	}
	return p, err
}

// interleave turns planes of channels into channels of pixels.
func interleave[T any](planes []T, c int) []T {
	if c == 1 {
		return planes
	}
	n := len(planes) / c
	out := make([]T, len(planes))
	for k := range c {
		for i, v := range planes[k*n:][:n] {
			out[i*c+k] = v
		}
	}
	return out
}

// fromYCbCr appends the pixels of m as RGB. Chroma that is stored at half
// the resolution is interpolated with a triangle filter, the default of the
// libjpeg family and so of the pictures that models were trained on; other
// ratios take the nearest value.
func fromYCbCr(m *image.YCbCr, dst []byte) []byte {
	w, h := m.Rect.Dx(), m.Rect.Dy()
	halfX := m.SubsampleRatio == image.YCbCrSubsampleRatio420 || m.SubsampleRatio == image.YCbCrSubsampleRatio422
	halfY := m.SubsampleRatio == image.YCbCrSubsampleRatio420
	smooth := halfX && m.Rect.Min == (image.Point{})
	cb, cr := make([]byte, w+1), make([]byte, w+1)
	sums := make([]int, (w+1)/2)
	dst = slices.Grow(dst, 3*w*h)
	for y := range h {
		if smooth {
			widen(cb, m.Cb, m.CStride, y, h, halfY, sums)
			widen(cr, m.Cr, m.CStride, y, h, halfY, sums)
		}
		for x := range w {
			if !smooth {
				i := m.COffset(m.Rect.Min.X+x, m.Rect.Min.Y+y)
				cb[x], cr[x] = m.Cb[i], m.Cr[i]
			}
		}
		n := len(dst)
		dst = dst[:n+3*w]
		rowYCbCr(dst[n:], m.Y[m.YOffset(m.Rect.Min.X, m.Rect.Min.Y+y):][:w], cb[:w], cr[:w])
	}
	return dst
}

// rowYCbCr converts a row by the equations of JFIF 1.02 in 16-bit fixed point,
// rounded to nearest.
func rowYCbCr(dst, luma, blue, red []byte) {
	const half = 1 << 15
	for x, v := range luma {
		y, cb, cr := int(v), int(blue[x])-128, int(red[x])-128
		p := dst[3*x:][:3]
		p[0] = clamp(y + (91881*cr+half)>>16)
		p[1] = clamp(y + (-22554*cb-46802*cr+half)>>16)
		p[2] = clamp(y + (116130*cb+half)>>16)
	}
}

func clamp(v int) byte { return byte(max(0, min(v, 255))) }

// widen interpolates row y of chroma: each output is three parts of the nearer
// sample and one of the farther, in both directions where halfY. Rounding
// alternates so that it has no bias.
func widen(dst, plane []byte, stride, y, h int, halfY bool, sums []int) {
	n := len(sums)
	shift := 2 // by which sums are larger than samples
	if halfY {
		row := y / 2
		other := max(0, min(row-1+2*(y%2), (h+1)/2-1))
		shift = 4
		far := plane[other*stride:][:n]
		for i, v := range plane[row*stride:][:n] {
			sums[i] = 3*int(v) + int(far[i])
		}
	} else {
		for i, v := range plane[y*stride:][:n] {
			sums[i] = int(v)
		}
	}
	even, odd := 1, 2
	if halfY {
		even, odd = 8, 7
	}
	left := sums[0]
	for i, s := range sums {
		right := sums[min(i+1, n-1)]
		pair := dst[2*i : 2*i+2 : 2*i+2]
		pair[0] = byte((3*s + left + even) >> shift)
		pair[1] = byte((3*s + right + odd) >> shift)
		left = s
	}
}
