package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"math"

	"golang.org/x/image/draw"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// picturePort finds the input that pictures are for.
func (s *Set) picturePort() (string, error) {
	name := ""
	if s.o.Preprocess != nil {
		name = s.o.Preprocess.Input
	}
	if len(s.ports) == 0 {
		return name, nil
	}
	if name != "" {
		if _, ok := findPort(s.ports, name); !ok {
			return "", fmt.Errorf("preprocess: the model has no input %q; it has %s", name, portNames(s.ports))
		}
		return name, nil
	}
	var open, square []Port
	for _, p := range s.ports {
		if s.carried(p.Name) {
			continue
		}
		open = append(open, p)
		if len(p.shape()) == 4 {
			square = append(square, p)
		}
	}
	switch {
	case len(open) == 1:
		return open[0].Name, nil
	case len(square) == 1:
		return square[0].Name, nil
	}
	return "", fmt.Errorf("the model has several inputs (%s); say which takes the pictures by input=NAME in the preprocessing", portNames(s.ports))
}

// paint makes input p from the image file, or else from stored values.
func (s *Set) paint(path string, t *onnx.Tensor, p Port, sum *inputSum) (*onnx.Tensor, error) {
	pre := s.o.Preprocess
	if pre == nil {
		pre = &Preprocess{}
	}
	var pic *picture
	var err error
	if path != "" {
		pic, err = readImage(path, s.o.MaxRow)
	} else {
		pic, err = pictureOf(t, pre.Layout)
	}
	if err != nil {
		return nil, err
	}
	if sum != nil {
		if pic.bytes != nil {
			sum.pixels(pic.bytes)
		} else {
			sum.floats(pic.floats)
		}
	}
	return pre.apply(pic, p)
}

// apply runs all steps and returns a tensor with a batch axis of one.
func (p *Preprocess) apply(pic *picture, port Port) (*onnx.Tensor, error) {
	layout := p.layout(port)
	pic, err := p.resize(pic)
	if err == nil {
		pic, err = p.crop(pic)
	}
	if err != nil {
		return nil, err
	}
	pic = p.channels(pic, port, layout)
	d := p.DType
	if d == onnx.Undefined {
		d = port.elem()
	} else if e := port.elem(); e != onnx.Undefined && e != d {
		return nil, fmt.Errorf("preprocess: dtype=%v, but the model takes %v", d, e)
	}
	if d == onnx.Undefined {
		d = onnx.Float
	}
	for _, list := range [][]float64{p.Mean, p.Std} {
		if n := len(list); n > 1 && n != pic.c {
			return nil, fmt.Errorf("preprocess: %d values of mean or std for %d channels", n, pic.c)
		}
	}
	shape := []int64{1, int64(pic.c), int64(pic.h), int64(pic.w)}
	if layout == "nhwc" {
		shape = []int64{1, int64(pic.h), int64(pic.w), int64(pic.c)}
	}
	if pic.bytes != nil {
		return p.scaleBytes(pic, port.Name, d, shape, layout == "nchw")
	}
	return p.scaleFloats(pic, port.Name, d, shape, layout == "nchw")
}

// layout returns nchw or nhwc.
func (p *Preprocess) layout(port Port) string {
	if p.Layout != "" {
		return p.Layout
	}
	s := port.shape()
	few := func(d onnx.Dim) bool { return d.Value == 1 || d.Value == 3 }
	if len(s) == 4 && few(s[3]) && !few(s[1]) {
		return "nhwc"
	}
	return "nchw"
}

