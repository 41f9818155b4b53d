package dataset

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Names of the arrays and columns that are not inputs.
const (
	sliceName    = "slices"
	sequenceName = "sequence"
)

// isLabel reports whether name is the label array or column under o.
func (o *Options) isLabel(name string) bool {
	if o.Label != "" {
		return name == o.Label
	}
	return name == "labels" || name == "label"
}

// arrays is a source of NumPy arrays with a common first axis.
type arrays struct {
	files    []io.Closer
	all      []*array
	n        int64
	inputs   []boundArray
	label    *array
	kind     LabelKind
	slices   *array
	sequence *array
	classes  []string
}

type boundArray struct {
	port Port
	*array
}

// openNpyFiles opens one array per file, each named after its file.
func (s *Set) openNpyFiles(paths []string) error {
	src := &arrays{}
	s.src = src
	var list []*array
	for _, path := range paths {
		a, f, err := openNpy(path, s.o.MaxRow)
		if err != nil {
			return fmt.Errorf("data: %w", err)
		}
		src.files = append(src.files, f)
		if slices.ContainsFunc(list, func(b *array) bool { return b.name == a.name }) {
			return fmt.Errorf("data: two files are named %s.npy", a.name)
		}
		list = append(list, a)
	}
	return s.bindArrays(src, strings.Join(paths, ","), list)
}

func (s *Set) openArrays(spec string, list []*array, f *os.File) error {
	src := &arrays{files: []io.Closer{f}}
	s.src = src
	return s.bindArrays(src, spec, list)
}

// bindArrays decides what each array is for.
func (s *Set) bindArrays(src *arrays, spec string, list []*array) error {
	src.all, src.classes = list, s.o.Classes
	var free []*array
	for _, a := range list {
		p, known := findPort(s.ports, a.name)
		switch {
		case known:
			src.inputs = append(src.inputs, boundArray{p, a})
		case s.o.isLabel(a.name):
			if src.label != nil {
				return fmt.Errorf("data %s: both %q and %q could be the labels; name one", spec, src.label.name, a.name)
			}
			src.label = a
		case a.name == sliceName:
			src.slices = a
		case a.name == sequenceName:
			src.sequence = a
		case len(s.ports) == 0:
			src.inputs = append(src.inputs, boundArray{Port{Name: a.name}, a})
		default:
			free = append(free, a)
		}
	}
	if s.o.Label != "" && src.label == nil {
		return fmt.Errorf("data %s has no label array %q", spec, s.o.Label)
	}
	if len(s.ports) == 1 && len(src.inputs) == 0 && len(free) == 1 {
		src.inputs, free = []boundArray{{s.ports[0], free[0]}}, nil
	}
	for _, a := range free {
		s.warnings = append(s.warnings, fmt.Sprintf("data %s: array %q serves no input of the model", spec, a.name))
	}
	if err := s.checkArrays(src, spec, free); err != nil {
		return err
	}
	if s.o.Preprocess != nil {
		var err error
		if s.picture, err = s.picturePort(); err != nil {
			return err
		}
	}
	if err := s.fitArrays(src, spec); err != nil {
		return err
	}
	return src.settle(spec, s.o.Shuffle, s.o.TempDir)
}

// checkArrays checks that every input has an array.
func (s *Set) checkArrays(src *arrays, spec string, free []*array) error {
	if len(src.inputs) == 0 {
		return fmt.Errorf("data %s: no array is named after an input of the model (%s); it has %s",
			spec, portNames(s.ports), arrayNames(src.all))
	}
	for _, p := range s.ports {
		bound := slices.ContainsFunc(src.inputs, func(b boundArray) bool { return b.port.Name == p.Name })
		if !bound && !s.carried(p.Name) {
			return fmt.Errorf("data %s: no array for input %q; it has %s", spec, p.Name, arrayNames(src.all))
		}
	}
	return nil
}

// fitArrays checks, before any row is read, that rows fit the inputs and that
// what is one sample fits into memory.
func (s *Set) fitArrays(src *arrays, spec string) error {
	var size int64
	for _, b := range src.inputs {
		if b.port.Name != s.picture {
			if _, _, err := fitRow(b.port, b.rowShape(), false); err != nil {
				return fmt.Errorf("data %s: input %q: %w", spec, b.port.Name, err)
			}
		}
		size += b.memory(b.port.elem())
	}
	for _, a := range []*array{src.label, src.slices, src.sequence} {
		if a != nil {
			size += a.memory(onnx.Double)
		}
	}
	if size > s.o.MaxRow {
		return fmt.Errorf("data %s: one sample takes %d bytes of memory, more than the limit of %d, in the arrays %s; is the first axis the samples?",
			spec, size, s.o.MaxRow, arrayNames(src.used()))
	}
	return nil
}

func arrayNames(list []*array) string {
	names := make([]string, len(list))
	for i, a := range list {
		names[i] = fmt.Sprintf("%q %v", a.name, a.head.shape)
	}
	return strings.Join(names, ", ")
}

