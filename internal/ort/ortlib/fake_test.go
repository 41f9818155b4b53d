package ortlib

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

// fakeELF is a shared library with no code: headers, a dynamic symbol table with one defined symbol, and its version
// VERS_<version>, laid out as the linker lays them out.
func fakeELF(machine elf.Machine, symbol, version string) []byte {
	le := binary.LittleEndian
	var dynstr bytes.Buffer
	str := func(s string) uint32 {
		off := dynstr.Len()
		dynstr.WriteString(s + "\x00")
		return uint32(off)
	}
	str("")
	sym, soname, vers := str(symbol), str("libonnxruntime.so.1"), str("VERS_"+version)

	dynsym := make([]byte, 48)
	le.PutUint32(dynsym[24:], sym)
	dynsym[28] = byte(elf.STB_GLOBAL)<<4 | byte(elf.STT_FUNC)
	le.PutUint16(dynsym[30:], 1)
	versym := []byte{0, 0, 2, 0}
	verdef := make([]byte, 56)
	def := func(b []byte, flags, index uint16, name, next uint32) {
		le.PutUint16(b[0:], 1)
		le.PutUint16(b[2:], flags)
		le.PutUint16(b[4:], index)
		le.PutUint16(b[6:], 1)
		le.PutUint32(b[12:], 20)
		le.PutUint32(b[16:], next)
		le.PutUint32(b[20:], name)
	}
	def(verdef, 1, 1, soname, 28)
	def(verdef[28:], 0, 2, vers, 0)

	shstr := "\x00.dynstr\x00.dynsym\x00.gnu.version\x00.gnu.version_d\x00.shstrtab\x00"
	type section struct {
		name            uint32
		typ             elf.SectionType
		data            []byte
		link, info, ent uint32
	}
	sections := []section{
		{},
		{1, elf.SHT_STRTAB, dynstr.Bytes(), 0, 0, 0},
		{9, elf.SHT_DYNSYM, dynsym, 1, 1, 24},
		{17, elf.SHT_GNU_VERSYM, versym, 2, 0, 2},
		{30, elf.SHT_GNU_VERDEF, verdef, 1, 2, 0},
		{45, elf.SHT_STRTAB, []byte(shstr), 0, 0, 0},
	}
	body := make([]byte, 64)
	var table []byte
	for _, s := range sections {
		for len(body)%8 != 0 {
			body = append(body, 0)
		}
		h := make([]byte, 64)
		le.PutUint32(h[0:], s.name)
		le.PutUint32(h[4:], uint32(s.typ))
		le.PutUint64(h[24:], uint64(len(body)))
		le.PutUint64(h[32:], uint64(len(s.data)))
		le.PutUint32(h[40:], s.link)
		le.PutUint32(h[44:], s.info)
		le.PutUint64(h[48:], 8)
		le.PutUint64(h[56:], uint64(s.ent))
		table = append(table, h...)
		body = append(body, s.data...)
	}
	for len(body)%8 != 0 {
		body = append(body, 0)
	}
	copy(body, "\x7fELF\x02\x01\x01")
	le.PutUint16(body[16:], uint16(elf.ET_DYN))
	le.PutUint16(body[18:], uint16(machine))
	le.PutUint32(body[20:], 1)
	le.PutUint64(body[40:], uint64(len(body)))
	le.PutUint16(body[52:], 64)
	le.PutUint16(body[58:], 64)
	le.PutUint16(body[60:], uint16(len(sections)))
	le.PutUint16(body[62:], 5)
	return append(body, table...)
}

// fakeLibrary is an ONNX Runtime library for linux/amd64.
func fakeLibrary(version string) []byte { return fakeELF(elf.EM_X86_64, apiSymbol, version) }

// fakeProvider is a shared library that is not ONNX Runtime.
func fakeProvider() []byte { return fakeELF(elf.EM_X86_64, "Provider_SetHost", "1.0") }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// entry is one file of an archive; link makes it a symbolic link.
type entry struct {
	name string
	data []byte
	link string
}

func tgz(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.data)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zipped(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(0o644)
		data := e.data
		if e.link != "" {
			h.SetMode(os.ModeSymlink | 0o777)
			data = []byte(e.link)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func put(t testing.TB, path string, data []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// script puts a client into a folder that stands for PATH.
func script(t testing.TB, dir, name, body string) {
	t.Helper()
	put(t, filepath.Join(dir, name), []byte("#!/bin/sh\nset -e\n"+body), 0o755)
}

var linuxAMD64 = Platform{"linux", "amd64"}

// env is an Env whose cache and PATH are empty folders; scripts find the system's commands by the PATH they set.
func env(t testing.TB) (e Env, bin string) {
	t.Helper()
	bin = t.TempDir()
	return Env{CacheDir: t.TempDir(), Vars: []string{"PATH=" + bin}, Root: t.TempDir()}, bin
}

var update = flag.Bool("update", false, "write the library that other packages' tests install")

// TestFakeFile holds a library of no code in a file, for tests of the command to install.
func TestFakeFile(t *testing.T) {
	path := filepath.Join("testdata", "libonnxruntime.so")
	if *update {
		if err := os.WriteFile(path, fakeLibrary(Version), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, fakeLibrary(Version)) {
		t.Errorf("%s is another library than that of the tests (%v): write it with -update", path, err)
	}
}
