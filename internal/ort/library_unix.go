//go:build cgo && unix

package ort

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"runtime"
)

// openLibrary loads a shared library for good and returns its OrtGetApiBase.
func openLibrary(path string) (ptr, error) {
	runtime.LockOSThread() // dlerror speaks of its own thread
	defer runtime.UnlockOSThread()
	name, symbol := C.CString(path), C.CString("OrtGetApiBase")
	defer C.free(ptr(name))
	defer C.free(ptr(symbol))
	h := C.dlopen(name, C.RTLD_LAZY|C.RTLD_LOCAL)
	if h == nil {
		return nil, errors.New(tidy(C.GoString(C.dlerror())))
	}
	f := C.dlsym(h, symbol)
	if f == nil {
		C.dlclose(h)
		return nil, errors.New("it is not ONNX Runtime: it has no OrtGetApiBase")
	}
	return f, nil
}
