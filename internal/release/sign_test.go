package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/attest"
)

// TestSign signs a release by an encrypted key file and by a program, and checks both signatures.
func TestSign(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not here")
	}
	dir := t.TempDir()
	prefix, plain := filepath.Join(dir, "owner"), filepath.Join(dir, "plain")
	key, err := attest.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := key.WriteFiles(prefix, attest.KeyOptions{Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil }}); err != nil {
		t.Fatal(err)
	}
	if err := key.WriteFiles(plain, attest.KeyOptions{Unencrypted: true}); err != nil {
		t.Fatal(err)
	}
	program, err := filepath.Abs(filepath.Join("..", "..", "docs", "signers", "openssl-key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{prefix + ".key", "exec:" + program} {
		t.Setenv(passphraseVariable, "correct horse")
		t.Setenv("KEY", plain+".key")
		owner, err := openOwner(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, is := os.LookupEnv(passphraseVariable); is {
			t.Error("the compiler sees the passphrase")
		}
		r := &release{out: filepath.Join(t.TempDir(), "dist")}
		os.Mkdir(r.out, 0o755)
		os.WriteFile(filepath.Join(r.out, "a.tar.gz"), []byte("archive"), 0o644)
		if err := r.sums(); err != nil {
			t.Fatal(err)
		}
		if err := r.sign(t.Context(), owner); err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		owner.Close()
		sums := filepath.Join(r.out, sumsFile)
		if out, err := exec.CommandContext(t.Context(), openssl, "dgst", "-sha256", "-verify", prefix+".pub", "-signature", sums+".sig", sums).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", spec, err, out)
		}
		checkBundle(t, r.out, key.PublicKey())
	}
}

// checkBundle looks at release.sig: it lists every other file of the folder.
func checkBundle(t *testing.T, dir string, key attest.PublicKey) {
	t.Helper()
	bundle, err := os.ReadFile(filepath.Join(dir, signatureFile))
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.Verify(bundle, []attest.PublicKey{key})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range v.Files() {
		names = append(names, f.Name)
	}
	if d := cmp.Diff([]string{sumsFile, sumsSignature, "a.tar.gz"}, names); d != "" {
		t.Errorf("signed files (-want +got):\n%s", d)
	}
}

// TestOpenOwner: a key that cannot be had is told before anything is built.
func TestOpenOwner(t *testing.T) {
	out := filepath.Join(t.TempDir(), "dist")
	r := &release{version: "v1.2.3", out: out}
	if err := r.run(t.Context(), "linux/amd64-cgo", filepath.Join(t.TempDir(), "none.key")); err == nil || !strings.Contains(err.Error(), "-key: ") {
		t.Errorf("%v", err)
	}
	if list, _ := os.ReadDir(out); len(list) > 0 {
		t.Errorf("built %v", list)
	}
}
