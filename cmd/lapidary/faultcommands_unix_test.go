//go:build unix

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/audit"
	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// runtimeLibrary is ONNX Runtime, "" where it is not installed.
func runtimeLibrary() string {
	cache, _ := os.UserCacheDir()
	choice, err := ortlib.Which(context.Background(), ortlib.Search{Env: ortlib.Env{
		CacheDir: cache, Library: os.Getenv("LAPIDARY_ORT_LIB"), Vars: os.Environ()}})
	if err != nil {
		return ""
	}
	return choice.Path
}

func faultyCommands() []*faultyCommand {
	const model, other = "$DATA/tabular-mlp.onnx", "$DATA/digits-cnn.onnx"
	oldModel := func(more ...string) [][]string {
		return [][]string{append([]string{"fuse", other, "-o", "out.onnx", "--no-verify", "-q"}, more...)}
	}
	keys := []string{"keygen", "k", "--unencrypted"}
	var forms []string
	for _, f := range report.Formats() {
		forms = append(forms, "r/"+f.File)
	}
	evidence := []string{"r/evidence.dsse.json", "r/evidence.sigstore.json", "r/evidence.test-result.sigstore.json", "r/model.sig", "r/evidence.jsonl"}
	library := []string{installed + "libonnxruntime.so." + ortlib.Version, installed + "libonnxruntime.so.1", installed + ortlib.ManifestName}
	judge := func(samples string, more ...string) []string {
		return append([]string{"validate", model, model, "--data", "$DATA/tabular-val.npz", "--limit", samples, "--no-latency", "--no-explain", "--max-drop", "50pt"}, more...)
	}
	return []*faultyCommand{
		{name: "fuse", setup: oldModel(), outputs: []string{"out.onnx"},
			args: []string{"fuse", model, "-o", "out.onnx", "--no-verify", "-q"}},
		{name: "quantize", setup: oldModel(), outputs: []string{"out.onnx"},
			args: []string{"quantize", model, "-o", "out.onnx", "--to", "int4", "--no-verify", "-q"}},
		{name: "prune", setup: oldModel(), outputs: []string{"out.onnx"},
			args: []string{"prune", model, "-o", "out.onnx", "--sparsity", "0.5", "--no-verify", "-q"}},
		{name: "prune with external data", setup: oldModel("--external-data", "always"), outputs: []string{"out.onnx"},
			args: []string{"prune", model, "-o", "out.onnx", "--sparsity", "0.5", "--no-verify", "-q", "--external-data", "always"}},
		{name: "sign", setup: [][]string{keys, {"sign", other, "--key", "k.key", "-o", "out.sig"}}, outputs: []string{"out.sig"},
			args: []string{"sign", model, "--key", "k.key", "-o", "out.sig"}, whole: signedWhole("out.sig")},
		{name: "keygen", setup: [][]string{{"keygen", "other", "--unencrypted"}}, outputs: []string{"k.key", "k.pub"},
			args: keys, next: []string{"keygen", "next", "--unencrypted"}, whole: keysWhole},
		{name: "policy lock", setup: [][]string{keys, lockArgs("locked.json", "1")}, outputs: []string{"locked.json"},
			args: lockArgs("locked.json", "2"), whole: signedWhole("locked.json")},
		{name: "validate --report", runtime: true, setup: [][]string{keys, judge("30", "--report", "r", "--sign", "k.key")},
			outputs: append(forms[:len(forms):len(forms)], evidence...), args: judge("40", "--report", "r", "--sign", "k.key"), whole: evidenceWhole},
		{name: "report -o", runtime: true, setup: [][]string{judge("40", "--report", "source"), judge("30", "--report", "r")},
			outputs: forms, args: []string{"report", "source/report.json", "-o", "r"}, whole: formsWhole},
		{name: "audit append", setup: [][]string{keys, {"sign", other, "--key", "k.key", "-o", "a.sig", "--audit-log", "log.jsonl"}}, outputs: []string{"log.jsonl"},
			args: []string{"verify", "a.sig", "--key", "k.pub", "--audit-log", "log.jsonl"}, whole: logWhole},
		{name: "runtime install", platform: "linux/amd64", all: true, prepare: otherLibrary, outputs: library, args: installArgs("other.so"), whole: libraryWhole},
		{name: "runtime install over another", platform: "linux/amd64", all: true, setup: [][]string{installArgs("$DATA/../internal/ort/ortlib/testdata/libonnxruntime.so")},
			prepare: otherLibrary, outputs: library, args: installArgs("other.so"), whole: libraryWhole},
	}
}

