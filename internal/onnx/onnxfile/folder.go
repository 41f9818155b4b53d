package onnxfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// folder gives access to the files of a model's folder and to nothing outside
// it: locations are relative, have no "..", and every step is resolved below
// the folder by the operating system, so a symbolic link cannot lead out.
type folder struct {
	root  *os.Root
	name  string
	mu    sync.Mutex
	files map[string]*mapping
	o     Options
}

func openFolder(dir string, o Options) (*folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &folder{root: root, name: dir, files: map[string]*mapping{}, o: o}, nil
}

// window returns the content that x describes, after checking that it lies
// within the file.
func (d *folder) window(x *onnx.ExternalData) (onnx.Data, error) {
	if d.o.NoExternalData {
		return missing{x.Length, x.Location}, nil
	}
	if err := checkLocation(x.Location); err != nil {
		return nil, err
	}
	m, err := d.open(x.Location)
	if err != nil {
		if d.o.MissingExternalData && errors.Is(err, fs.ErrNotExist) {
			return missing{x.Length, filepath.Join(d.name, x.Location)}, nil
		}
		return nil, err
	}
	if x.Offset > m.size || x.Length > m.size-x.Offset {
		return nil, fmt.Errorf("external file %q has %d bytes, but bytes %d to %d are asked for; the file is incomplete or not of this model",
			x.Location, m.size, x.Offset, x.Offset+x.Length)
	}
	return m.window(x.Offset, x.Length)
}

// checkLocation refuses locations that could leave the folder.
func checkLocation(loc string) error {
	switch {
	case loc == "":
		return errors.New("external data has no location")
	case strings.ContainsRune(loc, 0) || strings.Contains(loc, "\\"):
		return fmt.Errorf("external file %q: the name has a backslash or a NUL", loc)
	case !filepath.IsLocal(filepath.FromSlash(loc)):
		return fmt.Errorf("external file %q is outside the model's folder; move it beside the model", loc)
	}
	return nil
}

// open maps the file at a checked location, once.
func (d *folder) open(loc string) (*mapping, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := filepath.Clean(filepath.FromSlash(loc))
	if m := d.files[key]; m != nil {
		return m, nil
	}
	f, err := d.root.OpenFile(key, os.O_RDONLY|readfile.NoWait, 0)
	if err != nil {
		return nil, fmt.Errorf("external file %q: %w", loc, pathCause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("external file %q: %w", loc, pathCause(err))
	}
	if err := plainFile(info); err != nil {
		return nil, fmt.Errorf("external file %q %v", loc, err)
	}
	m, err := mapFile(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("external file %q: %w", loc, err)
	}
	d.files[key] = m
	return m, nil
}

// plainFile refuses what could be another file in disguise or never end.
func plainFile(info fs.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("is not a regular file (%v)", info.Mode().Type())
	case links(info) > 1:
		return fmt.Errorf("has %d hard links, so it may be a file from outside the model's folder; replace it by a copy", links(info))
	}
	return nil
}

// pathCause strips the operation and path that the caller names itself.
func pathCause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func (d *folder) close() error {
	errs := []error{d.root.Close()}
	for _, m := range d.files {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

// missing stands for external content whose file is not there.
type missing struct {
	size int64
	path string
}

// Len returns the size that the model gives.
func (m missing) Len() int64 { return m.size }

// Bytes fails, naming the file.
func (m missing) Bytes() ([]byte, error) {
	return nil, fmt.Errorf("external file %s is missing: %w", m.path, fs.ErrNotExist)
}
