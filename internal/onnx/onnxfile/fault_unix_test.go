//go:build unix

package onnxfile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/parallel"
)

// TestFault cuts a file off that is mapped: who reads it learns which one, also
// from another goroutine.
func TestFault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.onnx")
	m := onnx.NewModel(17)
	w := m.Graph.AddInitializer(onnx.FromFloats("w", []int64{1 << 20}, make([]float32, 1<<20)))
	m.Graph.AddOutput(w)
	if _, err := Write(path, m, WriteOptions{External: ExternalAlways}); err != nil {
		t.Fatal(err)
	}
	m, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	data := m.Graph.Initializers()[0].Const
	beside := filepath.Join(filepath.Dir(path), filepath.FromSlash(data.External.Location))
	if err := os.Truncate(beside, 4096); err != nil {
		t.Fatal(err)
	}
	sum := func() {
		b, err := data.Bytes()
		if err != nil {
			t.Error(err)
		}
		n := 0
		for _, x := range b {
			n += int(x)
		}
		t.Errorf("read %d bytes of sum %d of a file that was cut off", len(b), n)
	}
	for name, read := range map[string]func(){
		"here": sum,
		"in a goroutine": func() {
			var g parallel.Group
			g.Go(sum)
			g.Wait()
		},
		"by copying": func() {
			var g parallel.Group
			g.Go(func() { _ = onnx.ReadDataAt(data.Data, make([]byte, 8192), 1<<20) })
			g.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer func() {
				r := recover()
				if err := Fault(r); err == nil || !strings.Contains(err.Error(), filepath.Base(beside)) || !strings.Contains(err.Error(), "became shorter") {
					t.Errorf("%v (panicked with %v)", err, r)
				}
			}()
			read()
		})
	}
	if err := Fault(errors.New("another")); err != nil {
		t.Error(err)
	}
	defer func() { // the model is closed before anybody recovers
		if err := Fault(recover()); err == nil || !strings.Contains(err.Error(), filepath.Base(beside)) {
			t.Error(err)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer m.Close()
	sum()
}
