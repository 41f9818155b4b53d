package dataset

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func TestBoxLabels(t *testing.T) {
	dir := write(t, map[string][]byte{"t.jsonl": []byte(strings.Join([]string{
		`{"x": [1], "label": [[1, 2, 3, 4, 0], [5, 6, 7, 8, 1, 1]]}`,
		`{"x": [1], "label": []}`,
		`{"x": [1], "label": [{"bbox": [10, 20, 5, 6], "category_id": 2, "iscrowd": 1, "id": 7}, {"box": [1, 2, 3, 4], "class": "cat"}]}`,
		`{"x": [1], "label": {"width": 100, "height": 50, "boxes": [[10, 20, 30, 40, 1]]}}`,
	}, "\n"))})
	s := mustOpen(t, dir+"/t.jsonl", Options{Classes: []string{"dog", "cat"}})
	if s.Labels() != Boxes {
		t.Fatalf("labels are %v", s.Labels())
	}
	want := [][]float64{
		{1, 2, 3, 4, 0, 0, 0, 5, 6, 7, 8, 1, 1, 0}, {}, {10, 20, 15, 26, 2, 1, 0, 1, 2, 3, 4, 1, 0, 0}, {0.1, 0.4, 0.3, 0.8, 1, 0, 1},
	}
	for i := range want {
		sample, err := s.At(t.Context(), int64(i))
		if err != nil {
			t.Fatal(err)
		}
		got, err := sample.Label.Float64s()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want[i], append([]float64{}, got...)); d != "" || sample.Label.Shape[1] != BoxColumns {
			t.Errorf("row %d, shape %v: %s", i, sample.Label.Shape, d)
		}
	}
}

func TestBoxLabelErrors(t *testing.T) {
	for row, want := range map[string]string{
		`[[1, 2, 3, 4]]`:                    "want [x1, y1, x2, y2, class]",
		`[[3, 2, 1, 4, 0]]`:                 "want the corners left, top, right, bottom",
		`[[1, 2, 3, 4, 0.5]]`:               "class 0.5 is not an index",
		`[[1, 2, 3, 4, 0, 2]]`:              "the sixth number is 2",
		`[{"bbox": [1, 2, 3, 4]}]`:          "the class is missing",
		`[{"class": 1}]`:                    `want "bbox"`,
		`[{"class": "x", "box":[1,2,3,4]}]`: `"x" is not a class index`,
		`{"boxes": []}`:                     "needs width and height",
	} {
		dir := write(t, map[string][]byte{"t.jsonl": []byte(`{"x": [1], "label": ` + row + `}`)})
		if _, err := Open(dir+"/t.jsonl", Options{}); err == nil || !strings.Contains(err.Error(), "row 0: label: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", row, err, want)
		}
	}
	dir := write(t, map[string][]byte{"t.jsonl": []byte(`{"x": [1], "label": [[1, 2, 3, 4, 0]]}` + "\n" + `{"x": [1], "label": [1, 2]}`)})
	s, err := Open(dir+"/t.jsonl", Options{})
	if err == nil {
		_, err = s.At(t.Context(), 1)
	}
	if err == nil || !strings.Contains(err.Error(), "a label of kind positions among those of kind boxes") {
		t.Errorf("positions among boxes: %v", err)
	}
}

func TestLabelMaps(t *testing.T) {
	encode := func(img image.Image) []byte {
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	gray := image.NewGray(image.Rect(0, 0, 3, 2))
	palette := image.NewPaletted(image.Rect(0, 0, 3, 2), color.Palette{color.Black, color.White, color.Gray{99}})
	deep := image.NewGray16(image.Rect(0, 0, 3, 2))
	for i := range 6 {
		gray.SetGray(i%3, i/3, color.Gray{uint8(i)})
		palette.SetColorIndex(i%3, i/3, uint8(i%3))
		deep.SetGray16(i%3, i/3, color.Gray16{uint16(300 * i)})
	}
	var array bytes.Buffer
	if err := writeNpy(&array, onnx.FromInts("", []int64{2, 3}, []int64{9, 8, 7, 6, 5, 255})); err != nil {
		t.Fatal(err)
	}
	dir := write(t, map[string][]byte{
		"t.csv":    []byte("x,label\n1,gray.png\n1,palette.png\n1,deep.png\n1,array.npy\n1,colour.png\n1,../outside.png\n"),
		"gray.png": encode(gray), "palette.png": encode(palette), "deep.png": encode(deep), "array.npy": array.Bytes(),
		"colour.png": encode(image.NewNRGBA(image.Rect(0, 0, 1, 1))),
	})
	s := mustOpen(t, dir+"/t.csv", Options{})
	if s.Labels() != LabelMap {
		t.Fatalf("labels are %v", s.Labels())
	}
	for i, want := range [][]int64{{0, 1, 2, 3, 4, 5}, {0, 1, 2, 0, 1, 2}, {0, 300, 600, 900, 1200, 1500}, {9, 8, 7, 6, 5, 255}} {
		sample, err := s.At(t.Context(), int64(i))
		if err != nil {
			t.Fatal(err)
		}
		got, err := sample.Label.Ints()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got) + cmp.Diff([]int64{2, 3}, sample.Label.Shape); d != "" {
			t.Errorf("row %d: %s", i, d)
		}
	}
	for i, want := range map[int64]string{4: "a label map is gray or has a palette", 5: "is not below the table's folder"} {
		if _, err := s.At(t.Context(), i); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("row %d: error %v, want one with %q", i, err, want)
		}
	}
}
