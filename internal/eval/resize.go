package eval

import (
	"math"
	"slices"
)

// resizeOperators interpolate along axes.
func resizeOperators() []operator {
	const attrs = "coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value mode nearest_mode"
	return []operator{
		{"Upsample", 9, 9, "mode", resize},
		{"Resize", 10, 10, "mode", resize},
		{"Resize", 11, 17, attrs, resize},
		{"Resize", 18, latest, attrs + " antialias axes keep_aspect_ratio_policy", resize},
	}
}

// resizing is how one axis is resized.
type resizing struct {
	in, out    int64
	scale      float64
	start, end float64 // region of interest, as a part of the axis
}

// sample is an element of an axis with its weight.
type sample struct {
	at     int64
	weight float64
}

func resize(c *call) []*array {
	x := c.input(0)
	c.sameFloats(x)
	if c.int("antialias", 0) != 0 {
		c.unsupported("antialiasing")
	}
	plan := c.resizings(x)
	shape := make([]int64, len(plan))
	for i, r := range plan {
		shape[i] = r.out
	}
	if c.count(x.dt, shape) == 0 {
		return one(store(c, x.dt, shape, []float64{}))
	}
	value := x
	for axis, r := range plan {
		if r.in == r.out && r.scale == 1 && c.coordinateMode() != "tf_crop_and_resize" {
			continue
		}
		if r.in == 0 {
			c.fail("axis %d is empty", axis)
		}
		samples := make([][]sample, r.out)
		for i := range samples {
			samples[i] = c.samples(r, int64(i))
		}
		value = c.sampled(value, axis, samples)
	}
	return one(store(c, x.dt, value.shape, load[float64](value)))
}

// resizings reads sizes or scales, and the region of interest.
func (c *call) resizings(x *array) []resizing {
	plan := make([]resizing, x.rank())
	axes := make([]int, x.rank())
	for i, n := range x.shape {
		plan[i], axes[i] = resizing{in: n, out: n, scale: 1, end: 1}, i
	}
	if list := c.ints("axes"); list != nil {
		axes = c.axes(list, x.rank())
	}
	scales, sizes := 2, 3
	if c.version < 11 {
		scales, sizes = 1, 99
	} else if c.coordinateMode() == "tf_crop_and_resize" {
		roi := c.input(1)
		if roi.len() != 2*len(axes) {
			c.fail("a region of %d numbers for %d axes", roi.len(), len(axes))
		}
		v := load[float64](roi)
		for i, a := range axes {
			plan[a].start, plan[a].end = v[i], v[len(axes)+i]
		}
	}
	hasScales := c.opt(scales) != nil && c.opt(scales).len() > 0
	switch given := c.opt(sizes); {
	case hasScales == (given != nil && given.len() > 0):
		c.fail("want either scales or sizes")
	case hasScales:
		c.fromScales(plan, axes, load[float64](c.opt(scales)))
	default:
		c.fromSizes(plan, axes, c.intInput(sizes))
	}
	return plan
}

// fromScales refuses sizes that hang on how a product is rounded.
func (c *call) fromScales(plan []resizing, axes []int, scales []float64) {
	if len(scales) != len(axes) {
		c.fail("%d scales for %d axes", len(scales), len(axes))
	}
	for i, a := range axes {
		r := &plan[a]
		r.scale = scales[i]
		size := float64(r.in) * r.scale * (r.end - r.start)
		if !(r.scale > 0) || size > 1<<40 {
			c.fail("scales are %v", scales)
		}
		if math.Floor(size) != math.Floor(float64(float32(size))) {
			c.unsupported("a size of %v, which runtimes round differently", size)
		}
		r.out = int64(math.Floor(size))
		switch c.coordinateMode() {
		case "align_corners", "tf_crop_and_resize", "pytorch_half_pixel":
			if size != math.Floor(size) {
				c.unsupported("coordinates by a size of %v, which runtimes round differently", size)
			}
		}
	}
}

func (c *call) fromSizes(plan []resizing, axes []int, sizes []int64) {
	if len(sizes) != len(axes) {
		c.fail("%d sizes for %d axes", len(sizes), len(axes))
	}
	common := 0.0
	policy := c.str("keep_aspect_ratio_policy", "stretch")
	for i, a := range axes {
		r := &plan[a]
		if sizes[i] < 1 || r.in == 0 {
			c.fail("sizes are %v", sizes)
		}
		r.out, r.scale = sizes[i], float64(sizes[i])/float64(r.in)
		if common == 0 || policy == "not_larger" && r.scale < common || policy == "not_smaller" && r.scale > common {
			common = r.scale
		}
	}
	switch policy {
	case "stretch":
		return
	case "not_larger", "not_smaller":
	default:
		c.fail("attribute \"keep_aspect_ratio_policy\" is %q", policy)
	}
	for _, a := range axes {
		r := &plan[a]
		r.scale, r.out = common, int64(math.Floor(common*float64(r.in)+0.5))
	}
}

// coordinateMode is asymmetric before opset 11.
func (c *call) coordinateMode() string {
	if c.version < 11 {
		return "asymmetric"
	}
	return c.str("coordinate_transformation_mode", "half_pixel")
}