// resize scales to the wanted size. The filters widen when they shrink a
// picture, so that fine detail does not alias; values are rounded to bytes.
func (p *Preprocess) resize(pic *picture) (*picture, error) {
	if p.Resize == (Size{}) {
		return pic, nil
	}
	w, h := p.Resize.Width, p.Resize.Height
	if h == 0 { // the longer side is rounded down, as torchvision does
		short := w
		if pic.w <= pic.h {
			h = int(int64(short) * int64(pic.h) / int64(pic.w))
		} else {
			w, h = int(int64(short)*int64(pic.w)/int64(pic.h)), short
		}
	}
	if w == pic.w && h == pic.h {
		return pic, nil
	}
	if w > maxPixels/h {
		return nil, fmt.Errorf("preprocess: resizing %d × %d pixels to %d × %d gives too many", pic.w, pic.h, w, h)
	}
	if pic.bytes == nil {
		return nil, errors.New("preprocess: only pictures of 8 bits per channel can be resized; store the data as uint8 or in the final size")
	}
	src := image.NewRGBA(image.Rect(0, 0, pic.w, pic.h))
	for i := range pic.w * pic.h {
		copy(src.Pix[4*i:], []byte{pic.bytes[i*pic.c], pic.bytes[i*pic.c+pic.c/2], pic.bytes[i*pic.c+pic.c-1], 255})
	}
	dst := image.NewRGBA(image.Rect(0, 0, w, h))
	var scaler draw.Scaler = draw.BiLinear
	switch p.Interpolation {
	case "bicubic":
		scaler = draw.CatmullRom
	case "nearest":
		scaler = draw.NearestNeighbor
	}
	scaler.Scale(dst, dst.Rect, src, src.Rect, draw.Src, nil)
	out := &picture{h: h, w: w, c: pic.c, bytes: make([]byte, 0, w*h*pic.c)}
	for i := range w * h {
		out.bytes = append(out.bytes, dst.Pix[4*i:][:pic.c]...)
	}
	return out, nil
}

// crop cuts out the centre; half a pixel is rounded to even, as in torchvision.
func (p *Preprocess) crop(pic *picture) (*picture, error) {
	w, h := p.Crop.Width, p.Crop.Height
	if w == 0 {
		return pic, nil
	}
	if h == 0 {
		h = w
	}
	if w > pic.w || h > pic.h {
		return nil, fmt.Errorf("preprocess: cannot crop %d × %d out of %d × %d pixels; resize first", w, h, pic.w, pic.h)
	}
	x, y := int(math.RoundToEven(float64(pic.w-w)/2)), int(math.RoundToEven(float64(pic.h-h)/2))
	out := &picture{h: h, w: w, c: pic.c}
	for r := y; r < y+h; r++ {
		from, to := (r*pic.w+x)*pic.c, (r*pic.w+x+w)*pic.c
		if pic.bytes != nil {
			out.bytes = append(out.bytes, pic.bytes[from:to]...)
		} else {
			out.floats = append(out.floats, pic.floats[from:to]...)
		}
	}
	return out, nil
}

