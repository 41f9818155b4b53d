package quantize

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// kernel is what must be known of an engine before a node is written.
type kernel struct {
	form     form
	bits     int
	size     int
	dtype    onnx.DType
	zero     zeroKind
	rows     bool // dequantize: weights are stored [n, k]
	bias     bool // matmulnbits: with a bias
	accuracy int64
}

// form is how blocks of codes are read.
type form string

// The forms.
const (
	formNBits  form = "matmulnbits" // MatMulNBits of com.microsoft
	formPlain  form = "dequantize"  // DequantizeLinear in blocks, of opset 21
	formGather form = "gather"      // GatherBlockQuantized of com.microsoft
)

// zeroKind is how zero points are given.
type zeroKind int

const (
	noZero zeroKind = iota
	codeZero
	realZero
)

// nbitsKernels asks an engine what it computes, and keeps the answers.
type nbitsKernels struct {
	open    session.Opener
	session session.Options
	known   map[kernel]error
}

// has returns why the engine cannot be used for k, nil if it can: a model of one
// node loads, and computes with its optimizations off and on what it should, for
// one row and for several. What the documentation says is not believed: a block
// size of 512 loaded once and gave zeros.
func (ks *nbitsKernels) has(ctx context.Context, k kernel) error {
	if ks.open == nil {
		return nil
	}
	err, ok := ks.known[k]
	if !ok {
		if err = ks.probe(ctx, k); ctx.Err() != nil {
			return ctx.Err()
		}
		if ks.known == nil {
			ks.known = map[kernel]error{}
		}
		ks.known[k] = err
	}
	return err
}

