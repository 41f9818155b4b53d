package onnxfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// External says where [Write] puts tensor contents.
type External int

const (
	// ExternalAuto writes external data if the model has some, or if it would
	// pass the 2 GiB that a protobuf message may have; else all content inside.
	ExternalAuto External = iota
	// ExternalNever writes all content inside, and fails beyond 2 GiB.
	ExternalNever
	// ExternalAlways moves every initializer of at least MinBytes to a file.
	ExternalAlways
	// ExternalKeep leaves references to external files as they are; the target
	// must be in the folder that the model was read from.
	ExternalKeep
)

// WriteOptions changes how a model is written; the zero value is the default.
type WriteOptions struct {
	External External
	MinBytes int64       // initializers below this size stay inside; 0: 1024
	Perm     fs.FileMode // of new files; 0: 0o644
	Keep     []string    // files never to be removed, such as those of weights of a model that the replaced one shares them with
	Late     *Late       // text of the metadata that is not known yet; nil: there is none
	Digest   bool        // compute Written.SHA256
}

// Written says what [Write] wrote.
type Written struct {
	Bytes         int64    // of the model file
	ExternalBytes int64    // of the external file
	External      []string // paths of external files, relative to the model's folder
	SHA256        string   // of the model file; "" unless [WriteOptions] ask for it
}

// maxMessage is the largest encoded model that protobuf implementations read.
const maxMessage = 1<<31 - 1

// externalAlign places large tensors on page boundaries, so that ONNX Runtime can map them.
const externalAlign = 4096

// Write stores m at path, replacing it in one step once everything is on disk.
//
// External data goes to one file beside the model, named after it. An existing
// data file is never written over: the new one takes the next free name, and
// the old one is removed after the new model is in place, if it was named after
// the model and the replaced model used it. Whatever interrupts Write, path
// holds either the old model with its data or the new one with its data.
func Write(path string, m *onnx.Model, o WriteOptions) (*Written, error) {
	s, err := Stage(path, m, o)
	if err != nil {
		return nil, err
	}
	defer s.Abort()
	return s.Written, s.Commit()
}

// Staged is a model written in full, on disk beside its target but not yet in
// its place.
type Staged struct {
	Written *Written
	target  string
	place   *placement
	keep    []string
	dir     *atomicfile.Dir  // holds the staged files; nil where file is used
	file    *atomicfile.File // the staged model of [ExternalKeep], beside the data that it refers to
}

// Stage writes m for path as [Write] does, up to the last step, so that the
// very bytes can be tried before they replace anything. The caller ends with
// Commit or Abort.
func Stage(path string, m *onnx.Model, o WriteOptions) (*Staged, error) {
	if o.MinBytes == 0 {
		o.MinBytes = 1024
	}
	if o.Perm == 0 {
		o.Perm = 0o644
	}
	p := plan(path, m, o)
	r, err := (&encoder{place: p.place}).model(m)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", path, err)
	}
	if r.size > maxMessage {
		return nil, fmt.Errorf("writing %s: the model takes %d bytes, more than the 2 GiB of one ONNX file; write its weights as external data", path, r.size)
	}
	if o.Late != nil {
		if err := r.postpone(o.Late); err != nil {
			return nil, fmt.Errorf("writing %s: %w", path, err)
		}
	}
	s := &Staged{Written: &Written{Bytes: r.size, ExternalBytes: p.end, External: p.files()}, target: path, place: p, keep: o.Keep}
	if err := s.fill(r, o); err != nil {
		s.Abort()
		return nil, fmt.Errorf("writing %s: %w", path, s.withoutTemp(err))
	}
	return s, nil
}

// withoutTemp takes the names of temporary files out of an error about writing
// one; an error about reading content stays as it is.
func (s *Staged) withoutTemp(err error) error {
	if !strings.HasPrefix(err.Error(), "writing ") {
		return err
	}
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err
}

// fill writes the staged files.
func (s *Staged) fill(r *rope, o WriteOptions) (err error) {
	if len(s.place.kept) > 0 {
		if s.file, err = atomicfile.Create(s.target, o.Perm); err == nil {
			_, err = r.WriteTo(s.file)
		}
		if err == nil && o.Digest {
			d := newDigest(s.file)
			s.Written.SHA256, err = d.sum(r.size)
		}
		return err
	}
	if s.dir, err = atomicfile.TempDir(filepath.Dir(s.target)); err != nil {
		return err
	}
	if len(s.place.tensors) > 0 {
		if err := writeFile(s.data(), s.place, o.Perm); err != nil {
			return err
		}
	}
	if !o.Digest {
		return writeFile(s.Path(), r, o.Perm)
	}
	s.Written.SHA256, err = writeDigested(s.Path(), r, o.Perm)
	return err
}

// Path returns where the staged model can be opened; its external data is beside it.
func (s *Staged) Path() string {
	if s.file != nil {
		return s.file.Name()
	}
	return filepath.Join(s.dir.Path, filepath.Base(s.target))
}

func (s *Staged) data() string { return filepath.Join(s.dir.Path, filepath.Base(s.place.path)) }

