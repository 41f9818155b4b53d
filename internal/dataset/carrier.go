package dataset

import (
	"fmt"
	"maps"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Carrier feeds outputs of one sample to inputs of the next, as
// Options.State says. It is for one pass over a set in order.
type Carrier struct {
	state    map[string]string // output → input
	ports    []Port
	values   map[string]*onnx.Tensor // by input; nil before the first sample
	sequence string
}

// Stateful reports whether outputs of one sample are inputs of the next.
func (s *Set) Stateful() bool { return len(s.o.State) > 0 }

// Carrier returns a new carrier. Where Options.State is empty it changes nothing.
func (s *Set) Carrier() *Carrier { return &Carrier{state: s.o.State, ports: s.ports} }

// Feed returns the sample's inputs with the state put in. At the start, and
// where Sample.Sequence changes, the state is what the data holds for the
// input, else zeros, with unknown dimensions 1.
func (c *Carrier) Feed(s *Sample) (map[string]*onnx.Tensor, error) {
	if len(c.state) == 0 {
		return s.Inputs, nil
	}
	in := maps.Clone(s.Inputs)
	if c.values != nil && s.Sequence == c.sequence {
		maps.Copy(in, c.values)
		return in, nil
	}
	c.values, c.sequence = map[string]*onnx.Tensor{}, s.Sequence
	for _, name := range c.state {
		if in[name] != nil {
			continue
		}
		p, _ := findPort(c.ports, name)
		t, err := zeros(p)
		if err != nil {
			return nil, fmt.Errorf("state input %q: %w", name, err)
		}
		in[name] = t
	}
	return in, nil
}

// Keep takes the outputs of the sample that was fed last.
func (c *Carrier) Keep(outputs map[string]*onnx.Tensor) error {
	if c.values == nil {
		c.values = map[string]*onnx.Tensor{}
	}
	for out, in := range c.state {
		t := outputs[out]
		if t == nil {
			return fmt.Errorf("state %s=%s: the model gave no output %q", out, in, out)
		}
		p, known := findPort(c.ports, in)
		if known && (p.elem() != t.DType || p.shape() != nil && (len(p.shape()) != len(t.Shape) || !agree(p.shape(), t.Shape))) {
			return fmt.Errorf("state %s=%s: the output is %v%v, but the input takes %v", out, in, t.DType, t.Shape, p.Type)
		}
		c.values[in] = t.Renamed(in)
	}
	return nil
}

// zeros returns a tensor of zeros, or of empty strings, for p.
func zeros(p Port) (*onnx.Tensor, error) {
	want := p.shape()
	if want == nil {
		return nil, fmt.Errorf("its rank is unknown; put an array of that name into the data")
	}
	shape := make([]int64, len(want))
	for i, d := range want {
		shape[i] = 1
		if d.Known() {
			shape[i] = d.Value
		}
	}
	n, ok := onnx.ElementCount(shape)
	if p.elem() == onnx.String && ok && n <= maxRow {
		return onnx.FromStrings(p.Name, shape, make([]string, n)), nil
	}
	size, sized := p.elem().ByteSize(n)
	if !ok || !sized || size > maxRow {
		return nil, fmt.Errorf("cannot make zeros of type %v", p.Type)
	}
	return onnx.NewTensor(p.Name, p.elem(), shape, make([]byte, size))
}
