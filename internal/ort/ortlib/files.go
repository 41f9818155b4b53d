package ortlib

import (
	"io/fs"
	"os"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// create makes a new file of an installation under way.
func create(path string, perm fs.FileMode) (atomicfile.InPlace, error) {
	return atomicfile.OpenInPlace(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
}

// writeFile is os.WriteFile for one.
func writeFile(path string, data []byte, perm fs.FileMode) error {
	f, err := create(path, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
