package dataset

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// labelTensor brings one row of a label array into the form of its kind.
func labelTensor(t *onnx.Tensor, kind LabelKind, classes []string) (*onnx.Tensor, error) {
	n, _ := t.Elements()
	shape := t.Shape
	if n == 1 && kind != ClassSet {
		shape = []int64{}
	}
	switch {
	case kind == Value:
		t, err := convert(t, onnx.Double)
		if err != nil {
			return nil, err
		}
		return reshaped(t, "", shape), nil
	case t.DType == onnx.String:
		i, err := classIndex(string(t.Str[0]), classes)
		return onnx.FromInts("", shape, []int64{i}), err
	}
	v, err := t.Ints()
	if err != nil {
		return nil, err
	}
	if kind == ClassSet {
		on := []int64{}
		for i, x := range v {
			if x != 0 {
				on = append(on, int64(i))
			}
		}
		return onnx.FromInts("", []int64{int64(len(on))}, on), nil
	}
	return onnx.FromInts("", shape, v), nil
}

// classIndex finds a class by its index or its name.
func classIndex(text string, classes []string) (int64, error) {
	text = strings.TrimSpace(text)
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i, nil
	}
	if i := slices.Index(classes, text); i >= 0 {
		return int64(i), nil
	}
	if len(classes) == 0 {
		return 0, fmt.Errorf("%q is not a class index; give indices, or the list of class names", text)
	}
	return 0, fmt.Errorf("%q is not one of the %d class names", text, len(classes))
}

// parseLabel reads a label from a table: 3, 0.5, a class name, 3|7 for several
// classes at once, [1, 2, 3] for one class per position or, with fractions, for
// several numbers to predict, or the objects in a picture (see parseBoxes).
// The name of a file with a class per pixel is told by its ending alone; the
// tensor is then nil, and the file is read when its row is.
func parseLabel(text string, classes []string) (*onnx.Tensor, LabelKind, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return nil, NoLabel, errors.New("it is missing: every sample needs one")
	case strings.HasPrefix(text, "{"):
		t, err := parseBoxes(text, classes)
		return t, Boxes, err
	case strings.HasPrefix(text, "["):
		return parseLabelList(text, classes)
	case isLabelMap(text) && !slices.Contains(classes, text):
		return nil, LabelMap, nil
	}
	if strings.Contains(text, "|") {
		set := []int64{}
		for _, part := range strings.Split(text, "|") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			i, err := classIndex(part, classes)
			if err != nil {
				return nil, NoLabel, err
			}
			set = append(set, i)
		}
		return onnx.FromInts("", []int64{int64(len(set))}, set), ClassSet, nil
	}
	if i, err := classIndex(text, classes); err == nil {
		return onnx.FromInts("", []int64{}, []int64{i}), Class, nil
	} else if v, ferr := strconv.ParseFloat(text, 64); ferr != nil || math.IsNaN(v) {
		return nil, NoLabel, err
	} else {
		t, err := onnx.FromFloat64s("", onnx.Double, []int64{}, []float64{v})
		return t, Value, err
	}
}

func parseLabelList(text string, classes []string) (*onnx.Tensor, LabelKind, error) {
	var ints []int64
	if err := json.Unmarshal([]byte(text), &ints); err == nil {
		return onnx.FromInts("", []int64{int64(len(ints))}, ints), Positions, nil
	}
	if inner := strings.TrimSpace(text[1:]); inner != "" && (inner[0] == '[' || inner[0] == '{') {
		t, err := parseBoxes(text, classes)
		return t, Boxes, err
	}
	var v []float64
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return nil, NoLabel, fmt.Errorf("%.40q is not a list of numbers", text)
	}
	t, err := onnx.FromFloat64s("", onnx.Double, []int64{int64(len(v))}, v)
	return t, Value, err
}

// mergeKind returns the kind that covers labels of kinds a and b; false if none does.
func mergeKind(a, b LabelKind) (LabelKind, bool) {
	if a > b {
		a, b = b, a
	}
	switch {
	case a == b || a == NoLabel:
		return b, true
	case a == Class && (b == Value || b == ClassSet), a == Value && b == Positions:
		return map[LabelKind]LabelKind{Value: Value, ClassSet: ClassSet, Positions: Value}[b], true
	case a == Positions && b == Boxes: // [] among lists of boxes
		return Boxes, true
	}
	return NoLabel, false
}

// asKind brings a parsed label into the form of the table's kind.
func asKind(t *onnx.Tensor, have, want LabelKind) (*onnx.Tensor, error) {
	switch {
	case have == want:
		return t, nil
	case want == Value:
		return convert(t, onnx.Double)
	case have == Positions && want == Boxes && len(t.Shape) == 1 && t.Shape[0] == 0:
		return onnx.FromFloat64s("", onnx.Double, []int64{0, BoxColumns}, nil)
	case have == Class && want == ClassSet:
		return reshaped(t, "", []int64{1}), nil
	}
	return nil, fmt.Errorf("a label of kind %v among those of kind %v", have, want)
}
