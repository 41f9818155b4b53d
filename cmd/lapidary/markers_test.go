package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// The markers of what must not come out: of a passphrase, of a sample, and of names that --redact hides.
const (
	markedPassphrase = "zqpassphrasezq"
	markedValue      = "31337.15625"
	markedColumn     = "zqcolumnzq"
	markedData       = "zqdatazq"
	markedModel      = "zqmodelzq"
)

// TestNothingLeaks runs the main job with marked secrets, data and names, and searches all that it prints and writes for them.
func TestNothingLeaks(t *testing.T) {
	m := &marked{t: t, dir: t.TempDir(), lib: zootest.Library(t)}
	model, data := m.prepare()
	sample, secret := []string{markedPassphrase, markedValue}, []string{markedPassphrase, markedValue, markedColumn, markedData, markedModel}

	m.run(sample, 0, "keygen", "key")
	m.run(sample, 0, "profile", model, "--static")
	m.run(sample, 0, "fuse", model, "-o", "fused.onnx", "--data", data, "--no-measure", "-v")
	m.run(sample, 0, "quantize", "fused.onnx", "-o", "int8.onnx", "--data", data, "--limit=64", "--for=size", "--explain", "--layers=layers.html")
	validate := []string{"validate", model, "int8.onnx", "--data", data, "--skip=64", "--latency-budget=1s", "--explain-samples=3", "--max-drop=50pt", "--sign=key.key"}
	m.run(sample, 0, append(validate, "--report=open")...)
	m.run(sample, 0, "verify", "open/evidence.sigstore.json", "--key=key.pub", "--model=int8.onnx")
	m.run(sample, 0, "report", "open/evidence.sigstore.json", "--key=key.pub", "-o", "again")
	m.run(sample, 0, "sign", "int8.onnx", "--key=key.key")
	m.token(sample, "int8.onnx")
	m.run(sample, 0, "audit", "show")
	m.run(sample, 0, "doctor")
	m.search(sample, model, data)

	printed := m.run(sample, 0, append(validate, "--report=redacted", "--redact")...)
	m.find(printed, "what validate --redact prints", secret)
	m.searchIn("redacted", secret)
}

// marked is a folder in which commands run.
type marked struct {
	t        *testing.T
	dir, lib string
}

// prepare copies a model and its data under marked names; two samples have the marked value.
func (m *marked) prepare() (model, data string) {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "tabular-mlp.onnx"))
	csv, err2 := os.ReadFile(filepath.Join("..", "..", "testdata", "tabular-val.csv"))
	if err = errors.Join(err, err2); err != nil {
		m.t.Fatal(err)
	}
	lines := bytes.SplitAfter(csv, []byte("\n"))
	lines[0] = bytes.Replace(lines[0], []byte("mean_radius"), []byte(markedColumn), 1)
	for _, row := range []int{1, 100} { // one that calibrates, one that is judged
		_, rest, _ := bytes.Cut(lines[row], []byte(","))
		lines[row] = append([]byte(markedValue+","), rest...)
	}
	model, data = markedModel+".onnx", markedData+".csv"
	for name, text := range map[string][]byte{model: b, data: bytes.Join(lines, nil)} {
		if err := os.WriteFile(filepath.Join(m.dir, name), text, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	return model, data
}

// run runs a command, with the passphrase in its environment, and returns what it printed, which may have none of the markers.
func (m *marked) run(markers []string, code int, args ...string) []byte {
	m.t.Helper()
	c := exec.CommandContext(m.t.Context(), "lapidary", append(args, "--audit-log=audit.log")...)
	c.Dir = m.dir
	c.Env = append(os.Environ(), "LAPIDARY_ORT_LIB="+m.lib, passphraseVariable+"="+markedPassphrase)
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		m.t.Fatal(err)
	}
	if got := c.ProcessState.ExitCode(); got != code {
		m.t.Errorf("%v: exit code %d, want %d\n%s", args, got, code, out)
	}
	m.find(out, "what "+args[0]+" prints", markers)
	return out
}