func lockArgs(output, seed string) []string {
	return []string{"policy", "lock", "$DATA/../cmd/lapidary/testdata/faults-policy.yaml", "--data", "$DATA/tabular-val.npz", "--seed", seed, "--key", "k.key", "-o", output}
}

// installed is the folder of the library that is installed.
const installed = "cache/lapidary/runtime/" + ortlib.Version + "/linux-amd64/"

// installArgs installs a library of no code, whose content [otherLibrary] makes.
func installArgs(from string) []string {
	lib := fakeLibrary()
	if from == "other.so" {
		lib = append(lib, 0)
	}
	return []string{"runtime", "install", "--force", "--from", from, "--sha256", fmt.Sprintf("%x", sha256.Sum256(lib))}
}

func fakeLibrary() []byte {
	b, _ := os.ReadFile("../../internal/ort/ortlib/testdata/libonnxruntime.so")
	return b
}

// otherLibrary writes the library that is installed over the one there.
func otherLibrary(r *faultsRun) error {
	return os.WriteFile(r.path("other.so"), append(fakeLibrary(), 0), 0o600)
}

// libraryWhole holds that the files of the library are those of its manifest.
func libraryWhole(r *faultsRun) error {
	if !exists(r.path(installed)) {
		return nil
	}
	v, err := ortlib.Verify(context.Background(), r.path(installed))
	if err == nil && !v.OK() {
		err = errors.New(strings.Join(v.Problems, "; "))
	}
	return err
}

// signedWhole holds that a file, where it is there, is one that k signed.
func signedWhole(name string) func(*faultsRun) error {
	return func(r *faultsRun) error {
		b, err := os.ReadFile(r.path(name))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		key, err := attest.LoadPublicKey(r.path("k.pub"))
		if err == nil {
			_, err = attest.Verify(b, []attest.PublicKey{key})
		}
		return err
	}
}

// keysWhole holds that keys which are there can be read, and belong together.
func keysWhole(r *faultsRun) error {
	private, err := attest.LoadPrivateKey(r.path("k.key"), nil)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(r.path("k.pub")); err == nil {
			return errors.New("a public key without its private one")
		}
		return nil
	}
	if err != nil {
		return err
	}
	public, err := attest.LoadPublicKey(r.path("k.pub"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && public.Fingerprint() != private.PublicKey().Fingerprint() {
		err = errors.New("the two keys do not belong together")
	}
	return err
}

// formsWhole holds that a folder with a report.json has the other forms of that report.
func formsWhole(r *faultsRun) error {
	now := r.files()
	if _, ok := now["r/report.json"]; !ok {
		return nil
	}
	want := r.old
	if now["r/report.json"] == r.fresh["r/report.json"] {
		want = r.fresh
	}
	for _, name := range r.c.outputs {
		if now[name] != want[name] {
			return fmt.Errorf("%s is not of the report in r/report.json", name)
		}
	}
	return nil
}

// evidenceWhole holds that evidence which is there is signed, and lies beside the
// report that it is about.
func evidenceWhole(r *faultsRun) error {
	for _, name := range []string{"r/evidence.sigstore.json", "r/evidence.dsse.json", "r/model.sig"} {
		if err := signedWhole(name)(r); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if _, err := os.Stat(r.path("r/evidence.sigstore.json")); err != nil {
		return nil
	}
	code, stderr := r.lapidary([]string{"verify", "r/evidence.sigstore.json", "--key", "k.pub"}, nil)
	if code == exitRejected || code == exitFailed {
		return fmt.Errorf("verify: %s", stderr)
	}
	return nil
}

// logWhole holds that the log's chain is whole.
func logWhole(r *faultsRun) error {
	_, err := audit.Verify(r.path("log.jsonl"), "")
	return err
}
