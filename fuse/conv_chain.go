package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// maxCompose bounds the multiplications for one composed weight: some seconds.
const maxCompose = 1 << 32

// convChain composes two Convs without an activation between them, one of which
// is pointwise: W[o,i,k] = Σm W2[o,m]·W1[m,i,k], b = W2·b1 + b2.
func convChain(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "conv-chain", Doc: "composes a Conv and a pointwise Conv, in either order, where that takes no more multiplications",
		Pattern: "Conv(first=Conv(x, w1, ?b1), w2, ?b2)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			c := convPair{m: m, first: m.Node("first"), second: m.Root}
			if err := c.read(); err != nil {
				return err
			}
			if err := c.pays(t); err != nil {
				return err
			}
			y, err := c.compose(p)
			if err == nil {
				p.Swap(m.Root.Output(0), y)
			}
			return err
		},
	}
}

// convPair is two Convs in a row.
type convPair struct {
	m             *rewrite.Match
	first, second *onnx.Node
	w1, w2        *onnx.Tensor // [mid, in, k1...], [out, mid, k2...]
	b1, b2        *onnx.Tensor // nil where there is none
	in, mid, out  int
	k1, k2        int // elements of a kernel
	attrs         []*onnx.Attr
}

func (c *convPair) read() error {
	if c.first.Graph() != c.second.Graph() {
		return rewrite.Decline("%v is in an enclosing graph", c.first)
	}
	if err := soleUse(c.first); err != nil {
		return err
	}
	for _, n := range []*onnx.Node{c.first, c.second} {
		if n.Int("group", 1) != 1 {
			return rewrite.Decline("%v has %d groups", n, n.Int("group", 1))
		}
	}
	var err error
	if c.w1, err = c.m.Const("w1"); err != nil {
		return err
	}
	if c.w2, err = c.m.Const("w2"); err != nil {
		return err
	}
	if c.b1, err = optionalConst(c.m, "b1"); err != nil {
		return err
	}
	if c.b2, err = optionalConst(c.m, "b2"); err != nil {
		return err
	}
	s1, s2 := c.w1.Shape, c.w2.Shape
	if len(s1) < 3 || len(s1) != len(s2) || s2[1] != s1[0] || c.w1.DType != c.w2.DType || !isReal(c.w1.DType) || product(s1)*product(s2) == 0 {
		return rewrite.Decline("the filters are %v and %v", c.w1, c.w2)
	}
	c.in, c.mid, c.out = int(s1[1]), int(s1[0]), int(s2[0])
	c.k1, c.k2 = product(s1[2:]), product(s2[2:])
	return c.geometry()
}

// geometry decides which of the two is pointwise, and the attributes of the result.
func (c *convPair) geometry() error {
	s1, s2 := strides(c.first, len(c.w1.Shape)-2), strides(c.second, len(c.w1.Shape)-2)
	switch {
	case c.k2 == 1 && !padded(c.second):
		c.attrs = c.first.Attrs
		if all64(s2, 1) {
			return nil
		}
		if auto := c.first.Str("auto_pad", "NOTSET"); auto != "NOTSET" && auto != "VALID" {
			return rewrite.Decline("auto_pad of %v is %s", c.first, auto)
		}
		for i := range s1 {
			s1[i] *= s2[i]
		}
		c.attrs = withAttrs(c.first, onnx.IntsAttr("strides", s1...))
		return nil
	case c.k1 == 1 && !padded(c.first) && all64(s1, 1):
		c.attrs = c.second.Attrs
		if padded(c.second) && c.b1 != nil {
			return rewrite.Decline("padding comes between the bias of %v and %v", c.first, c.second)
		}
		return nil
	}
	return rewrite.Decline("neither of the two is pointwise without padding or strides between them")
}

func strides(n *onnx.Node, rank int) []int64 {
	out := append([]int64(nil), n.Ints("strides", nil)...)
	for len(out) < rank {
		out = append(out, 1)
	}
	return out
}

