package signer

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/attest"
)

func TestParseTokenURI(t *testing.T) {
	slot := uint(3)
	tests := map[string]tokenURI{
		"pkcs11:token=My%20token;object=k?module-path=/m.so":                              {module: "/m.so", token: "My token", object: "k"},
		"pkcs11:id=%01%ff;slot-id=3;type=private?module-path=/m.so":                       {module: "/m.so", id: "\x01\xff", slot: &slot},
		"pkcs11:manufacturer=M;model=N;serial=S+1;object=a%3Bb?module-path=/with%20space": {module: "/with space", manufacturer: "M", model: "N", serial: "S+1", object: "a;b"},
	}
	for uri, want := range tests {
		got, err := parseTokenURI(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		if diff := cmp.Diff(want, *got, cmp.AllowUnexported(tokenURI{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", uri, diff)
		}
	}
	for uri, want := range map[string]string{
		"pkcs11:":                                       "no module-path",
		"pkcs11:object=k":                               "no module-path",
		"pkcs11:object=k?module-path=m.so":              "not absolute",
		"pkcs11:token=t?module-path=/m.so":              "names no key",
		"pkcs11:object=k;object=l?module-path=/m.so":    "appears twice",
		"pkcs11:object?module-path=/m.so":               "not NAME=VALUE",
		"pkcs11:object=%zz?module-path=/m.so":           "not NAME=VALUE",
		"pkcs11:slot-id=x;object=k?module-path=/m.so":   "not a number",
		"pkcs11:type=public;object=k?module-path=/m.so": "only a private key signs",
		"pkcs11:colour=red?module-path=/m.so":           `"colour" is not known`,
		"pkcs11:object=k?module-name=m":                 `"module-name" is not known`,
		"pkcs11:object=k?pin-value=1234":                "other users of the machine can see",
		"pkcs11:object=k;pin-value=1234":                "other users of the machine can see",
		"pkcs11:object=k?PIN-VALUE=1234":                "other users of the machine can see",
		"pkcs11:object=k?module-path=/m.so&1234":        "attribute 2 of its query is not NAME=VALUE",
		"pkcs11:object=k?pin=1234%zz":                   "attribute 1 of its query is not NAME=VALUE",
	} {
		_, err := parseTokenURI(uri)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "1234") {
			t.Errorf("%s: error %v, want %q", uri, err, want)
		}
	}
}

// script writes a program.
func script(t *testing.T, text string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("no shell scripts")
	}
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestProgram has a program that keeps what it is asked to sign, and says something.
func TestProgram(t *testing.T) {
	key, err := attest.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	public, raw, message := filepath.Join(dir, "pub"), filepath.Join(dir, "raw"), filepath.Join(dir, "message")
	if err := os.WriteFile(public, key.PublicKey().PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	sig := append(bytes.Repeat([]byte{0}, 31), 1) // r = 1
	sig = append(sig, append(bytes.Repeat([]byte{0xff}, 31), 2)...)
	if err := os.WriteFile(raw, sig, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LAPIDARY_KEY_PASSPHRASE", "4711")
	path := script(t, `echo "touch the token" >&2
case "$LAPIDARY_KEY_PASSPHRASE$*" in *4711*) echo "there is the passphrase" >&2 ;; esac
case $1 in
public-key) cat `+public+` ;;
sign) cat >`+message+`; printf %s "$LAPIDARY_SHA256" >`+message+`.hex; cat `+raw+` ;;
esac`)
	var told bytes.Buffer
	s, err := Open(context.Background(), "exec:"+path, Options{Messages: &told})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.PublicKey().Fingerprint() != key.PublicKey().Fingerprint() {
		t.Error("another public key")
	}
	got, err := s.Sign(context.Background(), []byte("abc"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := derSignature(sig)
	if err != nil || !bytes.Equal(got, want) || !isDER(got) {
		t.Errorf("signature %x, want %x (%v)", got, want, err)
	}
	for path, want := range map[string]string{message: "abc", message + ".hex": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("the program got %q (%v), want %q", b, err, want)
		}
	}
	if told.String() != "touch the token\ntouch the token\n" {
		t.Errorf("the user was told %q", told.String())
	}
}

// TestProgramCancelled ends a program that waits for ever.
func TestProgramCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	path := script(t, "echo started >&2; exec sleep 600")
	_, err := Open(ctx, "exec:"+path, Options{Messages: writerFunc(func(p []byte) { cancel() })})
	if err != context.Canceled {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

func TestOpenFile(t *testing.T) {
	key, err := attest.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(t.TempDir(), "k")
	if err := key.WriteFiles(prefix, attest.KeyOptions{Passphrase: func() ([]byte, error) { return []byte("secret"), nil }}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), prefix+".key", Options{Secret: func(name string) ([]byte, error) { return []byte("secret"), nil }})
	if err != nil || s.PublicKey().Fingerprint() != key.PublicKey().Fingerprint() {
		t.Errorf("key %v, %v", s, err)
	}
	if _, err := Open(context.Background(), prefix+".key", Options{}); err == nil || !strings.Contains(err.Error(), "no passphrase was given") {
		t.Errorf("error %v, want one about the passphrase", err)
	}
}
