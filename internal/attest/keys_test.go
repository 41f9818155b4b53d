package attest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// der ends the test where marshalling a key fails.
func der(t *testing.T) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func TestKeyFiles(t *testing.T) {
	passphrase := func() ([]byte, error) { return []byte("correct horse"), nil }
	tests := map[string]struct {
		options KeyOptions
		header  string
	}{
		"encrypted":   {KeyOptions{Passphrase: passphrase}, "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"},
		"unencrypted": {KeyOptions{Unencrypted: true}, "-----BEGIN PRIVATE KEY-----\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			prefix := filepath.Join(t.TempDir(), "signer")
			key := newKey(t)
			if err := key.WriteFiles(prefix, tt.options); err != nil {
				t.Fatal(err)
			}
			checkKeyFile(t, prefix+".key", tt.header, 0o600)
			checkKeyFile(t, prefix+".pub", "-----BEGIN PUBLIC KEY-----\n", 0o644)
			private, err := LoadPrivateKey(prefix+".key", tt.options.Passphrase)
			if err != nil {
				t.Fatal(err)
			}
			public, err := LoadPublicKey(prefix + ".pub")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Verify(sign(t, private, testStatement()).Bundle, []PublicKey{public}); err != nil {
				t.Error(err)
			}
			if public.Fingerprint() != key.PublicKey().Fingerprint() {
				t.Error("the public key is another")
			}
		})
	}
}

func checkKeyFile(t *testing.T, path, header string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(data), header) {
		t.Errorf("%s begins with %.40q, want %q", path, data, header)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&^0o022 != mode&^0o022 {
		t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), mode)
	}
}

func TestWriteFilesKeepsExisting(t *testing.T) {
	for _, existing := range []string{"signer.key", "signer.pub"} {
		t.Run(existing, func(t *testing.T) {
			dir := t.TempDir()
			putFile(t, filepath.Join(dir, existing), "theirs")
			asked := false
			err := newKey(t).WriteFiles(filepath.Join(dir, "signer"), KeyOptions{
				Passphrase: func() ([]byte, error) { asked = true; return []byte("x"), nil },
			})
			if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), existing) {
				t.Errorf("error %v, want fs.ErrExist for %s", err, existing)
			}
			if asked {
				t.Error("a passphrase was asked for in vain")
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(dir, existing))
			if err != nil {
				t.Fatal(err)
			}
			if len(entries) != 1 || string(data) != "theirs" {
				t.Errorf("%d files, %s holds %q; want it alone and as it was", len(entries), existing, data)
			}
		})
	}
}

func TestWriteFilesRefused(t *testing.T) {
	failed := errors.New("no terminal")
	tests := map[string]struct {
		options KeyOptions
		want    string
	}{
		"no choice":        {KeyOptions{}, "give a passphrase"},
		"both":             {KeyOptions{Unencrypted: true, Passphrase: func() ([]byte, error) { return []byte("x"), nil }}, "choose one"},
		"empty passphrase": {KeyOptions{Passphrase: func() ([]byte, error) { return nil, nil }}, "passphrase is empty"},
		"no passphrase":    {KeyOptions{Passphrase: func() ([]byte, error) { return nil, failed }}, "no terminal"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := newKey(t).WriteFiles(filepath.Join(dir, "signer"), tt.options)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
				t.Errorf("%d files were left (%v)", len(entries), err)
			}
		})
	}
	t.Run("no folder", func(t *testing.T) {
		err := newKey(t).WriteFiles(filepath.Join(t.TempDir(), "no", "signer"), KeyOptions{Unencrypted: true})
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "signer.key") {
			t.Errorf("error %v, want one that names signer.key", err)
		}
	})
}

// TestWriteNewRace has a file appear between the check and the writing.
func TestWriteNewRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signer.key")
	putFile(t, path, "theirs")
	if err := writeNew(path, []byte("ours"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v, want fs.ErrExist", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "theirs" {
		t.Errorf("the file holds %q (%v), want it as it was", data, err)
	}
}

// TestParsePrivateKey has the forms in which other tools store a P-256 key.
func TestParsePrivateKey(t *testing.T) {
	key := newKey(t)
	sec1 := block("EC PRIVATE KEY", der(t)(x509.MarshalECPrivateKey(key.key)))
	pkcs8 := block("PRIVATE KEY", der(t)(x509.MarshalPKCS8PrivateKey(key.key)))
	secret := func() ([]byte, error) { return []byte("secret"), nil }
	box, err := key.marshal(KeyOptions{Passphrase: secret})
	if err != nil {
		t.Fatal(err)
	}
	parameters := block("EC PARAMETERS", []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7})
	tests := map[string][]byte{
		"SEC 1":                       sec1,
		"SEC 1 after its parameters":  append(bytes.Clone(parameters), sec1...),
		"PKCS#8":                      pkcs8,
		"PKCS#8 among text":           append([]byte("a key\n"), pkcs8...),
		"encrypted":                   box,
		"encrypted by an old cosign":  bytes.ReplaceAll(box, []byte("SIGSTORE"), []byte("COSIGN")),
		"with Windows's line endings": bytes.ReplaceAll(pkcs8, []byte("\n"), []byte("\r\n")),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParsePrivateKey(data, secret)
			if err != nil {
				t.Fatal(err)
			}
			if !got.key.Equal(key.key) {
				t.Error("another key came back")
			}
		})
	}
}

