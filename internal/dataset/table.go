package dataset

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// markStride is how many rows lie between two whose offsets are remembered.
const markStride = 64

// table is a source of rows of text, from a CSV, TSV or JSON Lines file. It
// remembers where every 64th row starts: one eighth of a byte per row.
type table struct {
	size    int64 // in bytes, when it was opened
	path    string
	dir     string // of image files
	form    tableForm
	cols    []string
	first   int64 // offset of the first row
	marks   []int64
	n       int64
	limit   int64
	kind    LabelKind
	classes []string

	inputs   []boundColumn
	features []int // columns that together are the only input
	feature  Port
	label    int // columns; -1 where there is none
	slices   int
	sequence int
	file     int
	id       int
	pictured bool // the picture is all that a row has for the model
}

type boundColumn struct {
	port Port
	col  int
}

// openTable opens a table, or the labels of a folder of images.
func (s *Set) openTable(path string) error {
	file, size, err := readfile.Open(path)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer file.Close()
	f := io.NewSectionReader(file, 0, size) // what is appended meanwhile has no end
	t := &table{path: path, size: size, dir: filepath.Dir(path), limit: s.o.MaxRow, classes: s.o.Classes}
	t.form = tableForms[strings.ToLower(filepath.Ext(path))]
	if t.cols, t.first, err = t.form.header(f, t.limit); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	for i, name := range t.cols {
		if slices.Contains(t.cols[:i], name) {
			return fmt.Errorf("reading %s: two columns are named %q", path, name)
		}
	}
	if err := s.bindColumns(t); err != nil {
		return err
	}
	s.src = t
	err = t.index(f)
	if info, statErr := file.Stat(); statErr == nil && info.Size() != size {
		return fmt.Errorf("data %s: the file had %d bytes, and while it was read %d; run again when nothing writes to it", path, size, info.Size())
	}
	return err
}

// column returns the place of a column, -1 if there is none.
func (t *table) column(name string) int { return slices.Index(t.cols, name) }

// bindColumns decides what each column is for.
func (s *Set) bindColumns(t *table) error {
	t.slices, t.sequence = t.column(sliceName), t.column(sequenceName)
	t.file, t.id, t.label = t.column("file"), t.column("id"), -1
	var free []int
	for i, name := range t.cols {
		p, known := findPort(s.ports, name)
		switch {
		case known:
			t.inputs = append(t.inputs, boundColumn{p, i})
		case s.o.isLabel(name):
			if t.label >= 0 {
				return fmt.Errorf("data %s: both %q and %q could be the labels; name one", t.path, t.cols[t.label], name)
			}
			t.label = i
		case !slices.Contains([]string{sliceName, sequenceName, "file", "id", "name"}, name):
			free = append(free, i)
		}
	}
	if s.o.Label != "" && t.label < 0 {
		return fmt.Errorf("data %s has no label column %q", t.path, s.o.Label)
	}
	missing := slices.DeleteFunc(slices.Clone(s.ports), func(p Port) bool { return t.column(p.Name) >= 0 || s.carried(p.Name) })
	return s.bindRest(t, missing, free)
}

// bindRest finds what the inputs without a column of their name come from:
// image files, or the feature columns.
func (s *Set) bindRest(t *table, missing []Port, free []int) error {
	pictured := t.file >= 0 && (len(missing) > 0 || len(s.ports) == 0)
	var err error
	switch {
	case pictured && len(missing) <= 1:
		s.picture = "image"
		if len(missing) == 1 {
			s.picture, missing = missing[0].Name, nil
		}
	case pictured:
		if s.picture, err = s.picturePort(); err != nil {
			return fmt.Errorf("data %s: %w", t.path, err)
		}
		missing = slices.DeleteFunc(missing, func(p Port) bool { return p.Name == s.picture })
	case len(s.ports) == 0:
		for _, i := range free {
			t.inputs = append(t.inputs, boundColumn{Port{Name: t.cols[i]}, i})
		}
		free = nil
	case len(missing) == 1 && len(t.inputs) == 0 && len(missing[0].shape()) == 2 && len(free) > 0:
		t.feature, t.features = missing[0], free
		missing, free = nil, nil
	}
	if s.o.Preprocess != nil && s.picture == "" {
		if s.picture, err = s.picturePort(); err != nil {
			return fmt.Errorf("data %s: %w", t.path, err)
		}
	}
	t.pictured = pictured && len(t.inputs) == 0 && t.id < 0 && t.sequence < 0
	if len(missing) > 0 {
		return fmt.Errorf("data %s: no column for input %q; the columns are %s", t.path, missing[0].Name, strings.Join(t.cols, ", "))
	}
	for _, i := range free {
		s.warnings = append(s.warnings, fmt.Sprintf("data %s: column %q serves no input of the model", t.path, t.cols[i]))
	}
	return nil
}

// index counts the rows, remembers offsets, and finds out what the labels are.
func (t *table) index(f io.ReaderAt) error {
	rows := t.form.rows(f, t.first, t.cols, t.limit)
	names := newTwice()
	for {
		rec, at, err := rows.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return t.errf(t.n, "%w", err)
		}
		if t.pictured {
			names.add(rec[t.file].text)
		}
		if t.n%markStride == 0 {
			t.marks = append(t.marks, at)
		}
		if t.label >= 0 {
			_, kind, err := parseLabel(rec[t.label].text, t.classes)
			if err != nil {
				return t.errf(t.n, "label: %w", err)
			}
			merged, ok := mergeKind(t.kind, kind)
			if !ok {
				return t.errf(t.n, "a label of kind %v among those of kind %v", kind, t.kind)
			}
			t.kind = merged
		}
		t.n++
	}
	if t.n == 0 {
		return fmt.Errorf("data %s has no rows", t.path)
	}
	return t.namesOnce(f, names)
}

