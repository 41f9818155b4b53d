package attest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// verifier returns the path of another verifier: that on the PATH, or that which
// "make interop" put into the user's cache under lapidary.
func verifier(t *testing.T, name, cached string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("no %s on the PATH, and no cache to look in: %v", name, err)
	}
	path := filepath.Join(cache, "lapidary", cached)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no %s on the PATH or at %s; \"make interop\" puts it there (minutes, network)", name, path)
	}
	return path
}

// cosign runs the command in a folder of its own, without a network: in an empty
// network namespace where the system allows one, and always behind a proxy that
// does not answer.
type cosign struct {
	t    *testing.T
	argv []string
	dir  string
}

func newCosign(t *testing.T) *cosign {
	return newCosignOf(t, "cosign", "v3.1.3", "v3.")
}

// newCosignOf has the command of that name, whose version begins with want.
func newCosignOf(t *testing.T, name, version, want string) *cosign {
	c := &cosign{t: t, argv: []string{verifier(t, name, "cosign-"+version+"/cosign")}, dir: t.TempDir()}
	if exec.Command("unshare", "-rn", "true").Run() == nil {
		c.argv = append([]string{"unshare", "-rn"}, c.argv...)
	} else {
		t.Log("no network namespace here: only a dead proxy keeps cosign offline")
	}
	if out, err := c.run("version"); err != nil || !strings.Contains(out, want) {
		t.Skipf("%s is not cosign %s: %v\n%s", c.argv[len(c.argv)-1], want, err, out)
	}
	return c
}

// TestCosign2 has cosign 2 verify the bare envelope. It cannot verify a bundle offline.
func TestCosign2(t *testing.T) {
	c := newCosignOf(t, "cosign2", "v2.6.5", "v2.")
	key := newKey(t)
	c.put("key.pub", key.PublicKey().PEM())
	c.put("model.onnx", []byte("model"))
	c.put("flipped.onnx", flipBit([]byte("model"), 2))
	st := testStatement()
	for _, tt := range []struct {
		name, file string
		evidence   []byte
		accepted   bool
	}{
		{"model", "model.onnx", sign(t, key, st).Envelope, true},
		{"one bit of the model", "flipped.onnx", sign(t, key, st).Envelope, false},
		{"other key", "model.onnx", sign(t, newKey(t), st).Envelope, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.put("evidence.json", tt.evidence)
			out, err := c.verify("--signature", "evidence.json", testPredicateType, tt.file)
			if (err == nil) != tt.accepted {
				t.Errorf("accepted: %v, want %v\n%s", err == nil, tt.accepted, out)
			}
		})
	}
}

func (c *cosign) run(args ...string) (string, error) {
	c.t.Helper()
	argv := append(c.argv[:len(c.argv):len(c.argv)], args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "HOME="+c.dir, "COSIGN_PASSWORD=secret", "NO_PROXY=",
		"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatalf("running cosign: %v", err)
	}
	return string(out), err
}

