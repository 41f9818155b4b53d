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

// TestModelSigningFolder has OpenSSF's tool verify our signature of a folder with files
// that are left out, and us its own, of files and of shards.
func TestModelSigningFolder(t *testing.T) {
	tool := verifier(t, "model_signing", "model-signing/bin/model_signing")
	ctx, key, dir := context.Background(), newKey(t), modelDir(t)
	prefix := filepath.Join(t.TempDir(), "signer")
	if err := key.WriteFiles(prefix, KeyOptions{Unencrypted: true}); err != nil {
		t.Fatal(err)
	}
	run := func(program string, args ...string) {
		t.Helper()
		if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, out)
		}
	}
	putFile(t, filepath.Join(dir, ".git", "HEAD"), "x")
	sig := filepath.Join(dir, "model.sig")
	ignore := append(GitPaths(), "README", "model.sig")
	files, _, err := HashFolder(ctx, dir, ignore)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := SignFolder(ctx, key, filepath.Base(dir), files, ignore)
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, sig, string(ours))
	run(tool, "verify", "key", dir, "--public_key", prefix+".pub", "--signature", sig)

	check := func(t *testing.T) {
		t.Helper()
		theirs, err := os.ReadFile(sig)
		if err != nil {
			t.Fatal(err)
		}
		v, err := Verify(theirs, []PublicKey{key.PublicKey()})
		if err != nil {
			t.Fatalf("%v\n%s", err, theirs)
		}
		folder := FolderCheck{Ignore: append(GitPaths(), "model.sig")}
		r, err := v.CheckFolder(ctx, dir, folder)
		if err != nil || r.Files != 3 || len(r.Ignored) == 0 {
			t.Errorf("result %+v, %v; want three files, and README left out", r, err)
		}
		putFile(t, filepath.Join(dir, "weights", "w0.bin"), "weightS")
		_, err = v.CheckFolder(ctx, dir, folder)
		wantRejected(t, err, ReasonDigest, "w0.bin has the SHA-256")
		putFile(t, filepath.Join(dir, "weights", "w0.bin"), "weights")
	}
	t.Run("files", func(t *testing.T) {
		run(tool, "sign", "key", dir, "--private_key", prefix+".key", "--signature", sig, "--ignore-paths", filepath.Join(dir, "README"))
		check(t)
	})
	t.Run("shards", func(t *testing.T) {
		run(filepath.Join(filepath.Dir(tool), "python"), "-c", `
import pathlib, sys, model_signing
key, folder, sig = sys.argv[1:]
hashing = model_signing.hashing.Config().use_shard_serialization(shard_size=3)
hashing.set_ignored_paths(paths=[pathlib.Path(folder) / "README", pathlib.Path(sig)])
model_signing.signing.Config().use_elliptic_key_signer(private_key=pathlib.Path(key)).set_hashing_config(hashing).sign(pathlib.Path(folder), pathlib.Path(sig))
`, prefix+".key", dir, sig)
		check(t)
	})
}
