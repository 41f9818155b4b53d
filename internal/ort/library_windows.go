//go:build cgo && windows

package ort

import (
	"errors"

	"golang.org/x/sys/windows"
)

// openLibrary loads a shared library for good and returns its OrtGetApiBase.
func openLibrary(path string) (ptr, error) {
	h, err := windows.LoadLibraryEx(path, 0, windows.LOAD_WITH_ALTERED_SEARCH_PATH)
	if err != nil {
		return nil, err
	}
	f, err := windows.GetProcAddress(h, "OrtGetApiBase")
	if err != nil {
		return nil, errors.New("it is not ONNX Runtime: it has no OrtGetApiBase")
	}
	return *(*ptr)(ptr(&f)), nil
}
