//go:build unix

package onnxfile

import (
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"github.com/lapidary-ml/lapidary/internal/parallel"
)

// mapped knows the name of every file that is mapped, and of those that were last:
// by the time that a panic is told about, what it unwound has closed them.
var mapped mappings

// mostClosed bounds the files that are remembered after they were closed.
const mostClosed = 256

type mappings struct {
	mu   sync.Mutex
	list []mappedFile // the last one is the newest
}

type mappedFile struct {
	m     *mapping // nil: it was closed
	first uintptr
	size  uintptr
	name  string
}

func (l *mappings) add(m *mapping, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, mappedFile{m, uintptr(unsafe.Pointer(unsafe.SliceData(m.b))), uintptr(m.size), name})
}

func (l *mappings) remove(m *mapping) {
	l.mu.Lock()
	defer l.mu.Unlock()
	closed := 0
	for i := range l.list {
		if l.list[i].m == m {
			l.list[i].m = nil
		}
		if l.list[i].m == nil {
			closed++
		}
	}
	l.list = slices.DeleteFunc(l.list, func(f mappedFile) bool {
		old := f.m == nil && closed > mostClosed
		if old {
			closed--
		}
		return old
	})
}

// at returns the name of the file that is or was last mapped at an address, "" where none was.
func (l *mappings) at(addr uintptr) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range slices.Backward(l.list) {
		if addr >= f.first && addr-f.first < f.size {
			return f.name
		}
	}
	return ""
}

// Fault tells what a panic came from, if it came from reading a mapped file beyond
// what is left of it: the file was cut off, or its disk failed, after it was
// opened. It is nil for every other panic. Such a fault is a panic only in
// goroutines that called debug.SetPanicOnFault.
func Fault(recovered any) error {
	if p, ok := recovered.(*parallel.Panic); ok {
		recovered = p.Value
	}
	fault, ok := recovered.(interface{ Addr() uintptr })
	if !ok {
		return nil
	}
	name := mapped.at(fault.Addr())
	if name == "" {
		return nil
	}
	return fmt.Errorf("reading %s: it became shorter while it was read, or its disk failed; run again when nothing writes to it", name)
}
