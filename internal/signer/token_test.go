//go:build cgo

package signer

import (
	"context"
	"encoding/asn1"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/miekg/pkcs11"
)

// softHSM returns the library of SoftHSM 2, a PKCS#11 token in software.
func softHSM(t *testing.T) string {
	t.Helper()
	for _, path := range []string{
		os.Getenv("SOFTHSM2_MODULE"), "/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so",
		"/usr/lib64/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so",
	} {
		if _, err := os.Stat(path); path != "" && err == nil {
			return path
		}
	}
	t.Skip("no SoftHSM 2; install the package softhsm2, or name its library in SOFTHSM2_MODULE")
	return ""
}

const testPIN = "4711-secret"

// newTokens makes two tokens, "release" with some keys and "empty" with none, and
// returns the library.
func newTokens(t *testing.T) string {
	t.Helper()
	module := softHSM(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.MkdirAll(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	lib := pkcs11.New(module)
	if lib == nil {
		t.Fatalf("%s cannot be loaded", module)
	}
	must(t, lib.Initialize())
	defer lib.Destroy()
	defer lib.Finalize()
	for _, label := range []string{"release", "empty"} {
		slots, err := lib.GetSlotList(true)
		must(t, err)
		must(t, lib.InitToken(slots[len(slots)-1], "so-pin", label)) // the last one has no token yet
	}
	slots, err := lib.GetSlotList(true)
	must(t, err)
	for _, slot := range slots {
		info, err := lib.GetTokenInfo(slot)
		must(t, err)
		if info.Label == "" {
			continue
		}
		s, err := lib.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		must(t, err)
		must(t, lib.Login(s, pkcs11.CKU_SO, "so-pin"))
		must(t, lib.InitPIN(s, testPIN))
		must(t, lib.Logout(s))
		if info.Label == "release" {
			must(t, lib.Login(s, pkcs11.CKU_USER, testPIN))
			addKey(t, lib, s, "signing key", "\x01", asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
			addKey(t, lib, s, "twin", "\x02", asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
			addKey(t, lib, s, "twin", "\x03", asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
			addKey(t, lib, s, "p384", "\x04", asn1.ObjectIdentifier{1, 3, 132, 0, 34})
		}
		must(t, lib.CloseSession(s))
	}
	return module
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addKey(t *testing.T, lib *pkcs11.Ctx, s pkcs11.SessionHandle, label, id string, curve asn1.ObjectIdentifier) {
	t.Helper()
	params, err := asn1.Marshal(curve)
	must(t, err)
	common := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(id)),
	}
	public := append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true)}, common...)
	private := append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true)}, common...)
	_, _, err = lib.GenerateKeyPair(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}, public, private)
	must(t, err)
}

// TestToken signs with a key of SoftHSM, found by label and by identifier, and refuses
// what is not one key.
func TestToken(t *testing.T) {
	module := "?module-path=" + url.PathEscape(newTokens(t))
	ctx := context.Background()
	pin := func(pin string) Options {
		return Options{Secret: func(name string) ([]byte, error) {
			if !strings.Contains(name, "release") {
				t.Errorf("the PIN of %q is asked for", name)
			}
			return []byte(pin), nil
		}}
	}
	var keys []string
	for _, uri := range []string{"pkcs11:token=release;object=signing%20key", "pkcs11:token=release;id=%01", "pkcs11:token=release;object=twin;id=%02;type=private"} {
		t.Run(uri, func(t *testing.T) {
			s, err := Open(ctx, uri+module, pin(testPIN))
			must(t, err)
			defer s.Close()
			keys = append(keys, s.PublicKey().Fingerprint())
			for range 20 { // r and s are shorter now and then
				ev, err := attest.Sign(ctx, s, attest.Statement{
					PredicateType: "t", Subjects: []attest.Subject{{Name: "m", SHA256: strings.Repeat("0", 64)}}, Predicate: []byte("{}")})
				must(t, err)
				_, err = attest.Verify(ev.Bundle, []attest.PublicKey{s.PublicKey()})
				must(t, err)
			}
		})
	}
	if len(keys) != 3 || keys[0] != keys[1] || keys[1] == keys[2] {
		t.Errorf("keys %v, want the first two the same and the third another", keys)
	}
	tests := map[string]struct {
		uri, want string
		options   Options
	}{
		"wrong PIN":     {"pkcs11:token=release;id=%01", `the PIN of the token "release" is wrong`, pin("0000")},
		"no PIN":        {"pkcs11:token=release;id=%01", "needs a PIN, and none was given", Options{}},
		"another token": {"pkcs11:token=prod;id=%01", `no token is token "prod", id 01;`, pin(testPIN)},
		"any token":     {"pkcs11:id=%01", "add serial= or slot-id= to choose", pin(testPIN)},
		"no key":        {"pkcs11:token=release;object=other", `no private key token "release", object "other"`, pin(testPIN)},
		"two keys":      {"pkcs11:token=release;object=twin", "add id= to choose one", pin(testPIN)},
		"another curve": {"pkcs11:token=release;object=p384", "only ECDSA P-256 keys are supported", pin(testPIN)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := Open(ctx, tt.uri+module, tt.options)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if s != nil {
				t.Error("there is a key beside the error")
			}
			if err != nil && strings.Contains(err.Error(), testPIN) {
				t.Error("the error tells the PIN")
			}
		})
	}
}

func TestTokenLibrary(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.so")
	must(t, os.WriteFile(text, []byte("text"), 0o644))
	for path, want := range map[string]string{text: "is no PKCS#11 module", text + "x": "no such file"} {
		if _, err := Open(context.Background(), "pkcs11:id=1?module-path="+path, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", path, err, want)
		}
	}
}
