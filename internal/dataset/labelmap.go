package dataset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"path/filepath"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// isLabelMap reports whether a label names a file with a class per pixel.
func isLabelMap(text string) bool {
	ext := strings.ToLower(filepath.Ext(text))
	return ext == ".png" || ext == ".npy"
}

// readLabelMap reads a class per pixel: from a PNG the value of a gray pixel or the index of a palette's colour, from an .npy file integers
// [H,W]. name is relative to dir and may not leave it.
func readLabelMap(dir, name string, limit int64) (*onnx.Tensor, error) {
	local := filepath.FromSlash(name)
	if !filepath.IsLocal(local) {
		return nil, fmt.Errorf("file %q is not below the table's folder", name)
	}
	path := filepath.Join(dir, local)
	if strings.ToLower(filepath.Ext(path)) == ".npy" {
		return npyLabelMap(path, limit)
	}
	b, err := readfile.All(path, limit)
	if err != nil {
		return nil, err
	}
	t, err := pngLabelMap(b)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return t, nil
}

func pngLabelMap(b []byte) (*onnx.Tensor, error) {
	cfg, err := png.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if cfg.Width < 1 || cfg.Height < 1 || cfg.Width > maxPixels/8/cfg.Height {
		return nil, fmt.Errorf("the label map has %d × %d pixels; at most %d are allowed", cfg.Width, cfg.Height, maxPixels/8)
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	r := img.Bounds()
	out := make([]int64, 0, r.Dx()*r.Dy())
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			switch m := img.(type) {
			case *image.Paletted:
				out = append(out, int64(m.ColorIndexAt(x, y)))
			case *image.Gray:
				out = append(out, int64(m.GrayAt(x, y).Y))
			case *image.Gray16:
				out = append(out, int64(m.Gray16At(x, y).Y))
			default:
				return nil, fmt.Errorf("it is a picture in colour; a label map is gray or has a palette")
			}
		}
	}
	return onnx.FromInts("", []int64{int64(r.Dy()), int64(r.Dx())}, out), nil
}

func npyLabelMap(path string, limit int64) (*onnx.Tensor, error) {
	a, f, err := openNpy(path, limit)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if d := a.head.elem.dtype(); !d.IsInt() || len(a.head.shape) != 2 || a.head.bytes() > limit {
		return nil, fmt.Errorf("%s holds %v %v, want integers [H,W] of at most %d bytes", path, d, a.head.shape, limit)
	}
	rows, err := a.open()
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	b := make([]byte, 0, 8*a.rows()*a.rowShape()[0])
	buf := make([]byte, a.rowSize())
	for i := range a.rows() {
		if err := rows.read(i, buf); err != nil {
			return nil, err
		}
		t, err := a.tensor("", buf, onnx.Undefined)
		if err != nil {
			return nil, err
		}
		v, err := t.Ints()
		if err != nil {
			return nil, err
		}
		for _, x := range v {
			b = binary.LittleEndian.AppendUint64(b, uint64(x))
		}
	}
	return onnx.NewTensor("", onnx.Int64, a.head.shape, b)
}
