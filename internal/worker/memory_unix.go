//go:build unix

package worker

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memory is a file mapped by both processes, one of which writes tensors into
// it for the other. The mapping is as long as the file can ever become, so
// that neither side has to move when the file grows.
type memory struct {
	f    *os.File
	m    []byte
	size int64 // of the file, as far as this process knows
	used int64 // where the writer puts the next tensor
}

// reserved is the length of the mapping: address space, not memory.
const reserved = 1 << 38

// tensorAlign is the alignment of tensors in a memory, enough for vector loads.
const tensorAlign = 64

// mapMemory maps f, which it keeps.
func mapMemory(f *os.File) (*memory, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, reserved, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mapping shared memory: %w", err)
	}
	return &memory{f: f, m: b}, nil
}

func (m *memory) close() error {
	if m == nil || m.m == nil {
		return nil
	}
	err := unix.Munmap(m.m)
	m.m = nil
	if e := m.f.Close(); err == nil {
		err = e
	}
	return err
}

// reset lets the writer start again at the beginning.
func (m *memory) reset() { m.used = 0 }

// alloc returns the next n bytes for writing.
func (m *memory) alloc(n int) ([]byte, error) {
	at := m.used
	end := at + int64(n)
	if end > reserved {
		return nil, fmt.Errorf("tensors of one call take more than the %d bytes of shared memory that there can be", int64(reserved))
	}
	if end > m.size {
		size := min((end+end/4+1<<20)&^(1<<20-1), reserved)
		if err := m.f.Truncate(size); err != nil {
			return nil, fmt.Errorf("growing shared memory to %d bytes: %w", size, err)
		}
		m.size = size
	}
	m.used = (end + tensorAlign - 1) &^ (tensorAlign - 1)
	return m.m[at:end:end], nil
}

// put copies b into memory, unless it lies there already, and returns where.
func (m *memory) put(b []byte) (int64, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if at := uintptr(unsafe.Pointer(&b[0])) - uintptr(unsafe.Pointer(&m.m[0])); at < uintptr(m.used) {
		return int64(at), nil
	}
	at := m.used
	dst, err := m.alloc(len(b))
	if err != nil {
		return 0, err
	}
	copy(dst, b)
	return at, nil
}

// window returns n bytes at offset at, as written by the other process.
func (m *memory) window(at, n int64) ([]byte, error) {
	if n > reserved || at > reserved-n {
		return nil, errMessage
	}
	if at+n > m.size {
		info, err := m.f.Stat()
		if err != nil {
			return nil, err
		}
		if m.size = min(info.Size(), reserved); at+n > m.size {
			return nil, fmt.Errorf("%w: a tensor lies outside the shared memory", errMessage)
		}
	}
	return m.m[at : at+n : at+n], nil
}
