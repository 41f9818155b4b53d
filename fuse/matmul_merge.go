package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// matmulMerge makes one product of those of one input with constant matrices, as
// query, key and value of an attention are, and splits its columns. On CPUs the
// copies of Split make it slower (0.91 to 1.0 times as fast as measured on ONNX
// Runtime); on GPUs it launches fewer kernels.
func matmulMerge(t *Target) rewrite.Rule {
	const name = "matmul-merge"
	return rewrite.Rule{
		Name: name, Doc: "makes one MatMul or Gemm and a Split of those that read the same input, on GPUs; elsewhere if asked for by name",
		Pattern: "MatMul(x, _); Gemm(x, _, ?b)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			same := func(n *onnx.Node) bool { return n.Op == m.Root.Op && n.Domain == m.Root.Domain && joinable(n, m.Root) }
			products := siblings(m, same)
			if len(products) < 2 {
				return rewrite.ErrNotHere
			}
			ends, biases, err := biasesOf(products)
			if err != nil {
				return err
			}
			if !t.asked(name) && !t.GPU() {
				return rewrite.Decline("%d products of one input stay apart: merging them, also those of query, key and value, is off on %s because splitting the result costs more than it gains there, and engines look for them in attention; ask for it by name", len(products), t.name())
			}
			return mergeProducts(m, p, products, ends, biases)
		},
	}
}

// joinable reports whether n multiplies its input by a constant matrix in the
// way that first does.
func joinable(n, first *onnx.Node) bool {
	if n.Input(1) == nil || first.Input(1) == nil || !sameAttrs(n, first) || n.Int("transA", 0) != 0 {
		return false
	}
	w, v := n.Input(1).Constant(), first.Input(1).Constant()
	if w == nil || v == nil || len(w.Shape) != 2 || len(v.Shape) != 2 || w.DType != v.DType || !isReal(w.DType) {
		return false
	}
	k := 0
	if n.Int("transB", 0) != 0 {
		k = 1
	}
	return w.Shape[k] == v.Shape[k]
}

// biasesOf returns the nodes that give the finished products, and what is added
// in each: the bias of each Gemm, or the constant row that is all that reads
// each MatMul; nil where no product has one.
func biasesOf(products []*onnx.Node) (ends []*onnx.Node, biases []*onnx.Tensor, err error) {
	for _, n := range products {
		if n.Is("Gemm") {
			if n.Input(2) != nil {
				b, err := constant(n.Input(2), "the bias")
				if err != nil {
					return nil, nil, err
				}
				biases = append(biases, b)
			}
			ends = append(ends, n)
			continue
		}
		if add, row := addedRow(n); row != nil {
			ends, biases = append(ends, add), append(biases, row)
		}
	}
	if !products[0].Is("Gemm") && len(biases) < len(products) {
		return products, nil, nil // those that are added to stay as they are
	}
	if len(biases) != 0 && len(biases) != len(products) {
		return nil, nil, rewrite.Decline("%d of %d products have a bias", len(biases), len(products))
	}
	return ends, biases, nil
}

// addedRow returns the Add of a constant row that is all that reads MatMul n, and the row.
func addedRow(n *onnx.Node) (*onnx.Node, *onnx.Tensor) {
	uses := n.Output(0).Uses()
	if n.Output(0).IsOutput() || len(uses) != 1 || !uses[0].Node.Is("Add") || uses[0].Node.Graph() != n.Graph() {
		return nil, nil
	}
	row := uses[0].Node.Input(1 - uses[0].Index).Constant()
	if row == nil || len(row.Shape) != 1 || row.Shape[0] != n.Input(1).Constant().Shape[1] {
		return nil, nil
	}
	return uses[0].Node, row
}

func mergeProducts(m *rewrite.Match, p *rewrite.Patch, products, ends []*onnx.Node, biases []*onnx.Tensor) error {
	var weights []*onnx.Tensor
	var sizes []int64
	columns := 1
	if m.Root.Int("transB", 0) != 0 {
		columns = 0
	}
	for _, n := range products {
		w := n.Input(1).Constant()
		weights, sizes = append(weights, w), append(sizes, w.Shape[columns])
	}
	w, err := joined(weights, columns)
	if err != nil {
		return err
	}
	in := []*onnx.Value{m.Value("x"), p.Const(w)}
	if biases == nil {
		return splitInto(m, p, p.Add(m.Root.Op, in, m.Root.Attrs...), -1, sizes, ends)
	}
	rows := make([]*onnx.Tensor, len(biases))
	for i, b := range biases {
		if rows[i], err = rowBias(b, 1, sizes[i]); err != nil {
			return err
		}
	}
	b, err := concatFloats(w.Name+"_bias", w.DType, rows)
	if err != nil {
		return err
	}
	if m.Root.Is("Gemm") {
		return splitInto(m, p, p.Add("Gemm", append(in, p.Const(b)), m.Root.Attrs...), -1, sizes, ends)
	}
	y := p.Add("MatMul", in, m.Root.Attrs...)
	return splitInto(m, p, p.Add("Add", []*onnx.Value{y, p.Const(b)}), -1, sizes, ends)
}

// joined returns matrices side by side (axis 1) or one above the other (axis 0).
func joined(list []*onnx.Tensor, axis int) (*onnx.Tensor, error) {
	if axis == 0 {
		return stacked(list)
	}
	rows, columns := list[0].Shape[0], int64(0)
	data := make([][]byte, len(list))
	for i, t := range list {
		var err error
		if data[i], err = t.Bytes(); err != nil {
			return nil, err
		}
		columns += t.Shape[1]
	}
	var out []byte
	for r := range rows {
		for i, t := range list {
			width := t.Shape[1] * int64(t.DType.Bits()/8)
			out = append(out, data[i][r*width:(r+1)*width]...)
		}
	}
	return onnx.NewTensor(list[0].Name, list[0].DType, []int64{rows, columns}, out)
}
