// Package measured keeps what was measured on this machine in the user's cache, so that it is measured once: times of
// operators, peaks of arithmetic and memory. A file is for one kind of machine, one build of the engine, one device
// and one number of threads; where any of them is another, it is measured anew.
package measured

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// maxFile bounds what is read, in bytes.
const maxFile = 64 << 20

// Key says what a measurement is of.
type Key struct {
	Library string   // SHA-256 of the engine's library, in hex
	Device  string   // as the engine takes it: cpu, cuda:0
	CPU     string   // model of the processor
	ISA     []string // instruction sets, sorted
	Threads int
}

// File is the file below the user's cache folder that keeps one kind of measurement; "" where there is no cache or the
// engine has no library to tell it by.
func (k Key) File(cacheDir, kind string) string {
	if cacheDir == "" || len(k.Library) < 16 {
		return ""
	}
	cpu := sha256.Sum256(fmt.Appendf(nil, "%s %v", k.CPU, k.ISA))
	device := strings.NewReplacer(":", "-", "/", "-").Replace(k.Device)
	return filepath.Join(cacheDir, "lapidary", kind, fmt.Sprintf("%s-%s-%x-%d.json", k.Library[:16], device, cpu[:8], k.Threads))
}

// Read decodes a file into v and reports whether there was one that could be read: a damaged one is measured anew.
// "" is no file. v must not be used where it was not read.
func Read(path string, v any) (bool, error) {
	if path == "" {
		return false, nil
	}
	b, err := readfile.All(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return json.Unmarshal(b, v) == nil, nil
}

// Write replaces a file by v, and makes its folder where there is none. "" is no file.
func Write(path string, v any) error {
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(v, "", " ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = atomicfile.WriteFile(path, b, 0o644)
	}
	return err
}