// Commit puts the staged files in place: first the data, then the model.
func (s *Staged) Commit() error {
	defer s.Abort()
	// Of several who replace the model at once each is to see what the one before left.
	defer atomicfile.LockDir(filepath.Dir(s.target))()
	replaced := ownData(s.target)
	if len(s.place.tensors) > 0 {
		err := atomicfile.RenameNew(s.data(), s.place.path)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: another program wrote %s meanwhile; run this again", err, s.target)
		}
		if err != nil {
			if errors.Is(err, atomicfile.ErrInPlace) {
				atomicfile.Remove(s.place.path) // no model refers to it yet
			}
			return err
		}
	}
	if err := s.replace(); err != nil {
		if len(s.place.tensors) > 0 && !errors.Is(err, atomicfile.ErrInPlace) {
			atomicfile.Remove(s.place.path)
		}
		return err
	}
	for _, old := range replaced {
		if !s.place.keeps(old) && !isOneOf(old, s.keep) {
			atomicfile.Remove(old)
		}
	}
	return nil
}

// isOneOf reports whether path leads to one of the files.
func isOneOf(path string, files []string) bool {
	info, err := os.Stat(path)
	return err == nil && slices.ContainsFunc(files, func(f string) bool {
		other, err := os.Stat(f)
		return err == nil && os.SameFile(info, other)
	})
}

func (s *Staged) replace() error {
	if s.file != nil {
		return s.file.Commit()
	}
	return atomicfile.Rename(s.Path(), s.target)
}

// Abort removes what was staged; after Commit it does nothing.
func (s *Staged) Abort() {
	if s.file != nil {
		s.file.Abort()
	}
	if s.dir != nil {
		s.dir.Remove()
		s.dir = nil
	}
}

func writeFile(path string, src io.WriterTo, perm fs.FileMode) error {
	f, err := atomicfile.Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := src.WriteTo(f); err != nil {
		return err
	}
	return f.Commit()
}

// placement says which tensors go to an external file, and where in it.
type placement struct {
	path    string // of the new external file
	tensors []*onnx.Tensor
	at      map[*onnx.Tensor]*onnx.ExternalData
	kept    map[string]bool // locations that stay referred to
	end     int64
}

func (p *placement) place(t *onnx.Tensor) *onnx.ExternalData { return p.at[t] }

func (p *placement) files() []string {
	var out []string
	if len(p.tensors) > 0 {
		out = append(out, filepath.Base(p.path))
	}
	return append(out, slices.Sorted(maps.Keys(p.kept))...)
}

func (p *placement) keeps(path string) bool {
	return p.kept[filepath.Base(path)] || len(p.tensors) > 0 && path == p.path
}

func plan(path string, m *onnx.Model, o WriteOptions) *placement {
	p := &placement{at: map[*onnx.Tensor]*onnx.ExternalData{}, kept: map[string]bool{}}
	all := initializers(m)
	mode := o.External
	if mode == ExternalAuto {
		mode = autoMode(all)
	}
	switch mode {
	case ExternalKeep:
		for _, t := range all {
			if t.External != nil {
				p.at[t] = t.External
				p.kept[t.External.Location] = true
			}
		}
	case ExternalAlways:
		p.path = freeDataPath(path)
		for _, t := range all {
			if t.DType == onnx.String || t.Data == nil || t.Data.Len() < o.MinBytes || p.at[t] != nil {
				continue
			}
			if t.Data.Len() >= externalAlign {
				p.end = (p.end + externalAlign - 1) / externalAlign * externalAlign
			}
			p.at[t] = &onnx.ExternalData{Location: filepath.Base(p.path), Offset: p.end, Length: t.Data.Len()}
			p.tensors = append(p.tensors, t)
			p.end += t.Data.Len()
		}
	}
	return p
}

// initializers returns the constants of every graph, in file order.
func initializers(m *onnx.Model) []*onnx.Tensor {
	var out []*onnx.Tensor
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			out = append(out, v.Const)
		}
	}
	return out
}

func autoMode(all []*onnx.Tensor) External {
	var total int64
	for _, t := range all {
		if t.External != nil {
			return ExternalAlways
		}
		total += t.Size()
	}
	if total > maxMessage-(64<<20) { // leaves room for everything else
		return ExternalAlways
	}
	return ExternalNever
}

// freeDataPath returns the first unused name for the data of the model at path.
func freeDataPath(path string) string {
	name := path + ".data"
	for i := 2; ; i++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
		name = path + "." + strconv.Itoa(i) + ".data"
	}
}

// ownData returns the data files that the model at path uses and that are
// named after it.
func ownData(path string) []string {
	old, err := Open(path, Options{MissingExternalData: true})
	if err != nil {
		return nil
	}
	defer old.Close()
	seen := map[string]bool{}
	var out []string
	for _, t := range initializers(old) {
		if t.External == nil || seen[t.External.Location] {
			continue
		}
		seen[t.External.Location] = true
		if loc := t.External.Location; strings.HasPrefix(loc, filepath.Base(path)+".") && strings.HasSuffix(loc, ".data") && !strings.Contains(loc, "/") {
			out = append(out, filepath.Join(filepath.Dir(path), t.External.Location))
		}
	}
	return out
}

// WriteTo streams the content of the external file.
func (p *placement) WriteTo(w io.Writer) (int64, error) {
	var at int64
	pad := make([]byte, externalAlign)
	for _, t := range p.tensors {
		n, err := w.Write(pad[:p.at[t].Offset-at])
		at += int64(n)
		if err != nil {
			return at, err
		}
		m, err := onnx.WriteData(w, t.Data)
		at += m
		if err != nil {
			return at, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if m != p.at[t].Length {
			return at, fmt.Errorf("tensor %q: wrote %d bytes, want %d", t.Name, m, p.at[t].Length)
		}
	}
	return at, nil
}
