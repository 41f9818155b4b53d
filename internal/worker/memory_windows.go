package worker

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"
)

// memory is a file mapped by both processes, one of which writes tensors into it for the other. A mapping cannot be longer than its
// file here, so where the file grows it is mapped once more; what was handed out before stays where it is.
type memory struct {
	f     *os.File
	views [][]byte // all from the file's beginning, each longer than the one before
	used  int64    // where the writer puts the next tensor
}

// reserved is the most bytes that a memory can have.
const reserved = 1 << 38

// tensorAlign is the alignment of tensors in a memory, enough for vector loads.
const tensorAlign = 64

// newMemoryFile returns a file of dir that is gone once nobody has it open, and is kept in memory where there is enough.
func newMemoryFile(dir func() (string, error)) (*os.File, error) {
	d, err := dir()
	if err != nil {
		return nil, err
	}
	name := filepath.Join(d, "memory"+rand.Text())
	wide, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, fmt.Errorf("making shared memory: %w", err)
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(wide, windows.GENERIC_READ|windows.GENERIC_WRITE, share, nil, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_TEMPORARY|windows.FILE_FLAG_DELETE_ON_CLOSE, 0)
	if err != nil {
		return nil, fmt.Errorf("making shared memory: %w", err)
	}
	return os.NewFile(uintptr(h), name), nil
}

// mapMemory keeps f, of which nothing is mapped yet.
func mapMemory(f *os.File) (*memory, error) { return &memory{f: f}, nil }

// view maps the first size bytes of the file, which has them afterwards.
func (m *memory) view(size int64) error {
	section, err := windows.CreateFileMapping(windows.Handle(m.f.Fd()), nil, windows.PAGE_READWRITE, uint32(size>>32), uint32(size), nil)
	if err != nil {
		return os.NewSyscallError("CreateFileMapping", err)
	}
	defer windows.CloseHandle(section) // the view keeps it
	at, err := windows.MapViewOfFile(section, windows.FILE_MAP_READ|windows.FILE_MAP_WRITE, 0, 0, uintptr(size))
	if err != nil {
		return os.NewSyscallError("MapViewOfFile", err)
	}
	m.views = append(m.views, unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), size))
	return nil
}

// longest returns the last view.
func (m *memory) longest() []byte {
	if len(m.views) == 0 {
		return nil
	}
	return m.views[len(m.views)-1]
}

func (m *memory) close() error {
	if m == nil || m.f == nil {
		return nil
	}
	var err error
	for _, v := range m.views {
		if e := windows.UnmapViewOfFile(uintptr(unsafe.Pointer(&v[0]))); err == nil {
			err = e
		}
	}
	if e := m.f.Close(); err == nil {
		err = e
	}
	m.views, m.f = nil, nil
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
	if end > int64(len(m.longest())) {
		size := min((2*end+1<<20)&^(1<<20-1), reserved)
		if err := m.view(size); err != nil {
			return nil, fmt.Errorf("growing shared memory to %d bytes: %w", size, err)
		}
	}
	m.used = (end + tensorAlign - 1) &^ (tensorAlign - 1)
	return m.longest()[at:end:end], nil
}

// put copies b into memory, unless it lies there already, and returns where.
func (m *memory) put(b []byte) (int64, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for _, v := range m.views {
		if at := uintptr(unsafe.Pointer(&b[0])) - uintptr(unsafe.Pointer(&v[0])); at < uintptr(min(m.used, int64(len(v)))) {
			return int64(at), nil
		}
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
	if at+n > int64(len(m.longest())) {
		info, err := m.f.Stat()
		if err != nil {
			return nil, err
		}
		size := min(info.Size(), reserved)
		if at+n > size {
			return nil, fmt.Errorf("%w: a tensor lies outside the shared memory", errMessage)
		}
		if err := m.view(size); err != nil {
			return nil, fmt.Errorf("mapping shared memory: %w", err)
		}
	}
	return m.longest()[at : at+n : at+n], nil
}
