// Package ortlib finds, installs and verifies the ONNX Runtime shared library.
//
// It never loads the library: what a file is (format, machine, version, whether it is ONNX Runtime at all) is read from
// its ELF, Mach-O or PE headers, so that a library for another machine or of another version is an error message
// before it is a crash.
//
// A library is looked for in a fixed order (see Search), and installed into a per-user cache, from the package that the
// npm or pip client of the machine obtains, from the onnxruntime_go module in the Go module cache, from the program
// itself where it was built to carry one (see Embedded), or from a file that the caller names together with its digest
// (see Install). The package reads no environment variables and prints
// nothing: the caller passes an Env.
package ortlib

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

const (
	// Version is the release that Install obtains and that the pins are for.
	Version = "1.30.0"

	// BindingModule and BindingVersion name the Go module that drives the library.
	BindingModule  = "github.com/yalue/onnxruntime_go"
	BindingVersion = "v1.27.0"

	// BindingAPI is the ORT_API_VERSION that BindingModule asks the library for. A library of release 1.N serves
	// every API level up to N, so a library is usable from release 1.BindingAPI on.
	BindingAPI = 24
)

// Platform is an operating system and a processor architecture, in Go's names.
type Platform struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
}

// Host is the platform this program was built for.
func Host() Platform { return Platform{OS: runtime.GOOS, Arch: runtime.GOARCH} }

func (p Platform) String() string { return p.OS + "/" + p.Arch }

// orHost is p, or Host where p is zero.
func (p Platform) orHost() Platform {
	if p == (Platform{}) {
		return Host()
	}
	return p
}

// libraryName is the name under which the library of a version is installed, and the alias by which other libraries
// refer to it ("" where the platform has none).
func (p Platform) libraryName(version string) (name, alias string) {
	switch p.OS {
	case "windows":
		return "onnxruntime.dll", ""
	case "darwin":
		return "libonnxruntime." + version + ".dylib", "libonnxruntime.1.dylib"
	default:
		return "libonnxruntime.so." + version, "libonnxruntime.so.1"
	}
}

// Env is what the package needs to know of the process's surroundings. The caller reads it; the package does not.
type Env struct {
	// CacheDir is the user's cache folder, as os.UserCacheDir gives it. Empty: the cache is not searched, and
	// Install fails.
	CacheDir string
	// Library is the value of LAPIDARY_ORT_LIB.
	Library string
	// Vars are environment variables as "KEY=value", as os.Environ gives them: PATH, LD_LIBRARY_PATH, DYLD_*,
	// VIRTUAL_ENV and CONDA_PREFIX are read, and clients are run with all of them.
	Vars []string
	// Embedded is the library that the program carries, as Embedded gives it; "" for none.
	Embedded string
	// Root is put before the absolute paths of the system's library folders. Empty: "/".
	Root string
}

// get is the value of a variable, the last one winning as in os/exec.
func (e Env) get(key string) string {
	for i := len(e.Vars) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(e.Vars[i], "="); ok && k == key {
			return v
		}
	}
	return ""
}

// runtimeDir is the folder that holds the installed libraries.
func (e Env) runtimeDir() string { return filepath.Join(e.CacheDir, "lapidary", "runtime") }

// installDir is the folder of one installed library: <version>/<os>-<arch>[-variant].
func (e Env) installDir(version string, p Platform, variant string) string {
	name := p.OS + "-" + p.Arch
	if variant != "" {
		name += "-" + variant
	}
	return filepath.Join(e.runtimeDir(), version, name)
}

// release is a version such as 1.30.0 in parts.
type release struct{ major, minor, patch int }

// parseRelease reads "1.30.0"; anything after a third number ("1.30.0-rc1") is refused.
func parseRelease(s string) (release, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return release{}, fmt.Errorf("version %q is not of the form 1.30.0", s)
	}
	var n [3]int
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 16)
		if err != nil || strconv.FormatUint(v, 10) != part {
			return release{}, fmt.Errorf("version %q is not of the form 1.30.0", s)
		}
		n[i] = int(v)
	}
	return release{n[0], n[1], n[2]}, nil
}

func (r release) less(o release) bool {
	if r.major != o.major {
		return r.major < o.major
	}
	if r.minor != o.minor {
		return r.minor < o.minor
	}
	return r.patch < o.patch
}

// api is the highest ORT_API_VERSION a release serves: its minor number, since every 1.N release defines API level N.
func (r release) api() int {
	if r.major != 1 {
		return 0
	}
	return r.minor
}