func TestParsePrivateKeyRefused(t *testing.T) {
	key := newKey(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := block("PRIVATE KEY", der(t)(x509.MarshalPKCS8PrivateKey(key.key)))
	good := func() ([]byte, error) { return []byte("good"), nil }
	wrong := func() ([]byte, error) { return []byte("wrong"), nil }
	failed := func() ([]byte, error) { return nil, errors.New("no terminal") }
	box, err := key.marshal(KeyOptions{Passphrase: good})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		data       []byte
		passphrase func() ([]byte, error)
		want       string
	}{
		"empty":                {nil, nil, "not in PEM format"},
		"no PEM":               {[]byte("hello"), nil, "not in PEM format"},
		"P-384 as PKCS#8":      {block("PRIVATE KEY", der(t)(x509.MarshalPKCS8PrivateKey(p384))), nil, "ECDSA P-384 key"},
		"P-384 as SEC 1":       {block("EC PRIVATE KEY", der(t)(x509.MarshalECPrivateKey(p384))), nil, "ECDSA P-384 key"},
		"Ed25519":              {block("PRIVATE KEY", der(t)(x509.MarshalPKCS8PrivateKey(ed))), nil, "Ed25519 key"},
		"RSA":                  {block("PRIVATE KEY", der(t)(x509.MarshalPKCS8PrivateKey(rsaKey))), nil, "RSA key"},
		"public key":           {key.PublicKey().PEM(), nil, "want a private key"},
		"two keys":             {append(bytes.Clone(pkcs8), pkcs8...), nil, "more than one"},
		"text after":           {append(bytes.Clone(pkcs8), "text"...), nil, "something after"},
		"damaged":              {block("PRIVATE KEY", []byte{1, 2}), nil, "not a private key"},
		"damaged SEC 1":        {block("EC PRIVATE KEY", []byte{1, 2}), nil, "not a private key"},
		"PKCS#8 box damaged":   {block("ENCRYPTED PRIVATE KEY", []byte{1}), good, "damaged, or of an old kind"},
		"PKCS#8 nobody to ask": {[]byte(opensslKey), nil, "no passphrase was given"},
		"PKCS#8 wrong":         {[]byte(opensslKey), wrong, "wrong passphrase"},
		"PKCS#8 empty":         {[]byte(opensslKey), func() ([]byte, error) { return nil, nil }, "wrong passphrase"},
		"PKCS#8 too expensive": {block("ENCRYPTED PRIVATE KEY", costly(t, opensslDER())), good, "2147483647 iterations of PBKDF2"},
		"PKCS#8 half a block":  {block("ENCRYPTED PRIVATE KEY", halfBlock(opensslDER())), good, "its encryption is damaged"},
		"encrypted SEC 1": {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1},
			Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}}), nil, "old format of openssl"},
		"other block":        {block("X", []byte{1}), nil, `PEM block "X"`},
		"nobody to ask":      {box, nil, "no passphrase was given"},
		"wrong passphrase":   {box, wrong, "wrong passphrase"},
		"no passphrase":      {box, failed, "no terminal"},
		"box no JSON":        {block("ENCRYPTED SIGSTORE PRIVATE KEY", []byte("x")), good, "damaged"},
		"box too expensive":  {expensive(t, box), good, "unsupported scrypt parameters"},
		"box without a key":  {block("ENCRYPTED SIGSTORE PRIVATE KEY", []byte("{}")), good, "unknown kdf"},
		"box with no cipher": {block("ENCRYPTED SIGSTORE PRIVATE KEY", []byte(`{"kdf":{"name":"scrypt"}}`)), good, "unknown cipher"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParsePrivateKey(tt.data, tt.passphrase)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if got != nil {
				t.Error("there is a key beside the error")
			}
		})
	}
}

// opensslKey is a key that openssl 3 encrypted with the passphrase "secret" and 1000
// iterations, and opensslPublic its public half.
const (
	opensslKey = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg5/obGpqmO7AICA+gw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEENFYx9TnFaTVzKuPhLtTYKwEgZBF
27NxbENF4cZkHc4p9DSVFRkaWIx/IgXq4jzCMZIDJ81NczLOt1UpZo4SkSImEHc6
7LIJKV5gODB19z5u6yQrO2WPlJzsvVL1QCiB4PWu4Aqat84BwSRHpJRG8zjSHGTG
/C1g2jk7bvy0bsF0Sqc/x05Ywj6Rp5x6LjedJ49d/4t1DiBse0QRi1nTx+AFCfk=
-----END ENCRYPTED PRIVATE KEY-----
`
	opensslPublic = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEuzBbHjEpaDdA2S4OYspDCNc6a4IW
Si4OX0MSCL7aJQEYT4Cu2ZmE0z953HDB6Y3tHMOT5425uRew+Mf/MkYTDA==
-----END PUBLIC KEY-----
`
)