// channels reorders, averages or repeats channels. Stored colours are RGB.
func (p *Preprocess) channels(pic *picture, port Port, layout string) *picture {
	want := p.Channels
	if s := port.shape(); want == "" && len(s) == 4 {
		axis := 1
		if layout == "nhwc" {
			axis = 3
		}
		want = map[int64]string{1: "gray", 3: "rgb"}[s[axis].Value]
	}
	c := 3
	if want == "gray" {
		c = 1
	}
	if want == "" || want != "bgr" && pic.c == c {
		return pic
	}
	out := &picture{h: pic.h, w: pic.w, c: c}
	if pic.bytes != nil {
		out.bytes = remix(pic.bytes, pic.c, c, func(r, g, b byte) byte { // ITU-R 601-2, rounded
			return byte((19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16)
		})
	} else {
		out.floats = remix(pic.floats, pic.c, c, func(r, g, b float32) float32 { return 0.299*r + 0.587*g + 0.114*b })
	}
	return out
}

// remix turns pixels of c channels into gray, or into BGR, or one channel into three.
func remix[T any](v []T, from, to int, luma func(r, g, b T) T) []T {
	n := len(v) / from
	if from == 3 && to == 3 {
		out := make([]T, 3*n)
		for i := 0; i+3 <= len(v); i += 3 {
			p, q := out[i:i+3:i+3], v[i:i+3:i+3]
			p[0], p[1], p[2] = q[2], q[1], q[0]
		}
		return out
	}
	out := make([]T, 0, n*to)
	for i := range n {
		r, g, b := v[i*from], v[i*from+from/2], v[i*from+from-1]
		if to == 1 {
			out = append(out, luma(r, g, b))
		} else {
			out = append(out, b, g, r)
		}
	}
	return out
}

// at returns element k of a list that has one value for all channels or one per
// channel, and def for an empty list.
func at(list []float64, k int, def float64) float64 {
	switch len(list) {
	case 0:
		return def
	case 1:
		return list[0]
	}
	return list[k]
}

func (p *Preprocess) value(x float64, k int) float64 {
	return (x*p.factor() - at(p.Mean, k, 0)) / at(p.Std, k, 1)
}

// scaleBytes looks each byte up in a table of the 256 possible results per channel.
func (p *Preprocess) scaleBytes(pic *picture, name string, d onnx.DType, shape []int64, planar bool) (*onnx.Tensor, error) {
	n := pic.h * pic.w
	width := d.Bits() / 8
	if width == 0 {
		return nil, fmt.Errorf("preprocess: a picture cannot become %v", d)
	}
	out := make([]byte, n*pic.c*width)
	var luts [3][]byte
	for k := range pic.c {
		lut, err := p.table(k, d)
		if err != nil {
			return nil, err
		}
		if luts[k] = lut; planar && width == 4 && pic.c == 3 {
			continue
		}
		first, step := k*width, pic.c*width
		if planar {
			first, step = k*n*width, width
		}
		lookUp(out[first:], step, pic.bytes[k:], pic.c, lut, width)
	}
	if planar && width == 4 && pic.c == 3 {
		lookUpPlanes(out, pic.bytes, luts)
	}
	return onnx.NewTensor(name, d, shape, out)
}

// lookUpPlanes writes three planes of elements of four bytes from pixels of three channels, in one pass.
func lookUpPlanes(dst, src []byte, luts [3][]byte) {
	var wide [3][256]uint32
	for k, lut := range luts {
		for x := range wide[k] {
			wide[k][x] = binary.LittleEndian.Uint32(lut[4*x:])
		}
	}
	n := len(src) / 3
	first, second, third := dst[:4*n], dst[4*n:8*n], dst[8*n:12*n]
	for i := range n {
		p := src[3*i : 3*i+3 : 3*i+3]
		binary.LittleEndian.PutUint32(first[4*i:], wide[0][p[0]])
		binary.LittleEndian.PutUint32(second[4*i:], wide[1][p[1]])
		binary.LittleEndian.PutUint32(third[4*i:], wide[2][p[2]])
	}
}

// lookUp writes, every step bytes of dst, the table entry of every c-th byte of src.
func lookUp(dst []byte, step int, src []byte, c int, lut []byte, width int) {
	if width != 4 {
		for i, j := 0, 0; i < len(src); i, j = i+c, j+step {
			copy(dst[j:j+width], lut[int(src[i])*width:])
		}
		return
	}
	var wide [256]uint32
	for x := range wide {
		wide[x] = binary.LittleEndian.Uint32(lut[4*x:])
	}
	for i, j := 0, 0; i < len(src); i, j = i+c, j+step {
		binary.LittleEndian.PutUint32(dst[j:], wide[src[i]])
	}
}

// table returns the 256 results of channel k as packed elements of type d.
// Results of integer types are rounded and saturated.
func (p *Preprocess) table(k int, d onnx.DType) ([]byte, error) {
	v := make([]float64, 256)
	for x := range v {
		v[x] = p.value(float64(x), k)
		if d.IsInt() {
			v[x] = math.RoundToEven(v[x])
		}
	}
	t, err := onnx.FromFloat64s("", onnx.Double, []int64{256}, v)
	if err != nil {
		return nil, err
	}
	if d.IsInt() {
		t, err = onnx.FromFloat64s("", d, []int64{256}, v)
	} else {
		t, err = convert(t, d)
	}
	if err != nil {
		return nil, fmt.Errorf("preprocess: %w", err)
	}
	return t.Bytes()
}

// scaleFloats computes in double and rounds to float32 before the final type.
func (p *Preprocess) scaleFloats(pic *picture, name string, d onnx.DType, shape []int64, planar bool) (*onnx.Tensor, error) {
	n := pic.h * pic.w
	out := make([]byte, 4*len(pic.floats))
	for i, x := range pic.floats {
		j := i
		if planar {
			j = i%pic.c*n + i/pic.c
		}
		if p.arithmetic() {
			x = float32(p.value(float64(x), i%pic.c))
		}
		binary.LittleEndian.PutUint32(out[4*j:], math.Float32bits(x))
	}
	t, err := onnx.NewTensor(name, onnx.Float, shape, out)
	if err != nil {
		return nil, err
	}
	if t, err = convert(t, d); err != nil {
		return nil, fmt.Errorf("preprocess: %w", err)
	}
	return t, nil
}
