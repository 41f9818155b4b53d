//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"

	binding "github.com/yalue/onnxruntime_go"

	"github.com/lapidary-ml/lapidary/internal/session"
)

// Available says that this program can load ONNX Runtime at all.
const Available = true

// loaded is the one ONNX Runtime of this process.
var loaded struct {
	sync.Mutex
	path string
	api  *api
}

// load returns the function table of the library at path, loading it first if
// this process has none yet.
func load(path string) (*api, error) {
	if path == "" {
		return nil, errors.New("no ONNX Runtime library is known: run \"lapidary runtime install\", or name one with --ort-lib")
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, fmt.Errorf("loading ONNX Runtime: %w", err)
	}
	loaded.Lock()
	defer loaded.Unlock()
	if loaded.api != nil {
		if loaded.path != real {
			return nil, fmt.Errorf("loading %s: this process already runs ONNX Runtime from %s; use one library per process", path, loaded.path)
		}
		return loaded.api, nil
	}
	a, err := initialize(real)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	loaded.path, loaded.api = real, a
	return a, nil
}

func initialize(path string) (*api, error) {
	// Official builds write a device identifier and events below the user's cache, and send them, unless this is set
	// before they are loaded. With cgo, Setenv reaches C.
	if err := os.Setenv("ORT_DISABLE_TELEMETRY", "1"); err != nil {
		return nil, err
	}
	getBase, err := openLibrary(path)
	if err != nil {
		return nil, err
	}
	binding.SetSharedLibraryPath(path)
	if err := binding.InitializeEnvironment(binding.WithLogLevelFatal()); err != nil {
		if strings.Contains(err.Error(), "API base") {
			return nil, fmt.Errorf("ONNX Runtime is older than %s; install a newer one with \"lapidary runtime install\"", MinVersion)
		}
		return nil, errors.New(tidy(err.Error()))
	}
	memory, err := binding.GetMemoryInfo()
	if err != nil {
		return nil, errors.Join(err, binding.DestroyEnvironment())
	}
	a, err := newAPI(getBase, ptr(memory))
	if err != nil {
		return nil, errors.Join(err, binding.DestroyEnvironment())
	}
	return a, nil
}

// Info loads the library and describes it.
func Info(library string) (session.Info, error) {
	a, err := load(library)
	if err != nil {
		return session.Info{}, err
	}
	sum, err := digest(library)
	if err != nil {
		return session.Info{}, err
	}
	providers, err := a.providers()
	if err != nil {
		return session.Info{}, fmt.Errorf("listing the execution providers of %s: %w", library, err)
	}
	return session.Info{Name: "onnxruntime", Version: binding.GetVersion(), Library: library, SHA256: sum, Providers: providers}, nil
}

// object returns the runtime's object that a struct of the binding wraps: the
// pointer at the end of the named fields.
func object(wrapper any, fields ...string) ptr {
	v := reflect.ValueOf(wrapper)
	for _, f := range fields {
		v = v.Elem().FieldByName(f)
	}
	return v.UnsafePointer()
}
