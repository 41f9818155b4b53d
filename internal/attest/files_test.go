package attest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// modelDir makes a model with two external data files and one that is not its own.
func modelDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"model.onnx": "model", "model.onnx.data": "data", "weights/w0.bin": "weights", "README": "readme",
	} {
		putFile(t, filepath.Join(dir, filepath.FromSlash(name)), content)
	}
	return dir
}

func putFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

var modelExternal = []string{"weights/w0.bin", "model.onnx.data", "weights/w0.bin"}

func TestHashModel(t *testing.T) {
	dir := modelDir(t)
	got, err := HashModel(context.Background(), filepath.Join(dir, "model.onnx"), modelExternal)
	if err != nil {
		t.Fatal(err)
	}
	want := []Subject{
		{"model.onnx", digestOf("model")},
		{"model.onnx.data", digestOf("data")},
		{"weights/w0.bin", digestOf("weights")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("subjects (-want +got):\n%s", diff)
	}
}

// TestOwnExternal signs a model whose tensors lie in its own file, which is one file
// and needs no other.
func TestOwnExternal(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(modelDir(t), "model.onnx")
	files, err := HashModel(ctx, path, []string{"model.onnx"})
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v; want the one file", files, err)
	}
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := SignModel(ctx, key, "model.onnx", files)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Verify(signature, []PublicKey{key.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.CheckFiles(ctx, path, []string{"model.onnx"}); err != nil {
		t.Error(err)
	}
	renamed := filepath.Join(filepath.Dir(path), "renamed.onnx")
	if err := os.Rename(path, renamed); err != nil {
		t.Fatal(err)
	}
	if err := v.CheckFiles(ctx, renamed, []string{"model.onnx"}); err == nil || !strings.Contains(err.Error(), `reads "model.onnx"`) {
		t.Errorf("renamed: %v", err)
	}
}

func TestHashModelRefused(t *testing.T) {
	dir := modelDir(t)
	outside := t.TempDir()
	putFile(t, filepath.Join(outside, "secret"), "secret")
	if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "link")); err != nil {
		t.Skipf("symbolic links: %v", err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ external, want string }{
		"parent":         {"../x", "stays in the model's folder"},
		"inner parent":   {"weights/../model.onnx", "stays in the model's folder"},
		"absolute":       {"/etc/passwd", "stays in the model's folder"},
		"empty":          {"", "stays in the model's folder"},
		"dot":            {".", "stays in the model's folder"},
		"dot slash":      {"./model.onnx.data", "stays in the model's folder"},
		"link out":       {"link", "escapes"},
		"folder out":     {"linked/secret", "escapes"},
		"folder":         {"weights", "not a regular file"},
		"missing":        {"nothing", "no such file"},
		"below a file":   {"README/x", "not a directory"},
		"trailing slash": {"weights/", "stays in the model's folder"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := HashModel(context.Background(), filepath.Join(dir, "model.onnx"), []string{tt.external})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("folder as model", func(t *testing.T) {
		if _, err := HashModel(context.Background(), dir, nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("error %v, want one about the folder", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := HashModel(ctx, filepath.Join(dir, "model.onnx"), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	})
}

// verifiedModel signs the model in dir in one of two ways.
func verifiedModel(t *testing.T, dir, form string, external []string) *Verified {
	t.Helper()
	key := newKey(t)
	files, err := HashModel(context.Background(), filepath.Join(dir, "model.onnx"), external)
	if err != nil {
		t.Fatal(err)
	}
	var evidence []byte
	switch form {
	case "statement":
		st := testStatement()
		st.Subjects = files
		evidence = sign(t, key, st).Bundle
	case "model signature":
		if evidence, err = SignModel(context.Background(), key, filepath.Base(dir), files); err != nil {
			t.Fatal(err)
		}
	}
	v, err := Verify(evidence, []PublicKey{key.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCheckFiles(t *testing.T) {
	rename := func(from, to string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(name, content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) { putFile(t, filepath.Join(dir, name), content) }
	}
	nothing := func(*testing.T, string) {}
	tests := map[string]struct {
		change   func(t *testing.T, dir string)
		model    string
		external []string
		want     string // empty where it is accepted
	}{
		"unchanged":              {nothing, "model.onnx", modelExternal, ""},
		"caller lists none":      {nothing, "model.onnx", nil, ""},
		"other file changed":     {write("README", "changed"), "model.onnx", modelExternal, ""},
		"model renamed":          {rename("model.onnx", "m2.onnx"), "m2.onnx", modelExternal, ""},
		"model changed":          {write("model.onnx", "modeL"), "model.onnx", modelExternal, "model.onnx has the SHA-256 " + digestOf("modeL")},
		"model longer":           {write("model.onnx", "model "), "model.onnx", modelExternal, "model.onnx has the SHA-256"},
		"model missing":          {rename("model.onnx", "m2.onnx"), "model.onnx", modelExternal, "model.onnx is missing"},
		"another file":           {nothing, "README", nil, "README has the SHA-256"},
		"external changed":       {write("weights/w0.bin", "weightS"), "model.onnx", modelExternal, "w0.bin has the SHA-256"},
		"external missing":       {rename("model.onnx.data", "x"), "model.onnx", modelExternal, "model.onnx.data is missing"},
		"external swapped":       {write("model.onnx.data", "weights"), "model.onnx", modelExternal, "model.onnx.data has the SHA-256"},
		"external not covered":   {nothing, "model.onnx", []string{"README"}, `reads "README", which the evidence does not cover`},
		"external by detour":     {nothing, "model.onnx", []string{"./model.onnx.data"}, "does not cover"},
		"unlisted is checked":    {write("weights/w0.bin", ""), "model.onnx", nil, "w0.bin has the SHA-256"},
		"folder of data missing": {rename("weights", "w"), "model.onnx", nil, "w0.bin is missing"},
	}
	for _, form := range []string{"statement", "model signature"} {
		for name, tt := range tests {
			t.Run(form+"/"+name, func(t *testing.T) {
				dir := modelDir(t)
				v := verifiedModel(t, dir, form, modelExternal)
				tt.change(t, dir)
				err := v.CheckFiles(context.Background(), filepath.Join(dir, tt.model), tt.external)
				if tt.want != "" {
					wantRejected(t, err, ReasonDigest, tt.want)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestCheckFilesOfOneFile(t *testing.T) {
	for _, form := range []string{"statement", "model signature"} {
		t.Run(form, func(t *testing.T) {
			dir := modelDir(t)
			v := verifiedModel(t, dir, form, nil)
			path := filepath.Join(dir, "model.onnx")
			if err := v.CheckFiles(context.Background(), path, nil); err != nil {
				t.Error(err)
			}
			err := v.CheckFiles(context.Background(), path, []string{"model.onnx.data"})
			wantRejected(t, err, ReasonDigest, "model.onnx.data")
			putFile(t, path, "other")
			err = v.CheckFiles(context.Background(), path, nil)
			wantRejected(t, err, ReasonDigest, digestOf("other"), digestOf("model"), `"model.onnx"`)
		})
	}
}

func TestCheckFile(t *testing.T) {
	dir := modelDir(t)
	v := verifiedModel(t, dir, "statement", modelExternal)
	for name, accepted := range map[string]bool{"model.onnx": true, "weights/w0.bin": true, "README": false, "absent": false} {
		err := v.CheckFile(context.Background(), filepath.Join(dir, name))
		if !accepted {
			wantRejected(t, err, ReasonDigest, name)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCheckFilesHostileNames has signed names that lead elsewhere.
func TestCheckFilesHostileNames(t *testing.T) {
	dir := modelDir(t)
	putFile(t, filepath.Join(filepath.Dir(dir), "outside"), "outside")
	key := newKey(t)
	for _, name := range []string{"../outside", "/etc/hostname", "weights/../README", ".", "a//b"} {
		t.Run(name, func(t *testing.T) {
			st := testStatement()
			st.Subjects = []Subject{{"model.onnx", digestOf("model")}, {name, digestOf("outside")}}
			v, err := Verify(sign(t, key, st).Bundle, []PublicKey{key.PublicKey()})
			if err != nil {
				t.Fatal(err)
			}
			err = v.CheckFiles(context.Background(), filepath.Join(dir, "model.onnx"), nil)
			wantRejected(t, err, ReasonDigest, "not a file in the model's folder")
		})
	}
}

func TestCheckFilesUnverified(t *testing.T) {
	path := filepath.Join(modelDir(t), "model.onnx")
	err := new(Verified).CheckFiles(context.Background(), path, nil)
	wantRejected(t, err, ReasonDigest, "about no file")
}

func TestCheckFilesUnreadable(t *testing.T) {
	dir := modelDir(t)
	v := verifiedModel(t, dir, "statement", modelExternal)
	weights := filepath.Join(dir, "weights", "w0.bin")
	if err := os.Remove(weights); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(weights, 0o755); err != nil {
		t.Fatal(err)
	}
	err := v.CheckFiles(context.Background(), filepath.Join(dir, "model.onnx"), nil)
	if err == nil || !strings.Contains(err.Error(), "not a regular file") || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want one about the folder", err)
	}
}
