package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Mark is a file that says what its process is at. It is removed when that is done,
// and is left abandoned where the process was killed before.
type Mark struct{ f *os.File }

// MakeMark makes a private file whose path begins with prefix. The caller ends with
// Remove, and holds a lock against [TakeAbandoned] elsewhere meanwhile.
func MakeMark(prefix string, data []byte) (*Mark, error) {
	if err := before(OpCreate, prefix+"-"); err != nil {
		return nil, fmt.Errorf("writing %s: %w", prefix, cause(err))
	}
	f, err := os.CreateTemp(filepath.Dir(prefix), filepath.Base(prefix)+"-")
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", prefix, cause(err))
	}
	m := &Mark{f}
	tryLock(f) // where the file system has no locks nobody takes it
	_, err = InPlace{f}.WriteAt(data, 0)
	if err == nil {
		err = InPlace{f}.Sync()
	}
	if err != nil {
		m.Remove()
		return nil, fmt.Errorf("writing %s: %w", prefix, cause(err))
	}
	return m, nil
}

// Marks lists the marks whose path begins with prefix, of processes that live and of
// those that do not.
func Marks(prefix string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(prefix))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(prefix)+"-") && e.Type().IsRegular() {
			out = append(out, filepath.Join(filepath.Dir(prefix), e.Name()))
		}
	}
	return out, nil
}

// TakeAbandoned takes over a mark whose process is gone. It is nil where the process
// is alive, or where nobody can tell.
func TakeAbandoned(path string) (*Mark, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if tryLock(f) != nil {
		f.Close()
		return nil, nil
	}
	return &Mark{f}, nil
}

// Read returns at most limit bytes of what the mark says.
func (m *Mark) Read(limit int64) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(m.f, 0, limit))
}

// Remove deletes the mark.
func (m *Mark) Remove() error {
	_, err := removeLocked(m.f)
	m.f.Close()
	return err
}
