package produce

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// findUndefined notes the outputs that are NaN in every element of every sample, at
// every level: so would those of most wrong results be.
func (ref *reference) findUndefined() {
	defined, all := map[string]bool{}, map[string]bool{}
	for _, list := range ref.outputs {
		for _, sample := range list {
			for name, t := range sample {
				all[name] = true
				defined[name] = defined[name] || !undefined(t)
			}
		}
	}
	for name := range all {
		if !defined[name] {
			ref.undefined = append(ref.undefined, name)
		}
	}
	slices.Sort(ref.undefined)
	ref.empty = len(all) > 0 && len(ref.undefined) == len(all)
}

// tells returns an error where the reference says nothing of a result.
func (ref *reference) tells() error {
	if ref.empty {
		return fmt.Errorf("running the original: every output is NaN on every sample (%s), as those of a wrong result would be; give other inputs with --data", strings.Join(ref.undefined, ", "))
	}
	return nil
}

// glance is how many elements are looked at before a whole tensor is converted.
const glance = 64

// undefined reports whether t has elements and all are NaN.
func undefined(t *onnx.Tensor) bool {
	n, ok := t.Elements()
	if !ok || n == 0 || !t.DType.IsFloat() || t.DType.Bits()%8 != 0 {
		return false
	}
	b, err := t.Bytes()
	if err != nil {
		return false
	}
	size := min(n, glance)
	first := &onnx.Tensor{DType: t.DType, Shape: []int64{size}, Data: onnx.Raw(b[:size*int64(t.DType.Bits()/8)])}
	return onlyNaN(first) && (size == n || onlyNaN(t))
}

func onlyNaN(t *onnx.Tensor) bool {
	v, err := t.Floats()
	return err == nil && !slices.ContainsFunc(v, func(x float32) bool { return !math.IsNaN(float64(x)) })
}
