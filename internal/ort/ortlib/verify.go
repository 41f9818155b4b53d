package ortlib

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// Verification is what Verify found out about a library.
type Verification struct {
	Library string `json:"library"`
	SHA256  string `json:"sha256"`
	Version string `json:"version,omitempty"`
	// Manifest of the installed library; nil for one that Install did not write.
	Manifest *Manifest `json:"manifest,omitempty"`
	// Pinned says that the library's digest is one of Pins; Channel and Version of the pin are in Pin, such as
	// "npm 1.30.0 linux/amd64".
	Pinned bool   `json:"pinned"`
	Pin    string `json:"pin,omitempty"`
	// Problems is what is wrong, one sentence each; empty where all is as it was installed.
	Problems []string `json:"problems,omitempty"`
}

// OK reports whether nothing is wrong.
func (v *Verification) OK() bool { return len(v.Problems) == 0 }

// Verify hashes a library again. path is the library file or its folder. Beside a manifest every file that it lists is
// compared with it, and with the pin where the library was installed by one; files that do not belong there are
// reported. Without a manifest the library's digest is looked up among Pins.
func Verify(ctx context.Context, path string) (*Verification, error) {
	return verify(ctx, path, Pins())
}

func verify(ctx context.Context, path string, all []Pin) (*Verification, error) {
	dir := path
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("verifying ONNX Runtime: %w", err)
	}
	if !st.IsDir() {
		dir = filepath.Dir(path)
	}
	m, err := ReadManifest(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !st.IsDir():
		return verifyForeign(ctx, path, all)
	case err != nil:
		return nil, fmt.Errorf("verifying ONNX Runtime: %w", err)
	}
	v := &Verification{Library: filepath.Join(dir, m.Library), Version: m.Version, Manifest: m}
	if err := v.compareFiles(ctx, dir); err != nil {
		return nil, fmt.Errorf("verifying ONNX Runtime: %w", err)
	}
	v.findStrangers(dir)
	if m.Pinned {
		v.comparePin(all)
	}
	return v, nil
}

// verifyForeign is Verify for a library that Install did not write.
func verifyForeign(ctx context.Context, path string, all []Pin) (*Verification, error) {
	sum, _, err := hashFile(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("verifying ONNX Runtime: %w", err)
	}
	v := &Verification{Library: path, SHA256: sum}
	if info, err := Inspect(path); err != nil {
		v.Problems = append(v.Problems, err.Error())
	} else {
		v.Version = info.Version
	}
	if p, ok := pinOf(all, sum, Platform{}); ok {
		v.Pinned, v.Pin = true, p.String()
	}
	return v, nil
}

func (p Pin) String() string { return fmt.Sprintf("%s %s %s", p.Channel, p.Version, p.Platform) }

func (v *Verification) problem(format string, args ...any) {
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

// compareFiles compares the files with the manifest. Only a cancelled context is an error.
func (v *Verification) compareFiles(ctx context.Context, dir string) error {
	for _, f := range v.Manifest.Files {
		path := filepath.Join(dir, f.Name)
		if f.Link != "" {
			if to, err := os.Readlink(path); err != nil || to != f.Link {
				v.problem("%s is not a link to %s", path, f.Link)
			}
			continue
		}
		st, err := os.Lstat(path)
		if err != nil {
			v.problem("%s is missing", path)
			continue
		}
		if !st.Mode().IsRegular() {
			v.problem("%s is not a regular file", path)
			continue
		}
		sum, n, err := hashFile(ctx, path)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			v.problem("%v", err)
		case n != f.Bytes:
			v.problem("%s has %d bytes, was installed with %d", path, n, f.Bytes)
		case sum != f.SHA256:
			v.problem("%s has SHA-256 %s, was installed with %s", path, sum, f.SHA256)
		}
		if f.Name == v.Manifest.Library {
			v.SHA256 = sum
		}
	}
	return nil
}

// findStrangers reports files that the manifest does not list: a provider library put beside the library would be
// loaded by it.
func (v *Verification) findStrangers(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		v.problem("%v", err)
		return
	}
	known := map[string]bool{ManifestName: true}
	for _, f := range v.Manifest.Files {
		known[f.Name] = true
	}
	for _, e := range entries {
		if !known[e.Name()] {
			v.problem("%s was not installed with the library", filepath.Join(dir, e.Name()))
		}
	}
}

// comparePin compares the files' digests, as the manifest gives them, with the pin they were installed by.
func (v *Verification) comparePin(all []Pin) {
	m := v.Manifest
	pin, ok := findPin(all, m.Channel, m.Version, m.Platform)
	if m.Channel == Carry {
		pin, ok = pinOf(all, v.SHA256, m.Platform)
	}
	if !ok {
		v.problem("the manifest claims a pin for %s %s on %s, and this program has none", m.Channel, m.Version, m.Platform)
		return
	}
	before := len(v.Problems)
	for _, f := range m.Files {
		if f.Link == "" && pin.Files[f.Name] != f.SHA256 {
			v.problem("the manifest gives %s SHA-256 %s, and the pin is %q", f.Name, f.SHA256, pin.Files[f.Name])
		}
	}
	if before == len(v.Problems) && v.SHA256 == pin.library() {
		v.Pinned, v.Pin = true, pin.String()
	}
}

// hashFile is the SHA-256 of a file in hexadecimal, and its length.
func hashFile(ctx context.Context, path string) (sum string, n int64, err error) {
	f, _, err := readfile.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err = io.Copy(h, contextReader{ctx, f})
	if err != nil {
		return "", 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}

// contextReader fails once its context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// checkSHA256 reads a digest as a user types it: 64 hexadecimal digits, optionally after "sha256:".
func checkSHA256(s string) (string, error) {
	s = strings.ToLower(strings.TrimPrefix(strings.TrimSpace(s), "sha256:"))
	if b, err := hex.DecodeString(s); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("--sha256 %q is not a SHA-256 digest of 64 hexadecimal digits", s)
	}
	return s, nil
}
