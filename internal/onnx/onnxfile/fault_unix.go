//go:build unix

package onnxfile

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/lapidary-ml/lapidary/internal/parallel"
)

// mapped knows the name of every file that is mapped.
var mapped = mappings{names: map[*mapping]string{}}

type mappings struct {
	mu    sync.Mutex
	names map[*mapping]string
}

func (l *mappings) add(m *mapping, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names[m] = name
}

func (l *mappings) remove(m *mapping) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.names, m)
}

// at returns the name of the file that is mapped at an address, "" where none is.
func (l *mappings) at(addr uintptr) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for m, name := range l.names {
		if first := uintptr(unsafe.Pointer(unsafe.SliceData(m.b))); addr >= first && addr-first < uintptr(m.size) {
			return name
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