func (c *cosign) put(name string, data []byte) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cosign) get(name string) []byte {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

// verify asks whether the evidence, given by --bundle or --signature, is about a file.
func (c *cosign) verify(flag, evidence, predicateType, file string) (string, error) {
	return c.run("verify-blob-attestation", "--key", "key.pub", flag, evidence,
		"--type", predicateType, "--insecure-ignore-tlog", file)
}

// flipBit returns data with one bit of the byte at i changed.
func flipBit(data []byte, i int) []byte {
	data = bytes.Clone(data)
	data[i] ^= 1
	return data
}

// flipInside changes one bit of what the base64 string in evidence encodes.
func flipInside(t *testing.T, evidence []byte, encoded, at string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(raw, []byte(at))
	if i < 0 {
		t.Fatalf("%q does not contain %q", raw, at)
	}
	changed := base64.StdEncoding.EncodeToString(flipBit(raw, i))
	return bytes.Replace(evidence, []byte(encoded), []byte(changed), 1)
}

// TestCosign has cosign 3 verify our evidence offline, and refuse it after one bit was
// changed in the model, in the report or in the signature.
func TestCosign(t *testing.T) {
	c := newCosign(t)
	key := newKey(t)
	c.put("key.pub", key.PublicKey().PEM())
	model, weights := []byte("model"), []byte("weights")
	c.put("model.onnx", model)
	c.put("weights/w0.bin", weights)
	c.put("flipped.onnx", flipBit(model, 2))
	ctx := context.Background()
	files, err := HashModel(ctx, filepath.Join(c.dir, "model.onnx"), []string{"weights/w0.bin"})
	if err != nil {
		t.Fatal(err)
	}
	st := testStatement()
	st.Subjects = files
	ev := sign(t, key, st)
	var env envelope
	if err := json.Unmarshal(ev.Envelope, &env); err != nil {
		t.Fatal(err)
	}
	stranger := sign(t, newKey(t), st)
	for _, form := range []struct {
		name, flag          string
		evidence, strangers []byte
	}{
		{"bundle", "--bundle", ev.Bundle, stranger.Bundle},
		{"envelope", "--signature", ev.Envelope, stranger.Envelope},
	} {
		sig := env.Signatures[0].Sig
		sigRaw, err := base64.StdEncoding.DecodeString(sig)
		if err != nil {
			t.Fatal(err)
		}
		tests := []struct {
			name, file string
			evidence   []byte
			refusal    string // empty where cosign accepts
		}{
			{"model", "model.onnx", form.evidence, ""},
			{"external data", "weights/w0.bin", form.evidence, ""},
			{"one bit of the model", "flipped.onnx", form.evidence, "digest"},
			{"one bit of the report", "model.onnx", flipInside(t, form.evidence, env.Payload, "pass"), "accepted signatures do not match"},
			{"one bit of the signature", "model.onnx", flipInside(t, form.evidence, sig, string(sigRaw[40:])), "accepted signatures do not match"},
			{"other key", "model.onnx", form.strangers, "accepted signatures do not match"},
		}
		for _, tt := range tests {
			t.Run(form.name+"/"+tt.name, func(t *testing.T) {
				c.put("evidence.json", tt.evidence)
				out, err := c.verify(form.flag, "evidence.json", testPredicateType, tt.file)
				if accepted := err == nil; accepted != (tt.refusal == "") {
					t.Errorf("cosign accepted: %v, want %v\n%s", accepted, !accepted, out)
				}
				if !strings.Contains(out, tt.refusal) {
					t.Errorf("cosign refused for another reason than %q:\n%s", tt.refusal, out)
				}
			})
		}
	}
	t.Run("other type", func(t *testing.T) {
		c.put("evidence.json", ev.Bundle)
		if out, err := c.verify("--bundle", "evidence.json", "https://example.org/other", "model.onnx"); err == nil {
			t.Errorf("cosign accepted another predicate type\n%s", out)
		}
	})
	t.Run("model signature", func(t *testing.T) { cosignModelSignature(t, c, key, files) })
}

// cosignModelSignature checks the OMS form, whose subject is the root digest.
func cosignModelSignature(t *testing.T, c *cosign, key *PrivateKey, files []Subject) {
	signature, err := SignModel(context.Background(), key, "model", files)
	if err != nil {
		t.Fatal(err)
	}
	c.put("model.sig", signature)
	v, err := Verify(signature, []PublicKey{key.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	verify := func(root string) (string, error) {
		return c.run("verify-blob-attestation", "--key", "key.pub", "--bundle", "model.sig",
			"--type", ModelPredicateType, "--insecure-ignore-tlog", "--digest", root, "--digestAlg", "sha256")
	}
	if out, err := verify(v.Subjects()[0].SHA256); err != nil {
		t.Errorf("cosign refused the root digest: %v\n%s", err, out)
	}
	if out, err := verify(digestOf("other")); err == nil {
		t.Errorf("cosign accepted another root digest\n%s", out)
	}
}

// TestCosignKeys has each side use the other's encrypted key, and us verify what
// cosign signed.
func TestCosignKeys(t *testing.T) {
	c := newCosign(t)
	secret := func() ([]byte, error) { return []byte("secret"), nil }
	c.put("model.onnx", []byte("model"))
	st := testStatement()
	payload, err := st.marshal()
	if err != nil {
		t.Fatal(err)
	}
	c.put("statement.json", payload)

	if err := newKey(t).WriteFiles(filepath.Join(c.dir, "ours"), KeyOptions{Passphrase: secret}); err != nil {
		t.Fatal(err)
	}
	if out, err := c.run("generate-key-pair", "--output-key-prefix", "theirs"); err != nil {
		t.Fatalf("cosign generate-key-pair: %v\n%s", err, out)
	}
	for _, prefix := range []string{"ours", "theirs"} {
		t.Run(prefix, func(t *testing.T) {
			bundle := prefix + ".json"
			if out, err := c.run("attest-blob", "--key", prefix+".key", "--statement", "statement.json",
				"--bundle", bundle, "--use-signing-config=false", "--tlog-upload=false", "--yes"); err != nil {
				t.Fatalf("cosign attest-blob: %v\n%s", err, out)
			}
			public, err := LoadPublicKey(filepath.Join(c.dir, prefix+".pub"))
			if err != nil {
				t.Fatal(err)
			}
			private, err := LoadPrivateKey(filepath.Join(c.dir, prefix+".key"), secret)
			if err != nil {
				t.Fatal(err)
			}
			if private.PublicKey().Fingerprint() != public.Fingerprint() {
				t.Error("the two halves do not belong together")
			}
			v, err := Verify(c.get(bundle), []PublicKey{public})
			if err != nil {
				t.Fatalf("what cosign signed: %v\n%s", err, c.get(bundle))
			}
			if fmt.Sprint(v.Subjects()) != fmt.Sprint(st.Subjects) || !strings.Contains(string(v.Predicate()), "pass") {
				t.Errorf("statement %v, want %v", v.Statement(), st)
			}
		})
	}
}