func (ks *nbitsKernels) probe(ctx context.Context, k kernel) error {
	s := newSpecimen(k)
	dir, err := os.MkdirTemp("", "lapidary-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "node.onnx")
	if _, err := onnxfile.Write(path, s.model(), onnxfile.WriteOptions{Perm: 0o600}); err != nil {
		return err
	}
	for _, level := range []session.Level{session.LevelOff, session.LevelAll} {
		o := ks.session
		o.Level, o.Outputs = level, nil
		run, err := ks.open(ctx, path, o)
		if err != nil {
			return fmt.Errorf("the runtime has no kernel of %v: %s", k, strings.TrimPrefix(err.Error(), "opening "+path+": "))
		}
		for _, rows := range []int{1, 5} {
			if err = s.run(ctx, run, rows); err != nil {
				break
			}
		}
		run.Close()
		if err != nil {
			return fmt.Errorf("the runtime computes %v wrongly: %w", k, err)
		}
	}
	return nil
}

func (k kernel) String() string {
	name := map[form]string{formNBits: "MatMulNBits", formPlain: "DequantizeLinear in blocks", formGather: "GatherBlockQuantized"}[k.form]
	text := fmt.Sprintf("%s with %d bits in blocks of %d for %v", name, k.bits, k.size, k.dtype)
	switch k.zero {
	case codeZero:
		text += ", zero points as codes"
	case realZero:
		text += ", zero points as numbers"
	}
	if k.bias {
		text += ", a bias"
	}
	if k.accuracy != 0 {
		text += fmt.Sprintf(", accuracy level %d", k.accuracy)
	}
	return text
}

// specimen is a small node of a kind, and what it must compute: an odd number of
// blocks of which the last is not full, and channels that no vector width divides.
type specimen struct {
	k     kernel
	b     *blockwise
	w     []float64 // [n, k], decoded
	bias  []float32
	table bool
}

func newSpecimen(k kernel) *specimen {
	f := blocks{bits: k.bits, size: k.size, asymmetric: k.zero != noZero, dtype: k.dtype}
	op := operand{k: 2*k.size + k.size/2, n: 21, batch: 1, rows: k.rows || k.form == formGather}
	shape := []int64{int64(op.k), int64(op.n)}
	if op.rows {
		shape = []int64{int64(op.n), int64(op.k)}
	}
	v := make([]float32, op.k*op.n)
	for i := range v {
		v[i] = float32(pseudo(i)) + 0.25
	}
	op.t = onnx.FromFloats("w", shape, v)
	s := &specimen{k: k, b: &blockwise{f: f, op: op}, table: k.form == formGather}
	s.b.steps, _ = s.b.fit()
	if k.zero == realZero {
		s.b.steps.real, s.b.steps.zero = make([]float32, len(s.b.steps.zero)), nil
		for i := range s.b.steps.real {
			s.b.steps.real[i] = f.stored(f.mid() + float32(pseudo(i+7)))
		}
	}
	s.w = make([]float64, op.n*op.k)
	_ = s.b.each(s.b.steps, func(_, n, b int, codes []byte) {
		for i, code := range codes {
			s.w[n*op.k+b*k.size+i] = float64(s.b.steps.at(s.b.index(0, n, b)).value(code))
		}
	})
	if k.bias {
		for i := range op.n {
			s.bias = append(s.bias, f.stored(float32(pseudo(i+3))))
		}
	}
	return s
}

// pseudo is a number in [−1, 1) that looks random, the same for the same i.
func pseudo(i int) float64 {
	x := uint64(i+1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64(int64(x^x>>31)) / (1 << 63)
}

// model returns the model of the node.
func (s *specimen) model() *onnx.Model {
	m := onnx.NewModel(plainOpset)
	m.IRVersion = 10
	g, op := m.Graph, s.b.op
	if s.table {
		x := g.AddInput("x", onnx.TensorType(onnx.Int64, onnx.Shape{onnx.Symbol("rows")}))
		m.ImportOpset(microsoft, 1)
		g.Append(gatherNode(g, s.b, x, "y", 0))
	} else {
		x := g.AddInput("x", onnx.TensorType(s.k.dtype, onnx.Shape{onnx.Symbol("rows"), onnx.Fixed(int64(op.k))}))
		switch s.k.form {
		case formNBits:
			m.ImportOpset(microsoft, 1)
			var bias *onnx.Value
			if s.bias != nil {
				bias = g.NewConst(floatTensor("bias", []int64{int64(op.n)}, s.bias, s.k.dtype))
			}
			g.Append(nbitsNode(g, s.b, x, bias, "y", s.k.accuracy))
		default:
			dq := plainNode(g, s.b, "w")
			g.Append(dq)
			n := onnx.NewNode("MatMul", []*onnx.Value{x, dq.Output(0)}, "y")
			if op.rows {
				n = onnx.NewNode("Gemm", []*onnx.Value{x, dq.Output(0)}, "y")
				n.Attrs = []*onnx.Attr{onnx.IntAttr("transB", 1)}
			}
			g.Append(n)
		}
	}
	y := g.Last().Output(0)
	y.Type = onnx.TensorType(s.k.dtype, nil)
	g.AddOutput(y)
	return m
}

// run compares a run with what is computed from the decoded weights.
func (s *specimen) run(ctx context.Context, r session.Session, rows int) error {
	op := s.b.op
	x, want := s.rows(rows)
	var in *onnx.Tensor
	if s.table {
		in = onnx.FromInts("x", []int64{int64(rows)}, x.index)
	} else {
		in = floatTensor("x", []int64{int64(rows), int64(op.k)}, x.v, s.k.dtype)
	}
	out, err := r.Run(ctx, map[string]*onnx.Tensor{"x": in})
	if err != nil {
		return err
	}
	y := out.Outputs["y"]
	if y == nil {
		return fmt.Errorf("no result")
	}
	got, err := y.Float64s()
	if err != nil || len(got) != len(want) {
		return fmt.Errorf("%d numbers, want %d", len(got), len(want))
	}
	var diff, sum float64
	for i, w := range want {
		diff, sum = diff+(w-got[i])*(w-got[i]), sum+w*w
	}
	if limit := s.tolerance(); !(diff <= limit*sum) {
		return fmt.Errorf("for %d rows it is off by %.2g of the result", rows, math.Sqrt(diff/sum))
	}
	return nil
}

// tolerance is the share of the power of the result that its error may have.
func (s *specimen) tolerance() float64 {
	switch {
	case s.k.accuracy == 4, s.k.form == formPlain:
		return 1e-3 // activations in int8; ONNX Runtime makes MatMulNBits of level 4 of plain blocks
	case s.k.dtype != onnx.Float || s.k.accuracy > 1:
		return 1e-3
	}
	return 1e-8
}

// sampleRows is an input: rows of numbers, or indices.
type sampleRows struct {
	v     []float32
	index []int64
}

func (s *specimen) rows(rows int) (sampleRows, []float64) {
	op := s.b.op
	var in sampleRows
	var want []float64
	for r := range rows {
		if s.table {
			n := (r*8 + 3) % op.n
			in.index = append(in.index, int64(n))
			want = append(want, s.w[n*op.k:(n+1)*op.k]...)
			continue
		}
		x := make([]float32, op.k)
		for i := range x {
			x[i] = s.b.f.stored(float32(pseudo(r*op.k + i + 11)))
		}
		in.v = append(in.v, x...)
		for n := range op.n {
			sum := 0.0
			for i := range x {
				sum += float64(x[i]) * s.w[n*op.k+i]
			}
			if s.bias != nil {
				sum += float64(s.bias[n])
			}
			want = append(want, sum)
		}
	}
	return in, want
}

func floatTensor(name string, shape []int64, v []float32, d onnx.DType) *onnx.Tensor {
	out := make([]byte, len(v)*d.Bits()/8)
	for i, x := range v {
		putFloat(out[i*d.Bits()/8:], x, d)
	}
	return &onnx.Tensor{Name: name, DType: d, Shape: shape, Data: onnx.Raw(out)}
}
