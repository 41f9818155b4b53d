package onnxfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Scratch writes m to path for this program's own use, in a folder that nobody
// else looks at: there is no moment at which all of it is there, and nothing waits
// for the disk. A file that is there is replaced by another one, so that who has it
// open keeps what it had.
func Scratch(path string, m *onnx.Model) error {
	if err := remove(path + ".data"); err != nil {
		return err
	}
	p := plan(path, m, WriteOptions{MinBytes: 1024})
	r, err := (&encoder{place: p.place}).model(m)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if r.size > maxMessage {
		return fmt.Errorf("writing %s: the model takes %d bytes, more than the 2 GiB of one ONNX file", path, r.size)
	}
	if len(p.tensors) > 0 {
		if err := scratch(p.path, p); err != nil {
			return err
		}
	}
	return scratch(path, r)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing %s: %w", path, err)
	}
	return nil
}

func scratch(path string, src io.WriterTo) error {
	if err := remove(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = src.WriteTo(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
