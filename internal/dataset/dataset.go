package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// maxRow is the default of Options.MaxRow.
const maxRow = 1 << 30

// Options says what the data is for and which part of it to use.
type Options struct {
	Inputs  []Port           // the model's inputs; empty: the data's own names and types
	Outputs []Port           // the model's outputs, which name the expected outputs of test data
	Dims    map[string]int64 // sizes of symbolic dimensions

	Label         string            // name of the label array or column; "": labels or label
	CategoryOrder bool              // number the classes of COCO annotations in the order of its categories, not by their ids
	Classes       []string          // class names in order of their index, for labels that are names
	Preprocess    *Preprocess       // what to do with pictures; nil: nothing
	State         map[string]string // output → input that it feeds in the next sample

	Shuffle bool   // visit the rows in an order drawn from Seed
	Seed    uint64 // of the order and of synthetic data
	Skip    int64  // samples to leave out at the start, after shuffling
	Limit   int64  // most samples to use; 0: all

	Synthetic Synthetic // distribution of synthetic data

	Sum     bool   // compute Sample.Sum
	Workers int    // pictures prepared at once; 0: the number of CPUs, at most 8
	MaxRow  int64  // most bytes of one sample; 0: 1 GiB
	TempDir string // for copies of compressed arrays that are read at random; "": the system's
}

// Set is an open data set. Its methods are safe for concurrent use; the
// iterators that they return are each for one goroutine.
type Set struct {
	src      source
	o        Options
	ports    []Port // resolved
	picture  string // input that pictures go to, "" if there are none
	order    order
	first    int64 // place of the first sample in order
	len      int64
	batch    int
	warnings []string
}

// source is one form of data. Its rows are in the files' own order.
type source interface {
	rows() int64
	labels() LabelKind
	open() (cursor, error)
	io.Closer
}

// cursor reads rows; it is for one goroutine.
type cursor interface {
	fetch(i int64) (*raw, error)
	io.Closer
}

// raw is a row as it is stored: what is left to do may be done concurrently.
type raw struct {
	sample *Sample // Inputs as stored
	image  string  // file of the picture, "" if there is none
	flat   bool    // lists may fill an input of any shape
	exact  bool    // inputs have their shape already
}

// Open opens the data that spec names: an .npz file; a folder or a comma
// separated list of .npy files; a folder of images, with labels.tsv or
// labels.csv or without; a .csv, .tsv or .jsonl table; a .json file of COCO
// annotations beside its pictures; a test data folder of
// ONNX or a folder of several; or synthetic[:N].
func Open(spec string, o Options) (*Set, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Set{o: o, ports: resolvePorts(o.Inputs, o.Dims)}
	err := s.open(spec)
	if err == nil {
		err = s.settle(spec)
	}
	if err != nil {
		if s.src != nil {
			s.src.Close()
		}
		return nil, err
	}
	return s, nil
}

func (o *Options) check() error {
	switch {
	case o.Skip < 0 || o.Limit < 0 || o.MaxRow < 0 || o.Workers < 0:
		return errors.New("data set: skip, limit, workers and the row limit must not be negative")
	case o.Shuffle && len(o.State) > 0:
		return errors.New("data set: samples that carry state cannot be shuffled; leave out one of the two")
	}
	for out, in := range o.State {
		if _, ok := findPort(o.Inputs, in); !ok && len(o.Inputs) > 0 {
			return fmt.Errorf("state %s=%s: the model has no input %q; it has %s", out, in, in, portNames(o.Inputs))
		}
		if _, ok := findPort(o.Outputs, out); !ok && len(o.Outputs) > 0 {
			return fmt.Errorf("state %s=%s: the model has no output %q; it has %s", out, in, out, portNames(o.Outputs))
		}
	}
	if o.MaxRow == 0 {
		o.MaxRow = maxRow
	}
	if o.Workers == 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), 8)
	}
	return nil
}

func portNames(ports []Port) string {
	names := make([]string, len(ports))
	for i, p := range ports {
		names[i] = strconv.Quote(p.Name)
	}
	return strings.Join(names, ", ")
}