// settle compares the numbers of rows, and copies what has to be read at random.
func (src *arrays) settle(spec string, shuffle bool, dir string) error {
	used := src.used()
	for _, a := range used {
		switch {
		case a.constant():
		case src.n == 0:
			src.n = a.rows()
		case src.n != a.rows():
			return fmt.Errorf("data %s: array %q has %d samples where others have %d", spec, a.name, a.rows(), src.n)
		}
	}
	src.n = max(src.n, 1)
	for _, a := range used {
		if shuffle || a.head.fortran && a.stream != nil && len(a.head.shape) > 1 {
			if err := a.random(dir); err != nil {
				return err
			}
		}
	}
	if src.label == nil {
		return nil
	}
	var err error
	src.kind, err = labelKind(src.label)
	return err
}

func (src *arrays) used() []*array {
	var out []*array
	for _, b := range src.inputs {
		out = append(out, b.array)
	}
	for _, a := range []*array{src.label, src.slices, src.sequence} {
		if a != nil {
			out = append(out, a)
		}
	}
	return out
}

// labelKind tells what an array of labels holds. A trailing axis of one counts
// as none, and booleans say which classes apply.
func labelKind(a *array) (LabelKind, error) {
	n, _ := onnx.ElementCount(a.rowShape())
	switch d := a.head.elem.dtype(); {
	case d == onnx.Bool && n > 1:
		return ClassSet, nil
	case d.IsFloat():
		return Value, nil
	case (d == onnx.String || d.IsInt() || d == onnx.Bool) && n == 1:
		return Class, nil
	case d.IsInt():
		return Positions, nil
	default:
		return NoLabel, fmt.Errorf("%s: %v values are not labels; use class indices, numbers or class names", a.path, d)
	}
}

func (src *arrays) rows() int64       { return src.n }
func (src *arrays) labels() LabelKind { return src.kind }

// Close closes the files and removes temporary copies.
func (src *arrays) Close() error {
	var errs []error
	for _, a := range src.all {
		errs = append(errs, a.close())
	}
	for _, f := range src.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// arrayCursor reads the rows of all arrays side by side.
type arrayCursor struct {
	src     *arrays
	readers map[*array]rowReader
}

func (src *arrays) open() (cursor, error) {
	c := &arrayCursor{src, map[*array]rowReader{}}
	for _, a := range src.used() {
		r, err := a.open()
		if err != nil {
			c.Close()
			return nil, err
		}
		c.readers[a] = r
	}
	return c, nil
}

// Close ends the decompression of the arrays.
func (c *arrayCursor) Close() error {
	var errs []error
	for _, r := range c.readers {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

func (c *arrayCursor) fetch(i int64) (*raw, error) {
	s := &Sample{Index: i, ID: "row " + strconv.FormatInt(i, 10), Inputs: map[string]*onnx.Tensor{}}
	for _, b := range c.src.inputs {
		t, err := c.row(b.array, i, b.port.elem())
		if err != nil {
			return nil, err
		}
		s.Inputs[b.port.Name] = t
	}
	if err := c.describe(s, i); err != nil {
		return nil, err
	}
	return &raw{sample: s}, nil
}

// describe fills in label, slices and sequence.
func (c *arrayCursor) describe(s *Sample, i int64) error {
	if a := c.src.label; a != nil {
		t, err := c.row(a, i, onnx.Undefined)
		if err == nil {
			s.Label, err = labelTensor(t, c.src.kind, c.src.classes)
		}
		if err != nil {
			return fmt.Errorf("%s: label: %w", s.ID, err)
		}
	}
	var err error
	if s.Slices, err = c.texts(c.src.slices, i); err != nil {
		return err
	}
	seq, err := c.texts(c.src.sequence, i)
	s.Sequence = strings.Join(seq, " ")
	return err
}

func (c *arrayCursor) row(a *array, i int64, raw onnx.DType) (*onnx.Tensor, error) {
	if a.constant() {
		i = 0
	}
	b := make([]byte, a.rowSize())
	if err := c.readers[a].read(i, b); err != nil {
		return nil, err
	}
	return a.tensor(a.name, b, raw)
}

// texts returns row i of an array of strings or integers as strings, the empty
// ones left out; nil for no array.
func (c *arrayCursor) texts(a *array, i int64) ([]string, error) {
	if a == nil {
		return nil, nil
	}
	t, err := c.row(a, i, onnx.Undefined)
	if err != nil {
		return nil, err
	}
	if t.DType == onnx.String {
		v, err := t.Strings()
		return slices.DeleteFunc(v, func(s string) bool { return s == "" }), err
	}
	v, err := t.Ints()
	if err != nil {
		return nil, fmt.Errorf("%s: want strings or integers", a.path)
	}
	out := make([]string, len(v))
	for i, x := range v {
		out[i] = strconv.FormatInt(x, 10)
	}
	return out, nil
}
