//go:build unix

package worker

import (
	"fmt"
	"os"
)

// unnamedFile makes a file of dir and takes its name away at once.
func unnamedFile(dir func() (string, error)) (*os.File, error) {
	d, err := dir()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(d, "memory")
	if err != nil {
		return nil, fmt.Errorf("making shared memory: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("making shared memory: %w", err)
	}
	return f, nil
}
