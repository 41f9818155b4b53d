package eval

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// node makes a node with n outputs and no attached inputs.
func node(op string, attrs ...*onnx.Attr) *onnx.Node {
	n := onnx.NewNode(op, nil, "y")
	n.Attrs = attrs
	return n
}

func TestUnsupported(t *testing.T) {
	x := onnx.FromFloats("x", []int64{1}, []float32{1})
	for name, tc := range map[string]struct {
		n       *onnx.Node
		version int64
	}{
		"operator":  {node("NoSuchOperator"), 17},
		"version":   {node("Add"), 1000},
		"attribute": {node("Transpose", onnx.IntAttr("no_such", 1)), 17},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Node(tc.n, tc.version, []*onnx.Tensor{x, x}, Options{})
			var u *UnsupportedError
			if !errors.As(err, &u) {
				t.Fatalf("error is %v, want an UnsupportedError", err)
			}
			if diff := cmp.Diff(tc.n.Op, u.Op); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	x := onnx.FromFloats("x", []int64{1000}, make([]float32, 1000))
	if _, err := Node(node("Add"), 17, []*onnx.Tensor{x, x}, Options{MaxBytes: 3999}); err == nil {
		t.Error("a result of 4000 bytes passes a limit of 3999")
	}
	if _, err := Node(node("Add"), 17, []*onnx.Tensor{x, x}, Options{MaxBytes: 4000}); err != nil {
		t.Error(err)
	}
}

func TestMaxWork(t *testing.T) {
	x := onnx.FromFloats("x", []int64{1, 2, 3, 3}, make([]float32, 18))
	w := onnx.FromFloats("w", []int64{4, 2, 2, 2}, make([]float32, 32))
	const work = 4 * 2 * 2 * 2 * 2 * 2 // outputs by filter elements
	_, err := Node(node("Conv"), 17, []*onnx.Tensor{x, w}, Options{MaxWork: work - 1})
	var u *UnsupportedError
	if !errors.As(err, &u) {
		t.Errorf("%d multiplications pass a limit of %d: %v", work, work-1, err)
	}
	if _, err := Node(node("Conv"), 17, []*onnx.Tensor{x, w}, Options{MaxWork: work}); err != nil {
		t.Error(err)
	}
}

// TestHostile: sizes that no machine has are errors, at once.
func TestHostile(t *testing.T) {
	x := onnx.FromFloats("x", []int64{1, 1, 2, 2}, make([]float32, 4))
	empty := onnx.FromFloats("x", []int64{0, 1, 2, 2}, nil)
	ints := func(v ...int64) *onnx.Tensor { return onnx.FromInts("i", []int64{int64(len(v))}, v) }
	const huge = 1 << 39
	for name, tc := range map[string]struct {
		n  *onnx.Node
		in []*onnx.Tensor
	}{
		"resize":       {node("Resize"), []*onnx.Tensor{x, nil, nil, ints(1, 1, huge, 2)}},
		"tile":         {node("Tile"), []*onnx.Tensor{x, ints(huge, huge, 1, 1)}},
		"pad":          {node("Pad"), []*onnx.Tensor{x, ints(0, 0, huge, 0, 0, 0, 0, 0)}},
		"expand":       {node("Expand"), []*onnx.Tensor{x, ints(huge, 1, 2, 2)}},
		"one hot":      {node("OneHot"), []*onnx.Tensor{ints(1), ints(huge), ints(0, 1)}},
		"pool":         {node("MaxPool", onnx.IntsAttr("kernel_shape", huge, huge), onnx.IntsAttr("pads", 1<<31, 1<<31, 1<<31, 1<<31)), []*onnx.Tensor{x}},
		"average pool": {node("AveragePool", onnx.IntsAttr("kernel_shape", 1<<31, 1), onnx.IntsAttr("pads", 1<<31, 0, 1<<31, 0)), []*onnx.Tensor{x}},
		"transposed": {node("ConvTranspose", onnx.IntsAttr("output_shape", huge, huge)),
			[]*onnx.Tensor{x, x}},
		"split": {node("Split"), []*onnx.Tensor{x, ints(huge, -huge)}},
		"range": {node("Range"), []*onnx.Tensor{onnx.FromInts("a", []int64{}, []int64{0}), onnx.FromInts("b", []int64{}, []int64{1 << 60}), onnx.FromInts("c", []int64{}, []int64{1})}},
	} {
		if _, err := Node(tc.n, 17, tc.in, Options{MaxBytes: 1 << 20}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if out, err := Node(node("Resize"), 17, []*onnx.Tensor{empty, nil, nil, ints(0, 1, huge, 2)}, Options{MaxBytes: 1 << 20}); err == nil && out[0].Shape[0] != 0 {
		t.Error("an empty input is resized to something")
	}
}
