// Package readfile opens the files that a user names. What is there may be no
// file at all, may change at any moment, and may be larger than it has any right
// to be: nothing here waits for a pipe, and nothing reads more than it is allowed.
package readfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// NoWait is the flag of os.OpenFile with which a pipe is opened at once, though
// nobody has its other end open.
const NoWait = syscall.O_NONBLOCK

// Open opens the regular file at path for reading, and returns its size in bytes.
// Anything else, such as a folder, a pipe or a device, is refused; a device is not
// even opened. Errors name the path, and wrap what the system said.
func Open(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, 0, failed(path, err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|NoWait, 0)
	if err != nil {
		return nil, 0, failed(path, err)
	}
	if info, err = f.Stat(); err == nil {
		err = regular(info) // of what was opened: the name may mean something else by now
	}
	if err != nil {
		f.Close()
		return nil, 0, failed(path, err)
	}
	return f, info.Size(), nil
}

// All reads the regular file at path, which may have at most limit bytes, also
// where it grows while it is read.
func All(path string, limit int64) ([]byte, error) {
	f, size, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, tooLarge(path, limit)
	}
	var b bytes.Buffer
	b.Grow(int(size) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, failed(path, err)
	}
	if int64(b.Len()) > limit {
		return nil, tooLarge(path, limit)
	}
	return b.Bytes(), nil
}

// writerWait is how long [Line] waits for somebody to begin writing to a pipe.
const writerWait = 2 * time.Second

// Line returns the first line of a file or of a pipe, such as a shell's <(program),
// without what ends it. It has at most limit bytes. A pipe that nobody writes to is
// an error, after two seconds.
func Line(path string, limit int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|NoWait, 0)
	if err != nil {
		return nil, failed(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, failed(path, err)
	}
	pipe := info.Mode()&fs.ModeNamedPipe != 0
	if !pipe {
		if err := regular(info); err != nil {
			return nil, failed(path, err)
		}
	}
	line, err := readLine(f, limit)
	for start := time.Now(); pipe && len(line) == 0 && errors.Is(err, io.EOF); line, err = readLine(f, limit) {
		if time.Since(start) > writerWait {
			return nil, failed(path, errors.New("nobody writes to this pipe"))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, failed(path, err)
	}
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

// readLine reads up to a newline, which it leaves out, or to the end, which is the error io.EOF.
func readLine(r io.Reader, limit int) ([]byte, error) {
	var line []byte
	buf := make([]byte, 512)
	for {
		n, err := r.Read(buf)
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			n, err = i, nil
			line = append(line, buf[:n]...)
			if len(line) <= limit {
				return line, nil
			}
		} else {
			line = append(line, buf[:n]...)
		}
		if len(line) > limit {
			return nil, fmt.Errorf("its first line has more than %d bytes", limit)
		}
		if err != nil {
			return line, err
		}
	}
}

// regular refuses what is no regular file.
func regular(info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		return errors.New("it is a folder, not a regular file")
	case mode&fs.ModeNamedPipe != 0:
		return errors.New("it is a pipe, not a regular file")
	case mode&fs.ModeDevice != 0:
		return errors.New("it is a device, not a regular file")
	case mode&fs.ModeSocket != 0:
		return errors.New("it is a socket, not a regular file")
	}
	return errors.New("it is not a regular file")
}

func failed(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("reading %s: %w", path, err)
}

func tooLarge(path string, limit int64) error {
	return fmt.Errorf("reading %s: it has more than %d bytes, the limit of such a file", path, limit)
}
