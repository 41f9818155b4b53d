package opset

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// imageRows are the operators that resample images.
func imageRows() []row {
	return []row{
		{"Resize", "10 11 13 18 19", "X scales|11:X roi scales sizes?|13:X roi? scales? sizes?", "Y", "mode:string=nearest " +
			"coordinate_transformation_mode:string=half_pixel@11 cubic_coeff_a:float=-0.75@11 exclude_outside:int=0@11 " +
			"extrapolation_value:float=0@11 nearest_mode:string=round_prefer_floor@11 antialias:int=0@18 axes:ints@18 " +
			"keep_aspect_ratio_policy:string=stretch@18", 0, inferResize, perOutput(8)},
		{"Upsample", "1 7 9 10!", "X|9:X scales", "Y",
			"height_scale:float!@..6 mode:string=nearest width_scale:float!@..6 scales:floats!@7..8", 0, inferUpsample, perOutput(8)},
		{"GridSample", "16 20 22", "X grid", "Y",
			"align_corners:int=0 mode:string=bilinear@..19 padding_mode:string=zeros mode:string=linear@20", 0, inferGridSample, perOutput(8)},
		{"AffineGrid", "20", "theta size", "grid", "align_corners:int=0", 0, inferAffineGrid, nil},
		{"ImageDecoder", "20", "encoded_stream", "image", "pixel_format:string=RGB", 0, inferImageDecoder, nil},
	}
}

// scaled returns size·scale rounded down. Where that depends on the precision
// of the product, which runtimes differ in, it is unknown.
func scaled(size *expr, scale float64) *expr {
	if n, ok := size.known(); ok && scale > 0 && float64(n)*scale < 1<<31 {
		wide, narrow := math.Floor(float64(n)*scale), math.Floor(float64(float32(n)*float32(scale)))
		if wide != narrow {
			return nil
		}
		return constant(int64(wide))
	}
	switch inverse := 1 / scale; {
	case scale >= 1 && scale < 1<<20 && scale == math.Trunc(scale):
		return mul(size, constant(int64(scale)))
	case scale > 0 && inverse < 1<<20 && inverse == math.Trunc(inverse) && math.Trunc(math.Log2(inverse)) == math.Log2(inverse):
		return floorDiv(size, constant(int64(inverse)))
	}
	return nil
}

func inferUpsample(c *call) {
	s := c.shape(0)
	var scales []float64
	switch {
	case c.ver() < 7:
		h, w := c.attr("height_scale"), c.attr("width_scale")
		if h != nil && w != nil && len(s) == 4 {
			scales = []float64{1, 1, float64(h.F), float64(w.F)}
		}
	case c.ver() < 9:
		if a := c.attr("scales"); a != nil {
			for _, x := range a.Floats {
				scales = append(scales, float64(x))
			}
		}
	default:
		scales = c.floats(1)
	}
	c.set(0, c.elem(0), c.resized(s, scales))
}

// resized scales every dimension; unknown where the scales are.
func (c *call) resized(s onnx.Shape, scales []float64) onnx.Shape {
	if s == nil || len(scales) != len(s) {
		if s == nil && len(scales) > 0 {
			return unknownShape(len(scales))
		}
		if s == nil {
			return nil
		}
		return unknownShape(len(s))
	}
	out := make(onnx.Shape, len(s))
	for i, d := range s {
		out[i] = c.asDim(scaled(c.ex(d), scales[i]))
	}
	return out
}

func inferResize(c *call) {
	s := c.shape(0)
	if c.ver() < 11 {
		c.set(0, c.elem(0), c.resized(s, c.floats(1)))
		return
	}
	at := make([]int, len(s))
	for i := range at {
		at[i] = i
	}
	if axes := c.intList("axes"); axes != nil && s != nil {
		var ok bool
		if at, ok = axesOf(axes, len(s)); !ok {
			c.set(0, c.elem(0), nil)
			return
		}
	}
	scales, sizes := c.floats(2), c.ints(3)
	out := append(onnx.Shape(nil), s...)
	for i, a := range at {
		out[a] = onnx.Symbol("")
		switch policy := c.str("keep_aspect_ratio_policy"); {
		case c.has(3) && len(sizes) == len(at) && (policy == "" || policy == "stretch"):
			out[a] = c.asDim(sizes[i])
		case len(scales) == len(at) && !(c.has(3) && len(sizes) != 0) && c.str("coordinate_transformation_mode") != "tf_crop_and_resize":
			out[a] = c.asDim(scaled(c.ex(s[a]), scales[i]))
		}
	}
	c.set(0, c.elem(0), out)
}

// inferGridSample: X [N, C, in…] at grid [N, out…, rank] gives [N, C, out…].
func inferGridSample(c *call) {
	grid := c.shape(1)
	if len(grid) < 3 {
		c.set(0, c.elem(0), nil)
		return
	}
	out := onnx.Shape{c.sharper(c.dim(0, 0), grid[0]), c.dim(0, 1)}
	c.set(0, c.elem(0), concatShape(out, grid[1:len(grid)-1]))
}

// inferAffineGrid: size [N, C, out…] gives [N, out…, number of out axes].
func inferAffineGrid(c *call) {
	size := c.shapeFrom(1)
	if len(size) < 4 {
		c.set(0, c.elem(0), nil)
		return
	}
	spatial := size[2:]
	c.set(0, c.elem(0), concatShape(size[:1], spatial, onnx.ShapeOf(int64(len(spatial)))))
}

func inferImageDecoder(c *call) {
	channels := onnx.Fixed(3)
	if c.str("pixel_format") == "Grayscale" {
		channels = onnx.Fixed(1)
	}
	c.set(0, onnx.Uint8, onnx.Shape{onnx.Symbol(""), onnx.Symbol(""), channels})
}
