package onnxfile

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/readfile"
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
	f, size, err := readfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := mapFile(f, size)
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
