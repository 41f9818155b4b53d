package onnxfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Options changes how a model is opened; the zero value is the default.
type Options struct {
	// MissingExternalData lets a model open whose external files are not
	// there; reading such a tensor's content fails.
	MissingExternalData bool
	// NoExternalData leaves external files alone, wherever they are said to be;
	// reading such a tensor's content fails.
	NoExternalData bool
}

// Open maps the model file at path. The model must be closed after use; tensor
// contents are not valid after that. Errors about the file's bytes are a *[FormatError].
func Open(path string, o Options) (*onnx.Model, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, pathCause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, pathCause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %s: not a regular file; give the path of a .onnx file", path)
	}
	m, err := mapFile(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	dir, err := openFolder(filepath.Dir(path), o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading %s: %w", path, err), m.close())
	}
	m.scattered(true)
	model, err := decodeModel(path, m.b, m, dir)
	if err != nil {
		dir.close()
		m.close()
		return nil, err
	}
	m.scattered(false)
	model.OnClose(func() error { return errors.Join(dir.close(), m.close()) })
	return model, nil
}
