package dataset

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const annotations = `{"info": {"year": 2026}, "annotations": [
	{"id": 1, "image_id": 9, "category_id": 18, "bbox": [2, 1, 4, 2], "iscrowd": 0, "segmentation": [[1, 2, 3]]},
	{"id": 2, "image_id": 4, "category_id": 3, "bbox": [0, 0, 8, 4], "iscrowd": 1},
	{"id": 3, "image_id": 9, "category_id": 3, "bbox": [0, 0, 4, 4]}],
	"categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
	"images": [{"id": 9, "file_name": "a.png", "width": 8, "height": 4}, {"id": 4, "file_name": "b.png", "width": 8, "height": 4}, {"id": 5, "file_name": "c.png", "width": 8, "height": 4}]}`

func TestCOCO(t *testing.T) {
	picture := pngBytes(8, 4, func(x, y int) [3]byte { return [3]byte{1, 2, 3} })
	dir := write(t, map[string][]byte{"a.json": []byte(annotations), "a.png": picture, "b.png": picture, "c.png": picture})
	for _, order := range []bool{false, true} {
		dog, car := 18.0, 3.0
		if order {
			dog, car = 1, 0
		}
		s := mustOpen(t, dir+"/a.json", Options{CategoryOrder: order})
		want := [][]float64{{0.25, 0.25, 0.75, 0.75, dog, 0, 1, 0, 0, 0.5, 1, car, 0, 1}, {0, 0, 1, 1, car, 1, 1}, {}}
		for i := range want {
			sample, err := s.At(t.Context(), int64(i))
			if err != nil {
				t.Fatal(err)
			}
			got, err := sample.Label.Float64s()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want[i], append([]float64{}, got...)); d != "" || sample.Inputs["image"] == nil {
				t.Errorf("%s: %s", sample.ID, d)
			}
		}
	}
}

func TestCOCOErrors(t *testing.T) {
	for _, tt := range []struct{ from, to, want string }{
		{`"image_id": 4`, `"image_id": 44`, "annotation 1 is about image 44, which is not listed"},
		{`"id": 4, "file_name"`, `"id": 9, "file_name"`, "images 0 and 1 have the same id 9"},
		{`[2, 1, 4, 2]`, `[2, 1, -4, 2]`, "annotation 0: x from 0.25 to -0.25"},
		{`[2, 1, 4, 2]`, `[2, 1, 4]`, "annotation 0 lacks"},
		{`"file_name": "a.png", `, ``, "image 0 lacks"},
		{annotations, `[]`, "it is not a JSON object"},
		{annotations, `{}`, "it lists no images"},
	} {
		dir := write(t, map[string][]byte{"a.json": []byte(strings.Replace(annotations, tt.from, tt.to, 1))})
		if _, err := Open(dir+"/a.json", Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.to, err, tt.want)
		}
	}
}
