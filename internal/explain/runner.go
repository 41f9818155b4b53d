package explain

import (
	"context"
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/score"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// model is one of the two, with what is fixed for the whole comparison.
type model struct {
	name          string // "baseline" or "candidate", for messages
	session       session.Session
	input, output string
	batch         int // perturbed inputs per run; 1 runs one by one
	kind          score.Kind
	split         *Split     // nil where the method needs none
	tailBatch     int        // feature maps per run of the split's tail, or embeddings per run of what follows them; 0 is 1
	gradient      Gradient   // nil where the method needs none
	embedding     *Embedding // nil where the explained input need not be embedded
}

// alone returns the model running one input at a time.
func (m *model) alone() *model {
	one := *m
	one.batch = 1
	return &one
}

// variants yields n versions of a sample's perturbed input: fill writes the i-th into dst, which starts as the sample itself.
type variants struct {
	n    int
	fill func(i int, dst []byte)
}

// each runs the variants of a sample in order and hands each output row to see, which must not keep it. All runs of a call have the
// same batch size: a short last batch is filled up with the sample itself, so that no kernel is chosen by what is left over.
func (m *model) each(ctx context.Context, s Sample, v variants, see func(i int, row []float64)) error {
	original, err := s.Inputs[m.input].Bytes()
	if err != nil {
		return fmt.Errorf("sample %q: %v", s.ID, err)
	}
	for at := 0; at < v.n; at += m.batch {
		buffer := make([]byte, m.batch*len(original))
		for i := range m.batch {
			dst := buffer[i*len(original) : (i+1)*len(original)]
			copy(dst, original)
			if at+i < v.n {
				v.fill(at+i, dst)
			}
		}
		got, err := m.run(ctx, s, buffer)
		if err != nil {
			return err
		}
		for i, row := range got[:min(m.batch, v.n-at)] {
			see(at+i, row)
		}
	}
	return nil
}

// rows returns the output rows of the variants of a sample.
func (m *model) rows(ctx context.Context, s Sample, v variants) ([][]float64, error) {
	out := make([][]float64, v.n)
	err := m.each(ctx, s, v, func(i int, row []float64) { out[i] = row })
	return out, err
}

// inputs returns the inputs of one batch; those that are not explained are repeated as often.
func (m *model) inputs(s Sample, data []byte) (map[string]*onnx.Tensor, error) {
	in := make(map[string]*onnx.Tensor, len(s.Inputs))
	for name, t := range s.Inputs {
		repeated, err := m.repeat(t, name, data)
		if err != nil {
			return nil, fmt.Errorf("sample %q: input %q: %v", s.ID, name, err)
		}
		in[name] = repeated
	}
	return in, nil
}

// run executes one batch.
func (m *model) run(ctx context.Context, s Sample, data []byte) ([][]float64, error) {
	in, err := m.inputs(s, data)
	if err != nil {
		return nil, err
	}
	result, err := m.session.Run(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("running the %s on sample %q: %w", m.name, s.ID, err)
	}
	t := result.Outputs[m.output]
	if t == nil {
		return nil, fmt.Errorf("the %s gave no output %q for sample %q", m.name, m.output, s.ID)
	}
	v, err := t.Float64s()
	if err != nil {
		return nil, fmt.Errorf("the %s's output %q: %v", m.name, m.output, err)
	}
	if len(v) == 0 || len(v)%m.batch != 0 || m.batch > 1 && t.Shape[0] != int64(m.batch) {
		return nil, fmt.Errorf("the %s's output %q has shape %v for a batch of %d", m.name, m.output, t.Shape, m.batch)
	}
	rows := make([][]float64, m.batch)
	for i := range rows {
		n := len(v) / m.batch
		rows[i] = v[i*n : (i+1)*n]
	}
	return rows, nil
}

func (m *model) repeat(t *onnx.Tensor, name string, data []byte) (*onnx.Tensor, error) {
	shape := append([]int64(nil), t.Shape...)
	if m.batch > 1 {
		shape[0] = int64(m.batch)
	}
	if name == m.input {
		return onnx.NewTensor(t.Name, t.DType, shape, data)
	}
	if m.batch == 1 {
		return t, nil
	}
	one, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	all := make([]byte, 0, m.batch*len(one))
	for range m.batch {
		all = append(all, one...)
	}
	return onnx.NewTensor(t.Name, t.DType, shape, all)
}

// freeBatch says whether a session takes any number of samples along the first axis of all its inputs.
func freeBatch(s session.Session, sample Sample) bool {
	for _, p := range s.Inputs() {
		t := sample.Inputs[p.Name]
		if t == nil || !batched(t.Shape) || t.DType == onnx.String || t.DType.Bits() < 8 {
			return false
		}
		if !p.Type.IsTensor() || !p.Type.Shape.Ranked() || len(p.Type.Shape) == 0 || p.Type.Shape[0].Known() {
			return false
		}
	}
	for name := range sample.Inputs {
		if !hasPort(s.Inputs(), name) {
			return false // an optional input, whose axes are not declared here
		}
	}
	return true
}

func hasPort(ports []session.Port, name string) bool {
	for _, p := range ports {
		if p.Name == name {
			return true
		}
	}
	return false
}

// batchInvariant runs a sample and two perturbed versions of it alone and within a batch of perturbed ones, and says whether
// their outputs stay the same to 1e-4 of the largest value. Dynamically quantized models fail this: their ranges are taken
// over the whole batch.
func (m *model) batchInvariant(ctx context.Context, s Sample, v variants, batch int) bool {
	together := *m
	together.batch = batch
	n := min(batch, v.n+1)
	row := func(i int, dst []byte) {
		if i > 0 {
			v.fill(i-1, dst)
		}
	}
	probes := []int{0, n / 2, n - 1}
	want, err := m.alone().rows(ctx, s, variants{n: len(probes), fill: func(i int, dst []byte) { row(probes[i], dst) }})
	if err != nil {
		return false
	}
	got, err := together.rows(ctx, s, variants{n: n, fill: row})
	if err != nil {
		return false
	}
	for i, at := range probes {
		if !sameRow(want[i], got[at]) {
			return false
		}
	}
	return true
}

func sameRow(want, got []float64) bool {
	if len(want) != len(got) {
		return false
	}
	scale := 0.0
	for _, x := range want {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			scale = max(scale, math.Abs(x))
		}
	}
	for i, x := range want {
		same := x == got[i] || math.IsNaN(x) && math.IsNaN(got[i])
		if !same && !(math.Abs(x-got[i]) <= 1e-4*scale) {
			return false
		}
	}
	return true
}
