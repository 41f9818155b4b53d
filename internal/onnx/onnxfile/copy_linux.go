package onnxfile

import (
	"io"

	"golang.org/x/sys/unix"
)

// copyTo copies n bytes from offset off to dst by the kernel, as far as it
// will, and returns how many; what is left, or fails, is for the caller to
// write and to report.
func (m *mapping) copyTo(dst io.Writer, off, n int64) int64 {
	f, ok := dst.(interface{ Fd() uintptr })
	if !ok || m.fd < 0 {
		return 0
	}
	var done int64
	for done < n {
		k, err := unix.CopyFileRange(m.fd, &off, int(f.Fd()), nil, int(min(n-done, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || k <= 0 {
			break
		}
		done += int64(k)
	}
	return done
}
