package dataset

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// deflateRatio is the most that deflate can expand: one bit pair per 258 bytes.
const deflateRatio = 1032

// A compressed row above plainRow bytes may be at most plainRatio times as long
// as what is stored: a small file must not take all memory.
const (
	plainRow   = 64 << 20
	plainRatio = 100
)

// openNpy opens one .npy file. The caller closes the file.
func openNpy(path string, limit int64) (*array, *os.File, error) {
	f, size, err := readfile.Open(path)
	if err != nil {
		return nil, nil, err
	}
	a, err := npyFile(f, size, path, limit)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return a, f, nil
}

func npyFile(f io.ReaderAt, size int64, path string, limit int64) (*array, error) {
	h, err := readNpyHeader(io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	a := &array{name: strings.TrimSuffix(filepath.Base(path), ".npy"), path: path, head: h, at: f}
	return a, a.check(size, limit)
}

// openNpz opens the arrays of an .npz archive. The caller closes the file.
func openNpz(path string, limit int64) ([]*array, *os.File, error) {
	f, size, err := readfile.Open(path)
	if err != nil {
		return nil, nil, err
	}
	arrays, err := npzArrays(f, size, path, limit)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return arrays, f, nil
}

// npzArrays lists the .npy entries of the archive in r.
func npzArrays(r io.ReaderAt, size int64, path string, limit int64) ([]*array, error) {
	z, err := zip.NewReader(r, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // entry names are never used as paths
		return nil, fmt.Errorf("reading %s: %w; an .npz file is a zip archive of .npy files", path, err)
	}
	var out []*array
	seen := map[string]bool{}
	for _, e := range z.File {
		name, ok := strings.CutSuffix(e.Name, ".npy")
		if !ok {
			continue
		}
		if seen[name] {
			return nil, fmt.Errorf("%s: two arrays are named %q", path, name)
		}
		seen[name] = true
		a, err := npzArray(r, size, e, path)
		if err != nil {
			return nil, err
		}
		if err := a.check(int64(e.UncompressedSize64), limit); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: the archive has no .npy entries", path)
	}
	return out, nil
}

func npzArray(r io.ReaderAt, size int64, e *zip.File, path string) (*array, error) {
	a := &array{name: strings.TrimSuffix(e.Name, ".npy"), path: path + ": array " + e.Name}
	packed, plain := e.CompressedSize64, e.UncompressedSize64
	switch {
	case e.Flags&1 != 0:
		return nil, fmt.Errorf("%s is encrypted; save it without a password", a.path)
	case plain > 1<<62 || packed > uint64(size):
		return nil, fmt.Errorf("%s: the archive's directory claims impossible sizes", a.path)
	case e.Method == zip.Store:
		off, err := e.DataOffset()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.path, err)
		}
		if packed != plain || off > size-int64(packed) {
			return nil, fmt.Errorf("%s: the archive ends within the array", a.path)
		}
		a.at = io.NewSectionReader(r, off, int64(packed))
	case e.Method == zip.Deflate:
		if plain/deflateRatio > packed {
			return nil, fmt.Errorf("%s: %d compressed bytes cannot hold the %d claimed", a.path, packed, plain)
		}
		a.stream = e.Open
	default:
		return nil, fmt.Errorf("%s: compression method %d is not supported; save with numpy.savez_compressed", a.path, e.Method)
	}
	src, err := e.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.path, err)
	}
	defer src.Close()
	if a.head, err = readNpyHeader(src); err != nil {
		return nil, fmt.Errorf("%s: %w", a.path, err)
	}
	if a.stream != nil && a.rowSize() > plainRow && plain/plainRatio > packed {
		return nil, fmt.Errorf("%s: %d compressed bytes become rows of shape %v, of %d bytes each; if they are meant, save them without compression (numpy.savez)",
			a.path, packed, a.rowShape(), a.rowSize())
	}
	return a, nil
}
