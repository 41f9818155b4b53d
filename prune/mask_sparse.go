package prune

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// sparseRule is how logs and --disable call the storing of weights as sparse_initializer.
const sparseRule = "sparse-storage"

// sparseIR is the first version of the format that has sparse_initializer.
const sparseIR = 6

// SparseStorage says what storing weights sparsely did.
type SparseStorage struct {
	Tensors int   `json:"tensors"` // stored sparsely
	Dense   int   `json:"dense"`   // left as they are
	Before  int64 `json:"bytes_before"`
	After   int64 `json:"bytes_after"` // of those that are stored sparsely
}

// sparsePass stores weights by their non-zero elements where that takes less.
type sparsePass struct {
	o     *Options
	takes map[onnx.DType]string // why the engine does not take sparse weights of a type; "" if it does
	r     SparseStorage
	done  bool
}

func (*sparsePass) Name() string { return sparseRule }

// Run looks at every weight of the main graph, once.
func (p *sparsePass) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	if p.done {
		return nil
	}
	p.done = true
	p.r = SparseStorage{}
	if m.IRVersion < sparseIR {
		e.Log.Notice("weights stay dense: the model has version %d of the format, and sparse_initializer needs %d; raise it with fuse --opset 11", m.IRVersion, sparseIR)
		return nil
	}
	for _, v := range slices.Clone(m.Graph.Initializers()) {
		u := slices.IndexFunc(v.Uses(), isSlot)
		if u < 0 || v.IsOutput() || v.Constant() == nil || len(v.Const.Shape) < 2 || !v.Const.DType.IsFloat() {
			continue
		}
		if err := p.store(ctx, v, v.Uses()[u].Node, e); err != nil {
			return err
		}
	}
	return nil
}

// store replaces one weight.
func (p *sparsePass) store(ctx context.Context, v *onnx.Value, n *onnx.Node, e *rewrite.Env) error {
	t := v.Const
	s, err := sparseOf(t)
	if err != nil {
		return err
	}
	before, after := t.Size(), s.Values.Size()+s.Indices.Size()
	why := ""
	if after >= before {
		why = fmt.Sprintf("%q takes %d bytes, by its non-zero elements and their places it would take %d", t.Name, before, after)
	} else if why, err = p.refused(ctx, t.DType); err != nil {
		return err
	}
	if why != "" || !e.Allow(sparseRule, n, t.Name) {
		p.r.Dense++
		if why != "" {
			e.Decline(sparseRule, n, "%s", why)
		}
		return nil
	}
	site, g := e.At(sparseRule, n, t.Name), v.Graph()
	s.Values.Name = g.Model().Fresh(t.Name + "_sparse")
	stored := g.AddSparse(s)
	for _, u := range slices.Clone(v.Uses()) {
		u.Node.SetInput(u.Index, stored)
	}
	p.r.Tensors, p.r.Before, p.r.After = p.r.Tensors+1, p.r.Before+before, p.r.After+after
	return e.Fired(sparseRule, site, 0, 0, fmt.Sprintf("%d → %d bytes", before, after))
}

// sparseOf returns t by its non-zero elements.
func sparseOf(t *onnx.Tensor) (*onnx.SparseTensor, error) {
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	size := t.DType.Bits() / 8
	var values, places []byte
	for i := range len(b) / size {
		x := b[i*size : (i+1)*size]
		if zeroBytes(x) {
			continue
		}
		values = append(values, x...)
		places = binary.LittleEndian.AppendUint64(places, uint64(i))
	}
	count := []int64{int64(len(places) / 8)}
	return &onnx.SparseTensor{Dims: t.Shape,
		Values:  &onnx.Tensor{Name: t.Name, DType: t.DType, Shape: count, Data: onnx.Raw(values)},
		Indices: &onnx.Tensor{Name: t.Name + "_places", DType: onnx.Int64, Shape: count, Data: onnx.Raw(places)}}, nil
}

// zeroBytes reports whether a number is zero and has no sign.
func zeroBytes(x []byte) bool {
	for _, c := range x {
		if c != 0 {
			return false
		}
	}
	return true
}

// refused says why the engine does not take sparse weights of a type; "" if it does.
func (p *sparsePass) refused(ctx context.Context, d onnx.DType) (string, error) {
	if why, known := p.takes[d]; known {
		return why, nil
	}
	why := ""
	if err := p.probe(ctx, d); err != nil {
		why = fmt.Sprintf("the engine does not take sparse weights of %v: %v", d, err)
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if p.takes == nil {
		p.takes = map[onnx.DType]string{}
	}
	p.takes[d] = why
	return why, nil
}

// probe runs a product with a sparse weight, and compares it with what it must be.
func (p *sparsePass) probe(ctx context.Context, d onnx.DType) error {
	w, err := onnx.FromFloat64s("w", d, []int64{2, 2}, []float64{0, 3, 0, 0})
	if err != nil {
		return err
	}
	s, err := sparseOf(w)
	if err != nil {
		return err
	}
	m := onnx.NewModel(17)
	x := m.Graph.AddInput("x", onnx.TensorType(d, onnx.ShapeOf(1, 2)))
	n := onnx.NewNode("MatMul", []*onnx.Value{x, m.Graph.AddSparse(s)}, "y")
	n.Output(0).Type = onnx.TensorType(d, onnx.ShapeOf(1, 2))
	m.Graph.Append(n)
	m.Graph.AddOutput(n.Output(0))
	dir, err := os.MkdirTemp("", "lapidary-prune-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sparse.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		return err
	}
	o := p.o.Session
	o.Level, o.Outputs = session.LevelOff, nil
	opened, err := p.o.Open(ctx, path, o)
	if err != nil {
		return err
	}
	defer opened.Close()
	in, err := onnx.FromFloat64s("x", d, []int64{1, 2}, []float64{2, 5})
	if err != nil {
		return err
	}
	r, err := opened.Run(ctx, map[string]*onnx.Tensor{"x": in})
	if err != nil {
		return err
	}
	y, err := r.Outputs["y"].Float64s()
	if err == nil && (len(y) != 2 || y[0] != 0 || math.Abs(y[1]-6) > 1e-3) {
		err = fmt.Errorf("it computes %v instead of [0 6]", y)
	}
	return err
}
