package dataset

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// WriteNpz writes tensors as an uncompressed .npz archive, by name. Types that NumPy lacks (bfloat16, float8, 4 bits) are written as
// float32; text as Unicode strings.
func WriteNpz(w io.Writer, arrays map[string]*onnx.Tensor) error {
	z := zip.NewWriter(w)
	names := make([]string, 0, len(arrays))
	for name := range arrays {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		e, err := z.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: zip.Store})
		if err == nil {
			err = writeNpy(e, arrays[name])
		}
		if err != nil {
			return fmt.Errorf("array %q: %w", name, err)
		}
	}
	return z.Close()
}

// descrs are NumPy's names of the element types.
var descrs = map[onnx.DType]string{
	onnx.Bool: "|b1", onnx.Int8: "|i1", onnx.Uint8: "|u1", onnx.Int16: "<i2", onnx.Uint16: "<u2", onnx.Int32: "<i4", onnx.Uint32: "<u4",
	onnx.Int64: "<i8", onnx.Uint64: "<u8", onnx.Float16: "<f2", onnx.Float: "<f4", onnx.Double: "<f8", onnx.Complex64: "<c8", onnx.Complex128: "<c16",
}

func writeNpy(w io.Writer, t *onnx.Tensor) error {
	if t.DType == onnx.String {
		return writeNpyText(w, t)
	}
	descr, ok := descrs[t.DType]
	if !ok {
		v, err := convert(t, onnx.Float)
		if err != nil {
			return err
		}
		t, descr = v, descrs[onnx.Float]
	}
	b, err := t.Bytes()
	if err != nil {
		return err
	}
	if err := writeNpyHeader(w, descr, t.Shape); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func writeNpyText(w io.Writer, t *onnx.Tensor) error {
	width := 1
	for _, s := range t.Str {
		width = max(width, utf8.RuneCount(s))
	}
	if err := writeNpyHeader(w, fmt.Sprintf("<U%d", width), t.Shape); err != nil {
		return err
	}
	var b []byte
	for _, s := range t.Str {
		n := 0
		for _, r := range string(s) {
			b = binary.LittleEndian.AppendUint32(b, uint32(r))
			n++
		}
		b = append(b, make([]byte, 4*(width-n))...)
	}
	_, err := w.Write(b)
	return err
}

// writeNpyHeader writes the header of version 1 of the format, padded so that the elements begin at a multiple of 64 bytes.
func writeNpyHeader(w io.Writer, descr string, shape []int64) error {
	var dims strings.Builder
	for _, d := range shape {
		fmt.Fprintf(&dims, "%d, ", d)
	}
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, strings.TrimSuffix(dims.String(), " "))
	text += strings.Repeat(" ", 63-(10+len(text))%64) + "\n"
	head := append([]byte("\x93NUMPY\x01\x00"), byte(len(text)), byte(len(text)>>8))
	_, err := w.Write(append(head, text...))
	return err
}
