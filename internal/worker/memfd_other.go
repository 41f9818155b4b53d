//go:build unix && !linux

package worker

import "os"

// newMemoryFile returns a file of dir without a name.
func newMemoryFile(dir func() (string, error)) (*os.File, error) { return unnamedFile(dir) }
