package attest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSignBlob: openssl takes the signature for these bytes and for no others.
func TestSignBlob(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not here")
	}
	key, dir := newKey(t), t.TempDir()
	sig, err := SignBlob(t.Context(), key, []byte("sums\n"))
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, data := range map[string][]byte{"key.pub": key.PublicKey().PEM(), "other.pub": newKey(t).PublicKey().PEM(), "sig": sig, "file": []byte("sums\n"), "changed": []byte("sums")} {
		if err := os.WriteFile(path(name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		key, file string
		good      bool
	}{{"key.pub", "file", true}, {"key.pub", "changed", false}, {"other.pub", "file", false}} {
		out, err := exec.CommandContext(t.Context(), openssl, "dgst", "-sha256", "-verify", path(c.key), "-signature", path("sig"), path(c.file)).CombinedOutput()
		if (err == nil) != c.good {
			t.Errorf("%s with %s: %v\n%s", c.file, c.key, err, out)
		}
	}
}

// impostor signs with another key than it says.
type impostor struct{ Signer }

func (s impostor) PublicKey() PublicKey { return PublicKey{} }

// TestSignBlobRefuses: what could be taken for a statement is not signed, and a signature that does not verify is not returned.
func TestSignBlobRefuses(t *testing.T) {
	key := newKey(t)
	for want, c := range map[string]struct {
		s       Signer
		message []byte
	}{
		"it begins as an envelope does": {key, pae([]byte("{}"))},
		"does not verify":               {impostor{key}, []byte("sums")},
	} {
		if sig, err := SignBlob(context.Background(), c.s, c.message); sig != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%x, %v; want %q", sig, err, want)
		}
	}
}
