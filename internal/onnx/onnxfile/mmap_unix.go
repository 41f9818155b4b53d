//go:build unix

package onnxfile

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"golang.org/x/sys/unix"
)

// mapping is a file mapped for reading. The file stays open, so that its bytes
// can be copied by the kernel.
type mapping struct {
	b    []byte
	size int64
	fd   int
}

func mapFile(f *os.File, size int64) (*mapping, error) {
	if size == 0 {
		return &mapping{fd: -1}, nil
	}
	if int64(int(size)) != size {
		return nil, fmt.Errorf("%d bytes are more than this platform can map", size)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("cannot map the file: %w", err)
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	m := &mapping{b, size, fd}
	mapped.add(m, f.Name())
	return m, nil
}

// scattered says whether few, scattered bytes are about to be read, as in
// decoding a graph between its weights, so that the kernel maps no more than those.
func (m *mapping) scattered(on bool) {
	if m.b == nil {
		return
	}
	advice := unix.MADV_NORMAL
	if on {
		advice = unix.MADV_RANDOM
	}
	_ = unix.Madvise(m.b, advice) // it is advice
}

// window returns n bytes from offset off, which the caller has checked.
func (m *mapping) window(off, n int64) (onnx.Data, error) {
	return window{m.b[off : off+n : off+n], m, off}, nil
}

// readAt fills p from the file; false where that fails.
func (m *mapping) readAt(p []byte, off int64) (int, bool) {
	if m.fd < 0 {
		return 0, false
	}
	done := 0
	for done < len(p) {
		n, err := unix.Pread(m.fd, p[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return done, false
		}
		done += n
	}
	return done, true
}

func (m *mapping) close() error {
	if m.b == nil {
		return nil
	}
	mapped.remove(m)
	b := m.b
	m.b = nil
	if m.fd >= 0 {
		unix.Close(m.fd)
	}
	return unix.Munmap(b)
}

func links(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 1
}