// open chooses the form of data by spec and what lies there.
func (s *Set) open(spec string) error {
	if n, ok := strings.CutPrefix(spec, "synthetic"); ok && (n == "" || n[0] == ':') {
		return s.openSynthetic(n)
	}
	if paths := strings.Split(spec, ","); len(paths) > 1 {
		if slices.ContainsFunc(paths, func(p string) bool { return filepath.Ext(p) != ".npy" }) {
			return fmt.Errorf("data %s: a list may name .npy files only", spec)
		}
		return s.openNpyFiles(paths)
	}
	info, err := os.Stat(spec)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if info.IsDir() {
		return s.openFolder(spec)
	}
	switch ext := strings.ToLower(filepath.Ext(spec)); ext {
	case ".npz":
		arrays, f, err := openNpz(spec, s.o.MaxRow)
		if err != nil {
			return err
		}
		return s.openArrays(spec, arrays, f)
	case ".npy":
		return s.openNpyFiles([]string{spec})
	case ".csv", ".tsv", ".jsonl":
		return s.openTable(spec)
	case ".json":
		return s.openCOCO(spec)
	}
	return fmt.Errorf("data %s: the form is not known; use .npz, .npy, .csv, .tsv, .jsonl, .json of COCO, a folder, or synthetic", spec)
}

// openFolder looks at what a folder holds.
func (s *Set) openFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	var npy, images, proto, sets []string
	table := ""
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(dir, name)
		switch ext := strings.ToLower(filepath.Ext(name)); {
		case e.IsDir() && strings.HasPrefix(name, "test_data_set"):
			sets = append(sets, path)
		case name == "labels.tsv" || name == "labels.csv":
			if table != "" {
				return fmt.Errorf("data %s: both labels.tsv and labels.csv are there; keep one", dir)
			}
			table = path
		case ext == ".npy":
			npy = append(npy, path)
		case ext == ".pb" && strings.HasPrefix(name, "input_"):
			proto = append(proto, path)
		case imageExt(ext):
			images = append(images, name)
		}
	}
	kinds := 0
	for _, there := range []bool{len(npy) > 0, len(proto) > 0, len(sets) > 0, table != "" || len(images) > 0} {
		if there {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return fmt.Errorf("data %s: more than one form of data lies there (.npy, images, test data); name one of them", dir)
	case len(npy) > 0:
		return s.openNpyFiles(npy)
	case len(proto) > 0:
		return s.openTestData([]string{dir})
	case len(sets) > 0:
		return s.openTestData(sets)
	case table != "":
		return s.openTable(table)
	case len(images) > 0:
		return s.openImages(dir, images)
	}
	return fmt.Errorf("data %s: no .npy files, images, labels.tsv, labels.csv, input_*.pb or test_data_set_* folders there", dir)
}

// settle fixes the order, and reads the first sample so that data that does
// not fit the model is known at once.
func (s *Set) settle(spec string) error {
	n := s.src.rows()
	if s.o.Skip >= n {
		return fmt.Errorf("data %s: skipping %d of %d samples leaves none", spec, s.o.Skip, n)
	}
	s.first, s.len = s.o.Skip, n-s.o.Skip
	if s.o.Limit > 0 {
		s.len = min(s.len, s.o.Limit)
	}
	s.order = order{n: uint64(n)}
	if s.o.Shuffle {
		s.order = newOrder(uint64(n), s.o.Seed)
	}
	sample, err := s.At(context.Background(), 0)
	if err != nil {
		return err
	}
	if len(s.ports) == 0 {
		return nil
	}
	for _, p := range s.ports {
		if sample.Inputs[p.Name] == nil && !s.carried(p.Name) && !sample.given(p) {
			return fmt.Errorf("data %s has nothing for input %q; it has %s", spec, p.Name, strings.Join(inputNames(sample), ", "))
		}
	}
	s.batch = batchSize(s.ports, sample.whole, s.o.State)
	return nil
}

// given reports whether s has a sequence or an absent optional for port p.
func (s *Sample) given(p Port) bool {
	if p.Type != nil && p.Type.Kind == onnx.KindOptional {
		return true
	}
	return p.Type != nil && p.Type.Kind == onnx.KindSequence
}

func inputNames(s *Sample) []string {
	var names []string
	for name := range s.Inputs {
		names = append(names, strconv.Quote(name))
	}
	slices.Sort(names)
	return names
}

// carried reports whether the input gets its values from an output.
func (s *Set) carried(input string) bool {
	for _, in := range s.o.State {
		if in == input {
			return true
		}
	}
	return false
}

// Len returns the number of samples, after Skip and Limit.
func (s *Set) Len() int64 { return s.len }

// Labels returns what the labels are; NoLabel if there are none.
func (s *Set) Labels() LabelKind { return s.src.labels() }

// BatchSize returns the batch size that model and data demand; 0 if any will do.
func (s *Set) BatchSize() int { return s.batch }

// Synthetic reports whether the data is generated.
func (s *Set) Synthetic() bool { _, ok := s.src.(*synthetic); return ok }

// Warnings returns what a user should know about the data, such as arrays
// that serve no input.
func (s *Set) Warnings() []string { return s.warnings }

// Close releases the files.
func (s *Set) Close() error { return s.src.Close() }