// coordinate returns where in the original axis position x of the result lies.
func (c *call) coordinate(r resizing, x float64) float64 {
	in, out := float64(r.in), float64(r.out)
	half := (x+0.5)/r.scale - 0.5
	switch mode := c.coordinateMode(); mode {
	case "half_pixel":
		return half
	case "half_pixel_symmetric":
		return in/2*(1-out/(r.scale*in)) + half
	case "pytorch_half_pixel":
		if r.out == 1 {
			return 0
		}
		return half
	case "align_corners":
		if r.out == 1 {
			return 0
		}
		return x * (in - 1) / (out - 1)
	case "asymmetric":
		return x / r.scale
	case "tf_half_pixel_for_nn":
		if c.version < 13 {
			return (x + 0.5) / r.scale
		}
		c.fail("attribute \"coordinate_transformation_mode\" is %q", mode)
	case "tf_crop_and_resize":
		if r.out == 1 {
			return (r.start + r.end) / 2 * (in - 1)
		}
		return r.start*(in-1) + x*(r.end-r.start)*(in-1)/(out-1)
	default:
		c.fail("attribute \"coordinate_transformation_mode\" is %q", mode)
	}
	return 0
}

// samples returns what position i of the result is made of; nothing where it
// lies outside of the region that is cropped, which extrapolation_value fills.
func (c *call) samples(r resizing, i int64) []sample {
	x := c.coordinate(r, float64(i))
	if c.coordinateMode() == "tf_crop_and_resize" && (x < 0 || x > float64(r.in-1)) {
		return nil
	}
	switch mode := c.str("mode", "nearest"); mode {
	case "nearest":
		return []sample{{c.nearest(r, x), 1}}
	case "linear":
		low := math.Floor(x)
		return within(r.in, []sample{{int64(low), low + 1 - x}, {int64(low) + 1, x - low}})
	case "cubic":
		return c.cubic(r, x)
	default:
		c.unsupported("attribute \"mode\" is %q", mode)
	}
	return nil
}

// within moves samples from outside of an axis of n elements to its ends.
func within(n int64, list []sample) []sample {
	for i := range list {
		list[i].at = min(max(list[i].at, 0), n-1)
	}
	return list
}

// nearest rounds x to an element. It refuses what lies so near to a tie that
// the precision of the computation decides.
func (c *call) nearest(r resizing, x float64) int64 {
	mode := "floor"
	if c.version >= 11 {
		mode = c.str("nearest_mode", "round_prefer_floor")
	} else if r.scale < 1 && x != math.Floor(x) {
		c.unsupported("the nearest element when an axis shrinks, which is not defined before opset 11")
	}
	tie := 0.0
	switch mode {
	case "round_prefer_floor", "round_prefer_ceil":
		tie = 0.5
	}
	if d := math.Abs(x - tie - math.Round(x-tie)); d > 0 && d < 1e-5 {
		c.unsupported("an element at %v, which runtimes round differently", x)
	}
	switch mode {
	case "round_prefer_floor":
		x = math.Ceil(x - 0.5)
	case "round_prefer_ceil":
		x = math.Floor(x + 0.5)
	case "floor":
		x = math.Floor(x)
	case "ceil":
		x = math.Ceil(x)
	default:
		c.fail("attribute \"nearest_mode\" is %q", mode)
	}
	return min(max(int64(x), 0), r.in-1)
}

// cubic weighs four elements by the cubic convolution kernel of Keys, 1981.
func (c *call) cubic(r resizing, x float64) []sample {
	a := c.float("cubic_coeff_a", -0.75)
	low := math.Floor(x)
	t := x - low
	near := func(d float64) float64 { return ((a+2)*d-(a+3))*d*d + 1 }
	far := func(d float64) float64 { return ((a*d-5*a)*d+8*a)*d - 4*a }
	list := []sample{
		{int64(low) - 1, far(t + 1)}, {int64(low), near(t)}, {int64(low) + 1, near(1 - t)}, {int64(low) + 2, far(2 - t)},
	}
	if c.int("exclude_outside", 0) == 0 {
		return within(r.in, list)
	}
	list = slices.DeleteFunc(list, func(s sample) bool { return s.at < 0 || s.at >= r.in })
	sum := 0.0
	for _, s := range list {
		sum += s.weight
	}
	for i := range list {
		list[i].weight /= sum
	}
	return list
}

// sampled replaces an axis of a by weighted sums of its elements, not yet
// rounded to its type.
func (c *call) sampled(a *array, axis int, samples [][]sample) *array {
	shape := slices.Clone(a.shape)
	shape[axis] = int64(len(samples))
	c.count(a.dt, shape)
	v, out := load[float64](a), make([]float64, product(shape))
	inner, size := product(a.shape[axis+1:]), int(a.shape[axis])
	outside := c.float("extrapolation_value", 0)
	for i := range out {
		list := samples[i/inner%len(samples)]
		base := i / inner / len(samples) * size * inner
		for _, s := range list {
			out[i] += s.weight * v[base+int(s.at)*inner+i%inner]
		}
		if list == nil {
			out[i] = outside
		}
	}
	return &array{dt: a.dt, shape: shape, wide: out}
}
