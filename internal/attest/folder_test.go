package attest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// signedFolder signs the folder of modelDir but for its README.
func signedFolder(t *testing.T, key *PrivateKey, dir string) *Verified {
	t.Helper()
	files, ignored, err := HashFolder(context.Background(), dir, append(GitPaths(), "README"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := SignFolder(context.Background(), key, filepath.Base(dir), files, ignored)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Verify(sig, []PublicKey{key.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestHashFolder(t *testing.T) {
	dir := modelDir(t)
	putFile(t, filepath.Join(dir, ".git", "config"), "secret")
	putFile(t, filepath.Join(dir, "weights", ".git"), "not at the top, so signed")
	putFile(t, filepath.Join(dir, "READMEs"), "not the one ignored")
	files, ignored, err := HashFolder(context.Background(), dir, append(GitPaths(), "README", "absent"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"READMEs", "model.onnx", "model.onnx.data", "weights/.git", "weights/w0.bin"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{".git", "README"}, ignored); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
}

func TestHashFolderRefused(t *testing.T) {
	tests := map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"link to a file": {func(t *testing.T, dir string) {
			symlink(t, filepath.Join(dir, "model.onnx"), filepath.Join(dir, "link.onnx"))
		}, "link.onnx is a symbolic link"},
		"link to a folder": {func(t *testing.T, dir string) {
			symlink(t, t.TempDir(), filepath.Join(dir, "linked"))
		}, "linked is a symbolic link"},
		"socket": {func(t *testing.T, dir string) {
			l, err := net.Listen("unix", filepath.Join(dir, "s"))
			if err != nil {
				t.Skipf("sockets: %v", err)
			}
			t.Cleanup(func() { l.Close() })
		}, "s is neither a file nor a folder"},
		"name": {func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "m\xff"), nil, 0o644); err != nil {
				t.Skipf("names that are not UTF-8: %v", err)
			}
		}, "not valid UTF-8"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := modelDir(t)
			v := signedFolder(t, newKey(t), dir)
			tt.change(t, dir)
			if _, _, err := HashFolder(context.Background(), dir, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("signing: error %v, want %q", err, tt.want)
			}
			_, err := v.CheckFolder(context.Background(), dir, FolderCheck{AllowUnsigned: true})
			wantRejected(t, err, ReasonDigest, tt.want)
		})
	}
}

func symlink(t *testing.T, to, from string) {
	t.Helper()
	if err := os.Symlink(to, from); err != nil {
		t.Skipf("symbolic links: %v", err)
	}
}

func TestCheckFolder(t *testing.T) {
	write := func(name, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { putFile(t, filepath.Join(dir, filepath.FromSlash(name)), content) }
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := map[string]struct {
		change func(*testing.T, string)
		check  FolderCheck
		want   string // empty where it is accepted
	}{
		"unchanged":                {func(*testing.T, string) {}, FolderCheck{}, ""},
		"ignored file changed":     {write("README", "other"), FolderCheck{}, ""},
		"ignored file removed":     {remove("README"), FolderCheck{}, ""},
		"git made later":           {write(".git/HEAD", "x"), FolderCheck{Ignore: GitPaths()}, ""},
		"signature inside":         {write("model.sig", "{}"), FolderCheck{Ignore: []string{"model.sig"}}, ""},
		"changed":                  {write("weights/w0.bin", "weightS"), FolderCheck{AllowUnsigned: true}, "w0.bin has the SHA-256"},
		"removed":                  {remove("weights/w0.bin"), FolderCheck{AllowUnsigned: true}, "w0.bin is missing"},
		"extra file":               {write("weights/extra", ""), FolderCheck{}, `1 files that the signature does not list, such as "weights/extra"`},
		"extra file allowed":       {write("weights/extra", ""), FolderCheck{AllowUnsigned: true}, ""},
		"git not at the top":       {write("weights/.git/x", ""), FolderCheck{Ignore: GitPaths()}, `"weights/.git/x"`},
		"signature in the wrong":   {write("weights/model.sig", ""), FolderCheck{Ignore: []string{"model.sig"}}, `"weights/model.sig"`},
		"signed file also ignored": {write("model.onnx", "modeL"), FolderCheck{Ignore: []string{"model.onnx"}}, "model.onnx has the SHA-256"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := modelDir(t)
			v := signedFolder(t, newKey(t), dir)
			tt.change(t, dir)
			got, err := v.CheckFolder(context.Background(), dir, tt.check)
			if tt.want != "" {
				wantRejected(t, err, ReasonDigest, tt.want)
				return
			}
			if err != nil || got.Files != 3 {
				t.Errorf("result %v, error %v; want three files", got, err)
			}
		})
	}
}

// TestFolderOfOneFile holds that a folder with one file is signed under the file's name,
// and a model that is one file as itself, and that neither passes for the other.
func TestFolderOfOneFile(t *testing.T) {
	key, ctx, dir := newKey(t), context.Background(), t.TempDir()
	model := filepath.Join(dir, "model.onnx")
	putFile(t, model, "model")
	folder := signedFolder(t, key, dir)
	if diff := cmp.Diff([]string{"model.onnx"}, folder.Manifest().Paths()); diff != "" {
		t.Errorf("folder (-want +got):\n%s", diff)
	}
	sig, err := SignModel(ctx, key, "ignored", []Subject{{"model.onnx", digestOf("model")}})
	if err != nil {
		t.Fatal(err)
	}
	file, err := Verify(sig, []PublicKey{key.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"."}, file.Manifest().Paths()); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	if err := file.CheckFiles(ctx, model, nil); err != nil {
		t.Error(err)
	}
	_, err = file.CheckFolder(ctx, dir, FolderCheck{AllowUnsigned: true})
	wantRejected(t, err, ReasonDigest, "about one file")
}

func TestCleanIgnored(t *testing.T) {
	for in, want := range map[string]string{
		"cache": "cache", "cache/": "cache", "./a/b": "a/b", "a//b": "a/b",
		".": "", "": "", "..": "", "../a": "", "/a": "", "*.bin": "", "a/[b]": "", "a?": "",
	} {
		got, err := CleanIgnored(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("CleanIgnored(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

// shardedStatement signs content in pieces of the given size, as OMS does.
func shardedStatement(files map[string]string, size int) Statement {
	var list []Subject
	for _, path := range []string{"a/b.bin", "a.bin", "empty"} {
		content := files[path]
		for start := 0; start == 0 || start < len(content); start += size {
			end := min(start+size, len(content))
			list = append(list, Subject{fmt.Sprintf("%s:%d:%d", path, start, end), digestOf(content[start:end])})
		}
	}
	return manifestStatement(list, methodShards)
}

func manifestStatement(list []Subject, method string) Statement {
	m := manifest{Serialization: serialization{Method: method, HashType: "sha256"}}
	algorithm := "sha256"
	if method == methodShards {
		algorithm = "sha256-sharded-5"
	}
	for _, s := range list {
		m.Resources = append(m.Resources, resource{s.Name, algorithm, s.SHA256})
	}
	predicate, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return Statement{PredicateType: ModelPredicateType, Subjects: []Subject{{"m", rootDigest(list)}}, Predicate: predicate}
}

func TestShards(t *testing.T) {
	key, ctx := newKey(t), context.Background()
	files := map[string]string{"a/b.bin": "0123456789", "a.bin": "01234", "empty": ""}
	v, err := Verify(sign(t, key, shardedStatement(files, 5)).Bundle, []PublicKey{key.PublicKey()})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/b.bin", "a.bin", "empty"}, v.Manifest().Paths()); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	tests := map[string]struct{ path, content, want string }{
		"unchanged":    {"a.bin", "01234", ""},
		"first shard":  {"a/b.bin", "x123456789", "from byte 0 to 5"},
		"second shard": {"a/b.bin", "012345678x", "from byte 5 to 10"},
		"longer":       {"a/b.bin", "0123456789x", "has 11 bytes, the evidence covers 10"},
		"shorter":      {"a.bin", "0123", "has 4 bytes"},
		"not empty":    {"empty", "x", "has 1 bytes, the evidence covers 0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, content := range files {
				putFile(t, filepath.Join(dir, filepath.FromSlash(path)), content)
			}
			putFile(t, filepath.Join(dir, filepath.FromSlash(tt.path)), tt.content)
			_, folderErr := v.CheckFolder(ctx, dir, FolderCheck{})
			fileErr := v.CheckFiles(ctx, filepath.Join(dir, "a.bin"), []string{"a/b.bin"})
			for _, err := range []error{folderErr, fileErr} {
				if tt.want == "" {
					if err != nil {
						t.Error(err)
					}
					continue
				}
				wantRejected(t, err, ReasonDigest, tt.want)
			}
		})
	}
	t.Run("not listed", func(t *testing.T) {
		dir := t.TempDir()
		putFile(t, filepath.Join(dir, "m.onnx"), "x")
		wantRejected(t, v.CheckFiles(ctx, filepath.Join(dir, "m.onnx"), nil), ReasonDigest, `does not list "m.onnx"`)
	})
}

// TestShardsRefused has lists of shards that leave bytes out, or cover some twice.
func TestShardsRefused(t *testing.T) {
	key := newKey(t)
	d := digestOf("x")
	for name, list := range map[string][]Subject{
		"gap":          {{"a:0:5", d}, {"a:6:9", d}},
		"late start":   {{"a:1:5", d}},
		"overlap":      {{"a:0:5", d}, {"a:4:9", d}},
		"empty within": {{"a:0:5", d}, {"a:5:5", d}},
		"no range":     {{"a", d}},
		"backwards":    {{"a:5:0", d}},
		"negative":     {{"a:-1:5", d}},
		"no path":      {{":0:5", d}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(sign(t, key, manifestStatement(list, methodShards)).Bundle, []PublicKey{key.PublicKey()})
			wantRejected(t, err, ReasonSchema, "shard")
		})
	}
}

// TestOldModelSignature has the form that OMS before 1.1 wrote, with the key inside.
func TestOldModelSignature(t *testing.T) {
	key, other := newKey(t), newKey(t)
	sig, err := SignModel(context.Background(), key, "m", []Subject{{"a", signme1}})
	if err != nil {
		t.Fatal(err)
	}
	hint := `{"hint":"` + key.PublicKey().Fingerprint() + `"}`
	with := func(raw []byte) []byte {
		old := `{"rawBytes":"` + base64.StdEncoding.EncodeToString(raw) + `","keyDetails":"PKIX_ECDSA_P256_SHA_256"}`
		return []byte(strings.Replace(string(sig), hint, old, 1))
	}
	for name, raw := range map[string][]byte{"PEM": key.PublicKey().PEM(), "DER": key.PublicKey().der} {
		v, err := Verify(with(raw), []PublicKey{key.PublicKey()})
		if err != nil || len(v.Warnings()) != 1 || !strings.Contains(v.Warnings()[0], "sign again") {
			t.Errorf("%s: %v, %v; want it accepted with a warning", name, v, err)
		}
	}
	_, err = Verify(with(other.PublicKey().der), []PublicKey{key.PublicKey()})
	wantRejected(t, err, ReasonSignature, "is not the one that signed it")
	_, err = Verify(with(other.PublicKey().der), []PublicKey{other.PublicKey()})
	wantRejected(t, err, ReasonSignature, "was not signed with the key")
}
