package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// BoxColumns is how many numbers a label of kind Boxes has per object: left, top, right, bottom, class, 1 where the object is to be
// ignored, and 1 where the corners are known to be fractions of the picture's size.
const BoxColumns = 7

// boxRow is an object as a table spells it: a list of corners and class, [x1, y1, x2, y2, class] or with a 1 behind for one to be
// ignored, or an object with the keys of COCO's annotations, whose bbox is [left, top, width, height].
type boxRow struct {
	BBox      []float64       `json:"bbox"`
	Box       []float64       `json:"box"` // left, top, right, bottom
	Category  json.RawMessage `json:"category_id"`
	Class     json.RawMessage `json:"class"`
	Crowd     flag            `json:"iscrowd"`
	Ignore    flag            `json:"ignore"`
	Difficult flag            `json:"difficult"`
}

// flag is true, false, 1 or 0.
type flag bool

// UnmarshalJSON reads either spelling.
func (f *flag) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "true", "1":
		*f = true
	case "false", "0":
		*f = false
	default:
		return fmt.Errorf("%s is neither true nor false", b)
	}
	return nil
}

// sizedBoxes is how a row may state the size that pixels refer to.
type sizedBoxes struct {
	Width, Height float64
	Boxes         []json.RawMessage
	Annotations   []json.RawMessage
}

// parseBoxes reads the objects of a row: a list of them, or {"width": W, "height": H, "boxes": [...]} in pixels of that size.
func parseBoxes(text string, classes []string) (*onnx.Tensor, error) {
	var list []json.RawMessage
	width, height := 0.0, 0.0
	if text[0] == '{' {
		var s sizedBoxes
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		if err := d.Decode(&s); err != nil {
			return nil, fmt.Errorf("not an object of width, height and boxes: %v", err)
		}
		if !(s.Width > 0) || !(s.Height > 0) {
			return nil, errors.New("an object of boxes needs width and height, in the boxes' pixels")
		}
		width, height, list = s.Width, s.Height, append(s.Boxes, s.Annotations...)
	} else if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("%.40q is not a list", text)
	}
	all := make([]float64, 0, len(list)*BoxColumns)
	for i, raw := range list {
		row, err := parseBox(raw, classes)
		if err != nil {
			return nil, fmt.Errorf("box %d: %w", i, err)
		}
		if width > 0 {
			row = [BoxColumns]float64{row[0] / width, row[1] / height, row[2] / width, row[3] / height, row[4], row[5], 1}
		}
		all = append(all, row[:]...)
	}
	return onnx.FromFloat64s("", onnx.Double, []int64{int64(len(list)), BoxColumns}, all)
}

func parseBox(raw json.RawMessage, classes []string) (row [BoxColumns]float64, err error) {
	if raw[0] == '[' {
		var v []float64
		if err := json.Unmarshal(raw, &v); err != nil || len(v) < 5 || len(v) > 6 {
			return row, fmt.Errorf("%.60s: want [x1, y1, x2, y2, class], or a 1 behind for one to be ignored", raw)
		}
		copy(row[:], v)
		return row, checkBox(row)
	}
	var b boxRow
	if err := json.Unmarshal(raw, &b); err != nil {
		return row, fmt.Errorf("%.60s: %v", raw, err)
	}
	class := b.Class
	if class == nil {
		class = b.Category
	}
	switch {
	case len(b.Box) == 4 && b.BBox == nil:
		copy(row[:], b.Box)
	case len(b.BBox) == 4 && b.Box == nil:
		row[0], row[1], row[2], row[3] = b.BBox[0], b.BBox[1], b.BBox[0]+b.BBox[2], b.BBox[1]+b.BBox[3]
	default:
		return row, errors.New(`want "bbox": [left, top, width, height] or "box": [left, top, right, bottom]`)
	}
	if class == nil {
		return row, errors.New(`the class is missing: want "class" or "category_id"`)
	}
	var name string
	if json.Unmarshal(class, &name) != nil {
		name = string(class)
	}
	index, err := classIndex(name, classes)
	if err != nil {
		return row, err
	}
	row[4] = float64(index)
	if b.Crowd || b.Ignore || b.Difficult {
		row[5] = 1
	}
	return row, checkBox(row)
}

// checkBox refuses what is no box: lists of width and height instead of corners among them, where these show.
func checkBox(row [BoxColumns]float64) error {
	switch {
	case row[2] < row[0] || row[3] < row[1]:
		return fmt.Errorf("x from %v to %v, y from %v to %v: want the corners left, top, right, bottom", row[0], row[2], row[1], row[3])
	case row[4] != math.Trunc(row[4]) || row[4] < 0:
		return fmt.Errorf("class %v is not an index", row[4])
	case row[5] != 0 && row[5] != 1:
		return fmt.Errorf("the sixth number is %v, want 1 for an object to be ignored, else 0", row[5])
	}
	return nil
}
