package attest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestModelSigning has OpenSSF's own tool verify our model signatures, and us verify
// one of its.
func TestModelSigning(t *testing.T) {
	tool := verifier(t, "model_signing", "model-signing/bin/model_signing")
	run := func(args ...string) (string, error) {
		out, err := exec.Command(tool, args...).CombinedOutput()
		return string(out), err
	}
	prefix := filepath.Join(t.TempDir(), "signer")
	key := newKey(t)
	if err := key.WriteFiles(prefix, KeyOptions{Unencrypted: true}); err != nil {
		t.Fatal(err)
	}
	for name, external := range map[string][]string{"one file": nil, "folder": modelExternal} {
		t.Run(name, func(t *testing.T) {
			dir := modelDir(t)
			if err := os.Remove(filepath.Join(dir, "README")); err != nil {
				t.Fatal(err)
			}
			model := filepath.Join(dir, "model.onnx")
			target := dir
			if external == nil {
				target = model
			}
			files, err := HashModel(context.Background(), model, external)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := SignModel(context.Background(), key, filepath.Base(dir), files)
			if err != nil {
				t.Fatal(err)
			}
			oursPath, theirsPath := filepath.Join(t.TempDir(), "model.sig"), filepath.Join(t.TempDir(), "model.sig")
			putFile(t, oursPath, string(ours))
			if out, err := run("sign", "key", target, "--private_key", prefix+".key", "--signature", theirsPath); err != nil {
				t.Fatalf("model_signing sign: %v\n%s", err, out)
			}
			theirs, err := os.ReadFile(theirsPath)
			if err != nil {
				t.Fatal(err)
			}
			v, err := Verify(theirs, []PublicKey{key.PublicKey()})
			if err != nil {
				t.Fatalf("what model_signing signed: %v\n%s", err, theirs)
			}
			if ours, err := Verify(ours, []PublicKey{key.PublicKey()}); err != nil || ours.Subjects()[0] != v.Subjects()[0] {
				t.Errorf("subject %v (%v), model_signing has %v", ours.Subjects(), err, v.Subjects())
			}
			verify := func() (string, error) {
				return run("verify", "key", target, "--public_key", prefix+".pub", "--signature", oursPath)
			}
			if out, err := verify(); err != nil {
				t.Errorf("model_signing refused ours: %v\n%s", err, out)
			}
			if err := v.CheckFiles(context.Background(), model, external); err != nil {
				t.Errorf("we refuse what model_signing signed: %v", err)
			}
			putFile(t, model, "modeL")
			if out, err := verify(); err == nil {
				t.Errorf("model_signing accepted a changed model\n%s", out)
			}
			wantRejected(t, v.CheckFiles(context.Background(), model, external), ReasonDigest, "model.onnx")
		})
	}
}
