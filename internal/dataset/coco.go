package dataset

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// coco is a source of pictures with boxes, from an annotation file of COCO: {"images": [{id, file_name, width, height}], "annotations":
// [{image_id, bbox: [left, top, width, height], category_id, iscrowd}], "categories": [{id}]}. The file's annotations come in any order,
// so that all of them are kept: 56 bytes per box. Masks and what else is in the file are read over.
type coco struct {
	path     string
	dir      string
	pictures []cocoImage
}

type cocoImage struct {
	ID     int64   `json:"id"`
	File   string  `json:"file_name"`
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
	boxes  []float64
}

type cocoAnnotation struct {
	Image    *int64    `json:"image_id"`
	Category *int64    `json:"category_id"`
	BBox     []float64 `json:"bbox"`
	Crowd    flag      `json:"iscrowd"`
	Ignore   flag      `json:"ignore"`
}

type cocoCategory struct {
	ID int64 `json:"id"`
}

// cocoFile is the file as it is read, part by part.
type cocoFile struct {
	images      []cocoImage
	annotations []cocoAnnotation
	categories  []int64
}

// openCOCO opens an annotation file and takes the pictures to lie beside it.
func (s *Set) openCOCO(path string) error {
	f, _, err := readfile.Open(path)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer f.Close()
	var file cocoFile
	if err := file.read(json.NewDecoder(bufio.NewReaderSize(f, 1<<16))); err != nil {
		return fmt.Errorf("reading %s as annotations of COCO: %w", path, err)
	}
	src := &coco{path: path, dir: filepath.Dir(path), pictures: file.images}
	if err := src.assign(&file, s.o.CategoryOrder); err != nil {
		return fmt.Errorf("data %s: %w", path, err)
	}
	s.src = src
	if s.picture, err = s.picturePort(); err == nil && s.picture == "" {
		s.picture = "image"
	}
	return err
}

func (c *cocoFile) read(d *json.Decoder) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("it is not a JSON object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		switch key {
		case "images":
			c.images, err = readElements[cocoImage](d)
		case "annotations":
			c.annotations, err = readElements[cocoAnnotation](d)
		case "categories":
			var all []cocoCategory
			all, err = readElements[cocoCategory](d)
			for _, k := range all {
				c.categories = append(c.categories, k.ID)
			}
		default:
			var skip json.RawMessage
			err = d.Decode(&skip)
		}
		if err != nil {
			return fmt.Errorf("%v: %w", key, err)
		}
	}
	if len(c.images) == 0 {
		return errors.New("it lists no images")
	}
	return nil
}

// readElements decodes a list one element at a time, so that what is not kept is never held together.
func readElements[T any](d *json.Decoder) ([]T, error) {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, errors.New("it is not a list")
	}
	var out []T
	for d.More() {
		var v T
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("element %d: %w", len(out), err)
		}
		out = append(out, v)
	}
	_, err := d.Token()
	return out, err
}

// assign gives each picture its boxes. With order, a class is the place of its category among the file's, by id; else it is the id.
func (src *coco) assign(file *cocoFile, order bool) error {
	at := map[int64]int{}
	for i, m := range src.pictures {
		if first, ok := at[m.ID]; ok {
			return fmt.Errorf("images %d and %d have the same id %d", first, i, m.ID)
		}
		if m.File == "" || !(m.Width > 0) || !(m.Height > 0) {
			return fmt.Errorf("image %d lacks file_name, width or height", i)
		}
		at[m.ID] = i
	}
	slices.Sort(file.categories)
	if order && len(file.categories) == 0 {
		return errors.New("classes are to be numbered in the order of categories, but it lists none")
	}
	for i, a := range file.annotations {
		if a.Image == nil || a.Category == nil || len(a.BBox) != 4 {
			return fmt.Errorf("annotation %d lacks image_id, category_id or a bbox of four numbers", i)
		}
		k, ok := at[*a.Image]
		if !ok {
			return fmt.Errorf("annotation %d is about image %d, which is not listed", i, *a.Image)
		}
		class := *a.Category
		if order {
			place, ok := slices.BinarySearch(file.categories, class)
			if !ok {
				return fmt.Errorf("annotation %d has category %d, which is not listed", i, class)
			}
			class = int64(place)
		}
		m := &src.pictures[k]
		row := [BoxColumns]float64{
			a.BBox[0] / m.Width, a.BBox[1] / m.Height, (a.BBox[0] + a.BBox[2]) / m.Width, (a.BBox[1] + a.BBox[3]) / m.Height, float64(class), 0, 1,
		}
		if a.Crowd || a.Ignore {
			row[5] = 1
		}
		if err := checkBox(row); err != nil {
			return fmt.Errorf("annotation %d: %w", i, err)
		}
		m.boxes = append(m.boxes, row[:]...)
	}
	return nil
}

func (src *coco) rows() int64           { return int64(len(src.pictures)) }
func (src *coco) labels() LabelKind     { return Boxes }
func (src *coco) open() (cursor, error) { return src, nil }

// Close does nothing: no file stays open.
func (src *coco) Close() error { return nil }

func (src *coco) fetch(i int64) (*raw, error) {
	m := &src.pictures[i]
	file := filepath.FromSlash(m.File)
	if !filepath.IsLocal(file) {
		return nil, fmt.Errorf("%s: file %q is not below its folder", src.path, m.File)
	}
	label, err := onnx.FromFloat64s("", onnx.Double, []int64{int64(len(m.boxes) / BoxColumns), BoxColumns}, m.boxes)
	if err != nil {
		return nil, err
	}
	return &raw{sample: &Sample{Index: i, ID: m.File, Label: label}, image: filepath.Join(src.dir, file)}, nil
}
