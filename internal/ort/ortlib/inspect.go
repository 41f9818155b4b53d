package ortlib

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// Info is what a shared library's headers say.
type Info struct {
	// Platforms the file is for: one, or several in a macOS universal file.
	Platforms []Platform
	// Version of ONNX Runtime, such as "1.30.0"; "" where the file does not say.
	Version string
	// API is the highest ORT_API_VERSION served; 0 where Version is "".
	API int
}

// For reports whether the library can be loaded on a platform.
func (i Info) For(p Platform) bool {
	for _, have := range i.Platforms {
		if have == p {
			return true
		}
	}
	return false
}

// apiSymbol is the one function every ONNX Runtime library exports.
const apiSymbol = "OrtGetApiBase"

// Inspect reads the headers of a library file without loading it. It fails where the file is not a shared library of a
// known format or does not export OrtGetApiBase.
//
// The version comes from the symbol version VERS_1.N.P in ELF files, from the current version of the install name in
// Mach-O files, and in PE files from the version resource and the version string among the constants.
func Inspect(path string) (Info, error) {
	f, _, err := readfile.Open(path)
	if err != nil {
		return Info{}, fmt.Errorf("the ONNX Runtime library: %w; name the library file itself", err)
	}
	defer f.Close()
	info, err := inspect(f)
	if err != nil {
		return Info{}, fmt.Errorf("%s is not an ONNX Runtime library: %v", path, err)
	}
	return info, nil
}

func inspect(r io.ReaderAt) (Info, error) {
	head := make([]byte, sniffLen)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Info{}, err
	}
	platforms := sniff(head[:n])
	if len(platforms) == 0 {
		return Info{}, errors.New("the file is not an ELF, Mach-O or PE shared library")
	}
	var version string
	switch platforms[0].OS {
	case "darwin":
		version, err = inspectMacho(r)
	case "windows":
		version, err = inspectPE(r)
	default:
		version, err = inspectELF(r)
	}
	if err != nil {
		return Info{}, err
	}
	info := Info{Platforms: platforms}
	if rel, err := parseRelease(version); err == nil {
		info.Version, info.API = version, rel.api()
	}
	return info, nil
}

var errNotORT = errors.New("it does not export " + apiSymbol)

func inspectELF(r io.ReaderAt) (version string, err error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return "", err
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		return "", err
	}
	for _, s := range syms {
		if s.Name == apiSymbol && s.Section != elf.SHN_UNDEF {
			return strings.TrimPrefix(s.Version, "VERS_"), nil
		}
	}
	return "", errNotORT
}

func inspectMacho(r io.ReaderAt) (version string, err error) {
	var f *macho.File
	if fat, fatErr := macho.NewFatFile(r); fatErr == nil {
		f = fat.Arches[0].File
	} else if f, err = macho.NewFile(r); err != nil {
		return "", err
	}
	if f.Symtab == nil {
		return "", errNotORT
	}
	found := false
	for _, s := range f.Symtab.Syms {
		if s.Name == "_"+apiSymbol && s.Sect != 0 {
			found = true
			break
		}
	}
	if !found {
		return "", errNotORT
	}
	const loadIDDylib = 0xd // LC_ID_DYLIB: cmd, cmdsize, name, timestamp, current version, compatibility version
	for _, l := range f.Loads {
		raw := l.Raw()
		if len(raw) >= 24 && f.ByteOrder.Uint32(raw) == loadIDDylib {
			v := f.ByteOrder.Uint32(raw[16:])
			return fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff), nil
		}
	}
	return "", nil
}

// peMaxSection bounds how much of one PE section is read; the resources and exports of the library take less than 8 MiB.
const peMaxSection = 64 << 20

func inspectPE(r io.ReaderAt) (version string, err error) {
	f, err := pe.NewFile(r)
	if err != nil {
		return "", err
	}
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return "", errors.New("it is not a 64-bit library")
	}
	export := h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXPORT]
	data := peData(f, export.VirtualAddress, export.Size)
	if !bytes.Contains(data, []byte("\x00"+apiSymbol+"\x00")) {
		return "", errNotORT
	}
	resource := h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_RESOURCE]
	data = peData(f, resource.VirtualAddress, resource.Size)
	// VS_FIXEDFILEINFO: signature, structure version, file version high and low.
	i := bytes.Index(data, []byte{0xbd, 0x04, 0xef, 0xfe})
	if i < 0 || len(data) < i+16 {
		return "", nil
	}
	ms, ls := binary.LittleEndian.Uint32(data[i+8:]), binary.LittleEndian.Uint32(data[i+12:])
	major, minor := ms>>16, ms&0xffff
	if v := peVersionString(f, major, minor); v != "" {
		return v, nil
	}
	return fmt.Sprintf("%d.%d.%d", major, minor, ls>>16), nil
}

