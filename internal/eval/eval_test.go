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
