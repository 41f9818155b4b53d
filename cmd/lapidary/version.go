package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
	"github.com/spf13/cobra"
)

// build is the JSON document of version: what the program was made from.
type build struct {
	Schema   string          `json:"schema"`
	Version  string          `json:"version"`
	Commit   string          `json:"commit,omitempty"`
	Time     string          `json:"time,omitempty"`     // of the commit
	Modified bool            `json:"modified,omitempty"` // built from files that differ from the commit
	Go       string          `json:"go"`
	OS       string          `json:"os"`
	Arch     string          `json:"arch"`
	Cgo      bool            `json:"cgo"`                // without it, ONNX Runtime cannot be loaded
	Embedded *embeddedEngine `json:"embedded,omitempty"` // the library in the program
	Modules  []buildModule   `json:"modules"`
}

type embeddedEngine struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
	Bytes   int    `json:"bytes"`
}

type buildModule struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum,omitempty"` // as in go.sum
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, compiler and modules of this program",
		Long: `version prints what this program was built from. With --format json or --verbose
the modules in it are listed too, with the sums that go.sum has.`,
		Example: "  lapidary version --format json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if a.json() {
				return writeJSON(a.env.stdout, b)
			}
			a.printBuild(b)
			return nil
		},
	}
}

// thisBuild reads what the compiler recorded.
func thisBuild() build {
	b := build{
		Schema: schemaURI("version-v1"), Version: version(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Cgo: ort.Available, Modules: []buildModule{},
	}
	if lib := ortlib.Embedded(); lib != "" {
		sum := sha256.Sum256([]byte(lib))
		b.Embedded = &embeddedEngine{Name: "ONNX Runtime", Version: ortlib.Version, SHA256: hex.EncodeToString(sum[:]), Bytes: len(lib)}
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	if releasedCommit != "" {
		b.Commit, b.Modified = strings.CutSuffix(releasedCommit, "-dirty")
	}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		b.Modules = append(b.Modules, buildModule{d.Path, d.Version, d.Sum})
	}
	return b
}

func (a *app) printBuild(b build) {
	w := a.env.stdout
	fmt.Fprintf(w, "lapidary %s\n", b.Version)
	commit := strings.TrimSpace(cmp.Or(b.Commit, "not recorded") + " " + b.Time)
	if b.Modified {
		commit += ", with changes"
	}
	fmt.Fprintf(w, "  commit   %s\n  go       %s %s/%s\n", commit, b.Go, b.OS, b.Arch)
	switch {
	case !b.Cgo:
		fmt.Fprintln(w, "  runtime  none: built without cgo, for commands that run no model")
	case b.Embedded != nil:
		fmt.Fprintf(w, "  runtime  %s %s in this program, sha256:%s\n", b.Embedded.Name, b.Embedded.Version, b.Embedded.SHA256)
	default:
		fmt.Fprintf(w, "  runtime  loads ONNX Runtime, made for %s; see: lapidary runtime which\n", ortlib.Version)
	}
	if !a.verbose {
		fmt.Fprintf(w, "  modules  %d; --verbose lists them\n", len(b.Modules))
		return
	}
	for _, m := range b.Modules {
		fmt.Fprintf(w, "  module   %s %s\n", m.Path, m.Version)
	}
}