// peVersionString finds the string that OrtApiBase.GetVersionString returns, among the constants of the library. The
// version resource alone does not do: some builds carry the year of the build where the patch number should be.
func peVersionString(f *pe.File, major, minor uint32) string {
	s := f.Section(".rdata")
	if s == nil {
		return ""
	}
	data := peData(f, s.VirtualAddress, s.Size)
	pattern := regexp.MustCompile(fmt.Sprintf(`\x00(%d\.%d\.[0-9]{1,3})\x00`, major, minor))
	found := ""
	for _, m := range pattern.FindAllSubmatch(data, -1) {
		if found != "" && found != string(m[1]) {
			return ""
		}
		found = string(m[1])
	}
	return found
}

// peData is the content of an address range that lies in one section, or nil.
func peData(f *pe.File, addr, size uint32) []byte {
	for _, s := range f.Sections {
		if addr < s.VirtualAddress || addr-s.VirtualAddress >= s.Size {
			continue
		}
		off := addr - s.VirtualAddress
		n := min(size, s.Size-off, peMaxSection)
		data := make([]byte, n)
		if _, err := s.ReadAt(data, int64(off)); err != nil {
			return nil
		}
		return data
	}
	return nil
}

// sniffLen is how much of a file's start sniff looks at: a PE header may begin up to this far in.
const sniffLen = 4096

// sniff tells from the first bytes of a file the platforms it is a shared library for; none where it is not one.
// All ELF files count as Linux.
func sniff(head []byte) []Platform {
	switch {
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return sniffELF(head)
	case bytes.HasPrefix(head, []byte{0xcf, 0xfa, 0xed, 0xfe}):
		return sniffMacho(head)
	case bytes.HasPrefix(head, []byte{0xca, 0xfe, 0xba, 0xbe}):
		return sniffFat(head)
	case bytes.HasPrefix(head, []byte("MZ")):
		return sniffPE(head)
	}
	return nil
}

func sniffELF(head []byte) []Platform {
	if len(head) < 20 || head[elf.EI_CLASS] != byte(elf.ELFCLASS64) || head[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return nil
	}
	if elf.Type(binary.LittleEndian.Uint16(head[16:])) != elf.ET_DYN {
		return nil
	}
	switch elf.Machine(binary.LittleEndian.Uint16(head[18:])) {
	case elf.EM_X86_64:
		return []Platform{{"linux", "amd64"}}
	case elf.EM_AARCH64:
		return []Platform{{"linux", "arm64"}}
	case elf.EM_RISCV:
		return []Platform{{"linux", "riscv64"}}
	case elf.EM_PPC64:
		return []Platform{{"linux", "ppc64le"}}
	}
	return nil
}

func machoArch(cpu macho.Cpu) string {
	switch cpu {
	case macho.CpuAmd64:
		return "amd64"
	case macho.CpuArm64:
		return "arm64"
	}
	return ""
}

func sniffMacho(head []byte) []Platform {
	if len(head) < 16 || macho.Type(binary.LittleEndian.Uint32(head[12:])) != macho.TypeDylib {
		return nil
	}
	arch := machoArch(macho.Cpu(binary.LittleEndian.Uint32(head[4:])))
	if arch == "" {
		return nil
	}
	return []Platform{{"darwin", arch}}
}

// sniffFat reads the table of a universal file: a count, then five 32-bit words per architecture, big-endian. Java
// class files share the magic number; theirs gives a count that is far too high.
func sniffFat(head []byte) []Platform {
	if len(head) < 8 {
		return nil
	}
	n := binary.BigEndian.Uint32(head[4:])
	if n > 8 || len(head) < int(8+20*n) {
		return nil
	}
	var out []Platform
	for i := range n {
		if arch := machoArch(macho.Cpu(binary.BigEndian.Uint32(head[8+20*i:]))); arch != "" {
			out = append(out, Platform{"darwin", arch})
		}
	}
	return out
}

func sniffPE(head []byte) []Platform {
	if len(head) < 0x40 {
		return nil
	}
	off := binary.LittleEndian.Uint32(head[0x3c:])
	if off > sniffLen-24 || int(off)+24 > len(head) || !bytes.Equal(head[off:off+4], []byte("PE\x00\x00")) {
		return nil
	}
	const isDLL = 0x2000
	if binary.LittleEndian.Uint16(head[off+22:])&isDLL == 0 {
		return nil
	}
	switch binary.LittleEndian.Uint16(head[off+4:]) {
	case pe.IMAGE_FILE_MACHINE_AMD64:
		return []Platform{{"windows", "amd64"}}
	case pe.IMAGE_FILE_MACHINE_ARM64:
		return []Platform{{"windows", "arm64"}}
	}
	return nil
}
