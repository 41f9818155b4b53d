package ortlib

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Limits bound what an archive may cost. Zero fields are the defaults.
type Limits struct {
	// Archive is the largest archive in bytes; 0 is 4 GiB.
	Archive int64
	// Unpacked is how many bytes may come out of an archive; 0 is 12 GiB.
	Unpacked int64
	// Entries is how many entries an archive may have; 0 is 100 000.
	Entries int
}

func (l Limits) orDefault() Limits {
	if l.Archive == 0 {
		l.Archive = 4 << 30
	}
	if l.Unpacked == 0 {
		l.Unpacked = 12 << 30
	}
	if l.Entries == 0 {
		l.Entries = 100_000
	}
	return l
}

// fileName is what a file may be called to be installed: it cannot name another folder on any system.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]*$`)

// sharedName matches the names of shared libraries.
var sharedName = regexp.MustCompile(`(?i)^[^/]+(\.so(\.[0-9]+)*|\.dylib|\.dll)$`)

// unpacked is one shared library from an archive.
type unpacked struct {
	dir    string // its folder in the archive
	name   string // its name there
	file   string // where it was written
	sha256 string
	bytes  int64
}

// unpacker takes the shared libraries of one platform out of an archive. Nothing in the archive decides where a file is
// written: files are numbered, links are never followed or made, and whatever is not a shared library is passed over.
type unpacker struct {
	ctx      context.Context
	archive  string // for messages
	platform Platform
	dir      string // where the files go
	limits   Limits
	entries  int
	left     int64 // bytes that may still come out
	out      []unpacked
}

// unpack takes the shared libraries for a platform out of the file at path: a gzipped tar, a zip (so also a wheel or a
// NuGet package) or a library by itself, told apart by their first bytes. label stands for the file in messages.
func unpack(ctx context.Context, path, label string, p Platform, dir string, limits Limits) ([]unpacked, error) {
	u := &unpacker{ctx: ctx, archive: label, platform: p, dir: dir, limits: limits, left: limits.Unpacked}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", label, err)
	}
	defer f.Close()
	head := make([]byte, sniffLen)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("unpacking %s: %w", label, err)
	}
	head = head[:n]
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", label, err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		err = u.tarGzip(f)
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		err = u.zip(f)
	case sniff(head) != nil:
		name, _ := p.libraryName("0.0.0") // a library by itself may have any name
		err = u.take(name, f)
	default:
		err = errors.New("it is not a .tar.gz or .zip archive, a wheel, a NuGet package or a 64-bit shared library")
	}
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", label, err)
	}
	return u.out, nil
}

var errTooLarge = errors.New("more comes out of it than the limit allows")

// limited counts all bytes that come out of an archive, also those that are passed over.
type limited struct {
	u *unpacker
	r io.Reader
}

func (l limited) Read(p []byte) (int, error) {
	if err := l.u.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := l.r.Read(p)
	if l.u.left -= int64(n); l.u.left < 0 {
		return 0, fmt.Errorf("%w (%d bytes)", errTooLarge, l.u.limits.Unpacked)
	}
	return n, err
}

func (u *unpacker) tarGzip(r io.Reader) error {
	gz, err := gzip.NewReader(bufio.NewReaderSize(r, 1<<16))
	if err != nil {
		return err
	}
	tr := tar.NewReader(limited{u, gz})
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := u.admit(h.Name); err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !sharedName.MatchString(path.Base(h.Name)) {
			continue
		}
		if err := u.take(h.Name, tr); err != nil {
			return err
		}
	}
}

func (u *unpacker) zip(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	zr, err := zip.NewReader(f, st.Size())
	if err != nil {
		return err
	}
	for _, e := range zr.File {
		if err := u.admit(e.Name); err != nil {
			return err
		}
		if !e.Mode().IsRegular() || !sharedName.MatchString(path.Base(e.Name)) {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return fmt.Errorf("entry %q: %w", e.Name, err)
		}
		err = u.take(e.Name, limited{u, r})
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// admit refuses archives with too many entries, or with one whose name leads out of the archive: an honest archive has
// none.
func (u *unpacker) admit(name string) error {
	if u.entries++; u.entries > u.limits.Entries {
		return fmt.Errorf("it has more than %d entries", u.limits.Entries)
	}
	clean := path.Clean(name)
	if strings.ContainsAny(name, "\\\x00") || path.IsAbs(name) || clean == ".." || strings.HasPrefix(clean, "../") || filepath.VolumeName(name) != "" {
		return fmt.Errorf("the name of entry %q leads out of the archive", name)
	}
	return nil
}

// take writes one library, if it is one and is for the platform.
func (u *unpacker) take(name string, r io.Reader) error {
	br := bufio.NewReaderSize(contextReader{u.ctx, r}, 1<<16)
	head, err := br.Peek(sniffLen)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("entry %q: %w", name, err)
	}
	if !(Info{Platforms: sniff(head)}).For(u.platform) {
		return nil
	}
	one := unpacked{dir: path.Dir(name), name: path.Base(name)}
	if !fileName.MatchString(one.name) {
		return fmt.Errorf("entry %q: the library's name has characters other than letters, digits and ._+-", name)
	}
	if slices.ContainsFunc(u.out, func(o unpacked) bool { return o.dir == one.dir && strings.EqualFold(o.name, one.name) }) {
		return fmt.Errorf("entry %q is there twice", name)
	}
	one.file = filepath.Join(u.dir, "lib-"+strconv.Itoa(len(u.out)))
	f, err := create(one.file, 0o644)
	if err != nil {
		return err
	}
	h := sha256.New()
	one.bytes, err = io.Copy(io.MultiWriter(f, h), br)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("entry %q: %w", name, err)
	}
	one.sha256 = hex.EncodeToString(h.Sum(nil))
	u.out = append(u.out, one)
	return nil
}

// picked is the library in an archive, and the libraries beside it that belong to it.
type picked struct {
	library    unpacked
	info       Info
	companions []unpacked
}

// pick chooses among the unpacked libraries.
func pick(label string, p Platform, all []unpacked) (picked, error) {
	var out picked
	for _, u := range all {
		if !isLibraryName(u.name, p) || strings.Contains(u.dir+"/", ".dSYM/") {
			continue
		}
		info, err := Inspect(u.file)
		if err != nil || !info.For(p) {
			continue
		}
		if out.library.file != "" && out.library.sha256 != u.sha256 {
			return picked{}, fmt.Errorf("%s holds two different ONNX Runtime libraries for %s, %s and %s: name one of them by itself",
				label, p, path.Join(out.library.dir, out.library.name), path.Join(u.dir, u.name))
		}
		if out.library.file == "" || len(u.name) > len(out.library.name) {
			out.library, out.info = u, info
		}
	}
	if out.library.file == "" {
		return picked{}, fmt.Errorf("%s holds no ONNX Runtime library for %s", label, p)
	}
	for _, u := range all {
		if u.dir == out.library.dir && !isLibraryName(u.name, p) && !strings.HasPrefix(u.name, "onnxruntime_pybind11_state") {
			out.companions = append(out.companions, u)
		}
	}
	return out, nil
}