// token signs with a key on a token, whose PIN is the passphrase, and gets addresses and PINs wrong.
func (m *marked) token(markers []string, model string) {
	m.t.Helper()
	m.run(markers, 1, "sign", model, "--key=pkcs11:object=k?pin-value="+markedPassphrase+"&module-path=/m.so")
	m.run(markers, 1, "sign", model, "--key=pkcs11:object=k;PIN-value="+markedPassphrase+"%zz?module-path=/m.so")
	m.run(markers, 1, "sign", model, "--key=pkcs11:object=k?module-path=/m.so&"+markedPassphrase)
	m.program(markers, model)
	module := "/usr/lib/softhsm/libsofthsm2.so"
	if _, err := os.Stat(module); err != nil {
		m.t.Log("no SoftHSM 2: no token is tried")
		return
	}
	conf, secret := filepath.Join(m.t.TempDir(), "softhsm2.conf"), m.t.TempDir()
	if err := os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\n", secret), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.t.Setenv("SOFTHSM2_CONF", conf)
	pem := filepath.Join(secret, "key.pem")
	m.run(markers, 0, "keygen", "plain", "--unencrypted")
	if err := os.Rename(filepath.Join(m.dir, "plain.key"), pem); err != nil {
		m.t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--init-token", "--free", "--label", "release", "--so-pin", "so-pin", "--pin", markedPassphrase},
		{"--import", pem, "--token", "release", "--label", "k", "--id", "01", "--pin", markedPassphrase},
	} {
		if out, err := exec.CommandContext(m.t.Context(), "softhsm2-util", args...).CombinedOutput(); err != nil {
			m.t.Fatalf("%v\n%s", err, out)
		}
	}
	key := "pkcs11:token=release;object=k?module-path=" + module
	m.run(markers, 0, "keygen", "token", "--from", key)
	m.run(markers, 0, "sign", model, "--key", key, "-o", "token.sig", "-v")
	m.run(markers, 0, "verify", "token.sig", "--key=token.pub", "--model", model)
	wrong := filepath.Join(secret, "wrong")
	if err := os.WriteFile(wrong, []byte(markedPassphrase+"-not\n"), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.run(markers, 1, "sign", model, "--key", key, "--passphrase-file", wrong, "-o", "wrong.sig", "-v")
}

// program signs with a program, which is asked what it knows.
func (m *marked) program(markers []string, model string) {
	m.t.Helper()
	if runtime.GOOS == "windows" {
		return
	}
	path := filepath.Join(m.t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$*\" >&2\nenv >&2\ncat key.pub\n"), 0o755); err != nil {
		m.t.Fatal(err)
	}
	m.run(markers, 1, "sign", model, "--key=exec:"+path) // it signs nothing
}

// search looks into all files but those that the test brought.
func (m *marked) search(markers []string, but ...string) {
	m.t.Helper()
	for _, b := range but {
		defer func(path string, text []byte) { os.WriteFile(path, text, 0o600) }(m.take(b))
	}
	m.searchIn(".", markers)
}

// take removes a file for a while.
func (m *marked) take(name string) (path string, text []byte) {
	m.t.Helper()
	path = filepath.Join(m.dir, name)
	text, err := os.ReadFile(path)
	if err = errors.Join(err, os.Remove(path)); err != nil {
		m.t.Fatal(err)
	}
	return path, text
}

func (m *marked) searchIn(folder string, markers []string) {
	m.t.Helper()
	files := 0
	err := filepath.WalkDir(filepath.Join(m.dir, folder), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		m.find(b, path, markers)
		return err
	})
	if err != nil || files < 5 {
		m.t.Fatalf("%d files (%v)", files, err)
	}
}

func (m *marked) find(text []byte, where string, markers []string) {
	m.t.Helper()
	for _, marker := range markers {
		if i := strings.Index(strings.ToLower(string(text)), marker); i >= 0 {
			m.t.Errorf("%s has %s: …%s…", where, marker, text[max(0, i-60):min(len(text), i+60)])
		}
	}
}
