package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
)

// target is a platform, and whether the program can run models there: that needs C, to speak to ONNX Runtime.
type target struct {
	os, arch string
	cgo      bool
	embedded bool // ONNX Runtime is in the program
}

// targets are all builds of a release. Those without C have the commands that read and rewrite models, and verify evidence.
var targets = []target{
	{"linux", "amd64", true, false}, {"linux", "arm64", true, false}, {"darwin", "arm64", true, false}, {"windows", "amd64", true, false},
	{"linux", "amd64", true, true}, {"linux", "arm64", true, true},
	{"linux", "amd64", false, false}, {"linux", "arm64", false, false}, {"darwin", "amd64", false, false}, {"darwin", "arm64", false, false}, {"windows", "amd64", false, false},
}

// crossCompilers are C compilers for other platforms, by their usual names.
var crossCompilers = map[string]string{
	"linux/amd64": "x86_64-linux-gnu-gcc", "linux/arm64": "aarch64-linux-gnu-gcc", "windows/amd64": "x86_64-w64-mingw32-gcc", "darwin/arm64": "oa64-clang",
}

func (t target) String() string {
	switch {
	case t.embedded:
		return t.os + "/" + t.arch + "+embedded"
	case t.cgo:
		return t.os + "/" + t.arch + "+cgo"
	}
	return t.os + "/" + t.arch + "-cgo"
}

// name is that of the archive without its extension, and of the folder in it.
func (t target) name(version string) string {
	name := "lapidary_" + version + "_" + t.os + "_" + t.arch
	switch {
	case t.embedded:
		name += "_embedded"
	case !t.cgo:
		name += "_static"
	}
	return name
}

func (t target) program() string {
	if t.os == "windows" {
		return "lapidary.exe"
	}
	return "lapidary"
}

func (t target) extension() string {
	if t.os == "windows" {
		return ".zip"
	}
	return ".tar.gz"
}

// choose returns the targets that text names.
func choose(text string) ([]target, error) {
	if text == "" {
		return targets, nil
	}
	var out []target
	for _, word := range strings.Split(text, ",") {
		n := len(out)
		for _, t := range targets {
			if word == t.String() || word == t.os+"/"+t.arch {
				out = append(out, t)
			}
		}
		if len(out) == n {
			return nil, fmt.Errorf("-only %s: there is no such build; there are: %v", word, targets)
		}
	}
	return out, nil
}

// environment returns what the build of t needs, or why it cannot be built here.
func (t target) environment() (env []string, why string) {
	env = []string{"GOOS=" + t.os, "GOARCH=" + t.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOWORK=off"}
	if !t.cgo {
		return append(env, "CGO_ENABLED=0"), ""
	}
	env = append(env, "CGO_ENABLED=1", "CGO_CFLAGS=-O2 -g0 -Wno-deprecated-declarations")
	if t.os == runtime.GOOS && t.arch == runtime.GOARCH {
		return env, ""
	}
	cc := crossCompilers[t.os+"/"+t.arch]
	if _, err := exec.LookPath(cc); err != nil {
		return nil, "it needs the C compiler " + cc
	}
	return append(env, "CC="+cc), ""
}

// carry makes the flags with which the program is compiled with the library of ONNX Runtime in it.
func (t target) carry(work string, wheel *ortlib.Wheel) ([]string, error) {
	place, err := filepath.Abs(filepath.Join("internal", "ort", "ortlib", "embedded", "onnxruntime"))
	if err != nil {
		return nil, err
	}
	lib, overlay := filepath.Join(work, t.arch+".library"), filepath.Join(work, t.arch+".overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {place: lib}})
	if err != nil {
		return nil, err
	}
	return []string{"-tags", "lapidary_embedded", "-overlay", overlay}, errors.Join(os.WriteFile(lib, wheel.Library, 0o600), os.WriteFile(overlay, text, 0o600))
}

// compile builds the program. Paths of this machine, time and state of the checkout do not get into it, but version and commit.
func (r *release) compile(ctx context.Context, program string, t target, env []string, flags ...string) error {
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		return err
	}
	link := "-s -w -buildid= -X main.released=" + r.version + " -X main.releasedCommit=" + r.commit
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", link, "-o", program}, flags...)
	c := exec.CommandContext(ctx, "go", append(args, "./cmd/lapidary")...)
	c.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "CGO_") || strings.HasPrefix(s, "GOFLAGS=") }), env...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}