// pays declines where the composed Conv multiplies more than the two, or its
// filters are too large. Per element of the result, the first works at as many
// places as the second skips.
func (c *convPair) pays(t *Target) error {
	skip := product(strides(c.second, len(c.w1.Shape)-2))
	before := c.mid*c.in*c.k1*skip + c.out*c.mid*c.k2
	after := c.out * c.in * c.k1 * c.k2
	if after > before {
		return rewrite.Decline("one Conv would take %d multiplications per place, the two take %d", after, before)
	}
	if work := float64(after) * float64(c.mid); work > maxCompose {
		return rewrite.Decline("composing the filters takes %.0f multiplications", work)
	}
	width := int64(c.w1.DType.Bits() / 8)
	if grown := int64(after)*width - c.w1.Size() - c.w2.Size(); grown > t.growth() {
		return rewrite.Decline("the filters would grow by %d bytes", grown)
	}
	return nil
}

func (c *convPair) compose(p *rewrite.Patch) (*onnx.Value, error) {
	w1, err := c.w1.Float64s()
	if err != nil {
		return nil, err
	}
	w2, err := c.w2.Float64s()
	if err != nil {
		return nil, err
	}
	shape := append([]int64{int64(c.out), int64(c.in)}, c.w1.Shape[2:]...)
	w := times(w2, w1, c.out, c.mid, c.in*c.k1)
	if c.k2 > 1 { // the kernel belongs to the second
		copy(shape[2:], c.w2.Shape[2:])
		w = make([]float64, c.out*c.in*c.k2)
		for o := range c.out {
			part := times(flip(w2[o*c.mid*c.k2:][:c.mid*c.k2], c.mid, c.k2), w1, c.k2, c.mid, c.in)
			copy(w[o*c.in*c.k2:], flip(part, c.k2, c.in))
		}
	}
	t, err := floatTensor(c.w2.Name, c.w2.DType, shape, w)
	if err != nil {
		return nil, err
	}
	in := []*onnx.Value{c.m.Value("x"), p.Const(t)}
	if c.b1 == nil {
		in = append(in, c.m.Value("b2"))
	} else {
		b, err := c.bias(w2)
		if err != nil {
			return nil, err
		}
		in = append(in, p.Const(b))
	}
	return p.Add("Conv", in, c.attrs...), nil
}

// bias returns Σ W2·b1 + b2.
func (c *convPair) bias(w2 []float64) (*onnx.Tensor, error) {
	b1, err := c.b1.Float64s()
	if err != nil {
		return nil, err
	}
	if len(b1) != c.mid {
		return nil, rewrite.Decline("the bias has %d elements for %d channels", len(b1), c.mid)
	}
	a := affine{scale: make([]float64, c.out), shift: make([]float64, c.out)}
	for i, w := range w2 {
		a.shift[i/(c.mid*c.k2)] += w * b1[i/c.k2%c.mid]
	}
	for o := range a.scale {
		a.scale[o] = 1
	}
	return foldedBias(c.w2.Name+"_bias", c.w2.DType, c.b2, a)
}

// times returns the product of a [n,k] and b [k,m], in float64.
func times(a, b []float64, n, k, m int) []float64 {
	out := make([]float64, n*m)
	for i := range n {
		row := out[i*m : (i+1)*m]
		for j := range k {
			x := a[i*k+j]
			if x == 0 {
				continue
			}
			for l, y := range b[j*m : (j+1)*m] {
				row[l] += x * y
			}
		}
	}
	return out
}

// flip returns a [n,m] as [m,n].
func flip(a []float64, n, m int) []float64 {
	out := make([]float64, len(a))
	for i := range n {
		for j := range m {
			out[j*n+i] = a[i*m+j]
		}
	}
	return out
}

// optionalConst returns the constant bound to name, nil if it is omitted, or declines.
func optionalConst(m *rewrite.Match, name string) (*onnx.Tensor, error) {
	if m.Value(name) == nil {
		return nil, nil
	}
	return m.Const(name)
}
