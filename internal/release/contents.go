package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
)

// module is a module that a program was built of.
type module struct{ Path, Version, Sum string }

// modulesOf reads what the linker recorded in a program, the standard library first.
func modulesOf(program string) ([]module, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	out := []module{{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		out = append(out, module{d.Path, d.Version, d.Sum})
	}
	return out, nil
}

// billOf returns a CycloneDX 1.6 bill of materials of a program, and of the library in it, where wheel is not nil.
func billOf(name, version string, t target, modules []module, program []byte, wheel *ortlib.Wheel) ([]byte, error) {
	sum := sha256.Sum256(program)
	main := cdx.Component{
		BOMRef: "lapidary", Type: cdx.ComponentTypeApplication, Name: "lapidary", Version: version, PackageURL: "pkg:golang/github.com/lapidary-ml/lapidary@" + version,
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sum)}},
		Properties: &[]cdx.Property{{Name: "lapidary:archive", Value: name}, {Name: "lapidary:build", Value: t.String()}},
	}
	var components []cdx.Component
	var refs []string
	for _, m := range modules {
		url := "pkg:golang/" + m.Path + "@" + m.Version
		c := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: url, Scope: cdx.ScopeRequired}
		if m.Sum != "" {
			c.Properties = &[]cdx.Property{{Name: "go:sum", Value: m.Sum}}
		}
		components, refs = append(components, c), append(refs, url)
	}
	if wheel != nil {
		url := "pkg:pypi/onnxruntime@" + ortlib.Version
		components, refs = append(components, cdx.Component{
			BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: "onnxruntime", Version: ortlib.Version, PackageURL: url, Scope: cdx.ScopeRequired,
			Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: wheel.SHA256}}, Licenses: &cdx.Licenses{{License: &cdx.License{ID: "MIT"}}},
		}), append(refs, url)
	}
	b := cdx.NewBOM()
	b.SerialNumber = serialOf(sum)
	b.Metadata = &cdx.Metadata{Component: &main}
	b.Components = &components
	b.Dependencies = &[]cdx.Dependency{{Ref: "lapidary", Dependencies: &refs}}
	var buf bytes.Buffer
	err := cdx.NewBOMEncoder(&buf, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(b, cdx.SpecVersion1_6)
	return buf.Bytes(), err
}

// serialOf returns a UUID that is the same for the same program (version 8 of RFC 9562: our own digest).
func serialOf(sum [sha256.Size]byte) string {
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// licence matches the names of files with the terms of a module.
var licence = regexp.MustCompile(`(?i)^(li[cs]en[cs]e|copying|copyright|notice|patents)([-.].*)?$`)

// noticesOf returns the terms of all modules, and an error where one has none.
func noticesOf(ctx context.Context, modules []module) ([]byte, error) {
	dirs, err := moduleDirs(ctx)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString("What lapidary is built of, and the terms of each.\n")
	for _, m := range modules {
		dir := dirs[m.Path]
		list, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("the files of %s: %w", m.Path, err)
		}
		fmt.Fprintf(&out, "\n%s\n%s %s\n", strings.Repeat("=", 80), m.Path, m.Version)
		found := false
		for _, e := range list {
			if e.IsDir() || !licence.MatchString(e.Name()) {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			found = true
			fmt.Fprintf(&out, "\n--- %s\n\n%s\n", e.Name(), strings.TrimSpace(string(b)))
		}
		if !found {
			return nil, fmt.Errorf("%s %s has no file with its licence in %s", m.Path, m.Version, dir)
		}
	}
	return out.Bytes(), nil
}

// moduleDirs are the folders of the modules in the cache.
func moduleDirs(ctx context.Context) (map[string]string, error) {
	b, err := exec.CommandContext(ctx, "go", "list", "-m", "-json", "all").Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	out := map[string]string{"std": strings.TrimSpace(string(root))}
	d := json.NewDecoder(bytes.NewReader(b))
	for {
		var m struct {
			Path, Dir string
			Replace   *struct{ Path, Dir string }
		}
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, err
		}
		out[m.Path] = m.Dir
		if m.Replace != nil {
			out[m.Replace.Path] = m.Replace.Dir
		}
	}
}