// opensslDER returns what is inside opensslKey.
func opensslDER() []byte {
	b, _ := pem.Decode([]byte(opensslKey))
	return b.Bytes
}

// costly raises the iterations of an encrypted key to more than 2^30.
func costly(t *testing.T, data []byte) []byte {
	t.Helper()
	thousand, billion := []byte{2, 2, 0x03, 0xe8}, []byte{2, 4, 0x7f, 0xff, 0xff, 0xff}
	if !bytes.Contains(data, thousand) {
		t.Fatal("the key does not have the iterations asked for")
	}
	data = bytes.Replace(data, thousand, billion, 1)
	for _, at := range lengthsBefore(data, bytes.Index(data, billion)) {
		data[at] += 2
	}
	return data
}

// halfBlock cuts the encrypted key where no block ends.
func halfBlock(data []byte) []byte {
	data = data[:len(data)-8]
	data[2] -= 8  // of the whole
	data[94] -= 8 // of the encrypted key
	return data
}

// lengthsBefore returns where the lengths of the DER values around a place stand, all
// of which are shorter than 128 bytes or given in one more byte.
func lengthsBefore(data []byte, place int) []int {
	var out []int
	for i := 0; i < place; {
		length := i + 1
		if data[length] >= 0x80 {
			length++
		}
		if end := length + 1 + int(data[length]); data[i]&0x20 != 0 && end > place {
			out = append(out, length)
			i = length + 1
			continue
		}
		i = length + 1 + int(data[length])
	}
	return out
}

func TestEncryptedPKCS8(t *testing.T) {
	got, err := ParsePrivateKey([]byte(opensslKey), func() ([]byte, error) { return []byte("secret"), nil })
	if err != nil || string(got.PublicKey().PEM()) != opensslPublic {
		t.Errorf("key %v, %v; want the one of\n%s", got, err, opensslPublic)
	}
}

// TestOpenSSLKeys reads what openssl writes.
func TestOpenSSLKeys(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl on the PATH")
	}
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.key")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Skipf("openssl %v: %v\n%s", args, err, out)
		}
	}
	run("ecparam", "-name", "prime256v1", "-genkey", "-out", plain) // SEC 1 after its parameters
	want, err := LoadPrivateKey(plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, how := range map[string][]string{
		"default":       nil,
		"AES, SHA-512":  {"-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512"},
		"AES-128":       {"-v2", "aes-128-cbc"},
		"3DES":          {"-v2", "des3"},
		"SHA-1":         {"-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"},
		"scrypt":        {"-scrypt"},
		"not encrypted": {"-nocrypt"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "k.key")
			run(append([]string{"pkcs8", "-topk8", "-in", plain, "-out", path, "-passout", "pass:secret"}, how...)...)
			got, err := LoadPrivateKey(path, func() ([]byte, error) { return []byte("secret"), nil })
			if err != nil {
				t.Fatal(err)
			}
			if !got.key.Equal(want.key) {
				t.Error("another key came back")
			}
		})
	}
}

// expensive raises the cost that a box asks for beyond what anyone could pay.
func expensive(t *testing.T, box []byte) []byte {
	t.Helper()
	b, _ := pem.Decode(box)
	raised := bytes.Replace(b.Bytes, []byte(`"N":65536`), []byte(`"N":1073741824`), 1)
	if bytes.Equal(raised, b.Bytes) {
		t.Fatalf("the box does not have cosign's cost: %s", b.Bytes)
	}
	return block(b.Type, raised)
}

func TestParsePublicKeyRefused(t *testing.T) {
	key := newKey(t)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		data []byte
		want string
	}{
		"empty":       {nil, "not in PEM format"},
		"P-521":       {block("PUBLIC KEY", der(t)(x509.MarshalPKIXPublicKey(&p521.PublicKey))), "ECDSA P-521 key"},
		"private key": {block("PRIVATE KEY", der(t)(x509.MarshalPKCS8PrivateKey(key.key))), `PEM block "PRIVATE KEY"`},
		"two keys":    {append(key.PublicKey().PEM(), newKey(t).PublicKey().PEM()...), "more than one"},
		"damaged":     {block("PUBLIC KEY", []byte{0}), "not a public key"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ParsePublicKey(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestLoadKeyRefused(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	putFile(t, large, strings.Repeat("x", maxKeyFile+1))
	text := filepath.Join(dir, "text")
	putFile(t, text, "text")
	tests := map[string]struct{ path, want string }{
		"missing":   {filepath.Join(dir, "absent"), "absent"},
		"too large": {large, "more than 65536 bytes"},
		"no key":    {text, text + ": it is not in PEM format"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := LoadPrivateKey(tt.path, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("private: error %v, want %q", err, tt.want)
			}
			if _, err := LoadPublicKey(tt.path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("public: error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPrivateKeySign(t *testing.T) {
	key := newKey(t)
	digest := sha256.Sum256([]byte("x"))
	sig, err := key.Sign(context.Background(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(&key.key.PublicKey, digest[:], sig) || len(sig) > maxSignature {
		t.Errorf("signature %x is not one of ECDSA P-256 in DER", sig)
	}
}