func (t *table) errf(row int64, format string, args ...any) error {
	return fmt.Errorf("%s: row %d: "+format, append([]any{t.path, row}, args...)...)
}

func (t *table) rows() int64       { return t.n }
func (t *table) labels() LabelKind { return t.kind }

// Close does nothing: cursors hold the open files.
func (t *table) Close() error { return nil }

// tableCursor reads on from where it is, or from the mark before a row.
type tableCursor struct {
	t    *table
	f    io.Closer
	part io.ReaderAt // what was there when the table was opened
	rows records
	at   int64 // the row that comes next
}

func (t *table) open() (cursor, error) {
	f, _, err := readfile.Open(t.path)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	return &tableCursor{t: t, f: f, part: io.NewSectionReader(f, 0, t.size)}, nil
}

// Close closes the file.
func (c *tableCursor) Close() error { return c.f.Close() }

func (c *tableCursor) fetch(i int64) (*raw, error) {
	if mark := i / markStride; c.rows == nil || i < c.at || c.at < mark*markStride {
		c.rows = c.t.form.rows(c.part, c.t.marks[mark], c.t.cols, c.t.limit)
		c.at = mark * markStride
	}
	for {
		rec, _, err := c.rows.next()
		if err == io.EOF {
			err = errors.New("the file became shorter while it was read")
		}
		if err != nil {
			return nil, c.t.errf(c.at, "%w", err)
		}
		if c.at++; c.at > i {
			r, err := c.t.row(i, rec)
			if err != nil {
				return nil, c.t.errf(i, "%w", err)
			}
			return r, nil
		}
	}
}

// row makes a sample of the cells of row i.
func (t *table) row(i int64, rec []cell) (*raw, error) {
	s := &Sample{Index: i, ID: "row " + strconv.FormatInt(i, 10), Inputs: map[string]*onnx.Tensor{}}
	r := &raw{sample: s, flat: true}
	for _, b := range t.inputs {
		v, err := rec[b.col].tensor(b.port)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", t.cols[b.col], err)
		}
		s.Inputs[b.port.Name] = v
	}
	if len(t.features) > 0 {
		v, err := t.featureRow(rec)
		if err != nil {
			return nil, err
		}
		s.Inputs[t.feature.Name] = v
	}
	if t.file >= 0 {
		file := filepath.FromSlash(rec[t.file].text)
		if !filepath.IsLocal(file) {
			return nil, fmt.Errorf("file %q is not below the table's folder", rec[t.file].text)
		}
		r.image, s.ID = filepath.Join(t.dir, file), rec[t.file].text
	}
	if t.id >= 0 {
		s.ID = rec[t.id].text
	}
	if t.sequence >= 0 {
		s.Sequence = rec[t.sequence].text
	}
	if t.slices >= 0 {
		var err error
		if s.Slices, err = rec[t.slices].words(); err != nil {
			return nil, fmt.Errorf("slices: %w", err)
		}
	}
	if t.label < 0 {
		return r, nil
	}
	label, have, err := parseLabel(rec[t.label].text, t.classes)
	if err == nil && have == LabelMap {
		label, err = readLabelMap(t.dir, strings.TrimSpace(rec[t.label].text), t.limit)
	}
	if err == nil {
		s.Label, err = asKind(label, have, t.kind)
	}
	if err != nil {
		return nil, fmt.Errorf("label: %w", err)
	}
	return r, nil
}

// featureRow puts the feature columns together in the order of the file.
func (t *table) featureRow(rec []cell) (*onnx.Tensor, error) {
	var all []string
	for _, col := range t.features {
		text := strings.TrimSpace(rec[col].text)
		if text == "" || strings.HasPrefix(text, "[") {
			return nil, fmt.Errorf("column %q: %.40q is not a number", t.cols[col], text)
		}
		all = append(all, text)
	}
	if t.feature.elem() == onnx.String {
		return onnx.FromStrings(t.feature.Name, []int64{int64(len(all))}, all), nil
	}
	v, err := numbers(all, []int64{int64(len(all))}, t.feature)
	if err != nil {
		return nil, fmt.Errorf("feature columns: %w", err)
	}
	return v, nil
}

// openImages opens a folder of images without labels, in the order of their names.
func (s *Set) openImages(dir string, names []string) error {
	slices.Sort(names)
	src := &images{dir: dir, names: names}
	s.src = src
	var err error
	s.picture, err = s.picturePort()
	if s.picture == "" {
		s.picture = "image"
	}
	return err
}

// images is a source of image files without labels.
type images struct {
	dir   string
	names []string
}

func (src *images) rows() int64           { return int64(len(src.names)) }
func (src *images) labels() LabelKind     { return NoLabel }
func (src *images) open() (cursor, error) { return src, nil }

// Close does nothing: no file stays open.
func (src *images) Close() error { return nil }

func (src *images) fetch(i int64) (*raw, error) {
	name := src.names[i]
	return &raw{sample: &Sample{Index: i, ID: name}, image: filepath.Join(src.dir, name)}, nil
}
