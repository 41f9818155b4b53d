package attest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Digests of the files that the test suite of OpenSSF's model-signing signs.
const (
	signme1 = "bc9a717db6064a32cbe9eae6fc40651dd6d36ef1757183f590eff2b1765d7ebc" // "signme-1\n"
	signme2 = "32dcb1f8e1ae52d5963e56a6ba06ab58b424c15ed2a6b70d2feca1d089370028" // "signme-2"
)

func manifestOf(t *testing.T, st Statement) manifest {
	t.Helper()
	var m manifest
	if err := UnmarshalStrict(st.Predicate, &m, JSONOptions{}); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRootDigest has the official vectors of model-signing v1.0.0 (one file), v1.0.1 and
// v1.1.0 (a folder), and one of the order of paths that differs from that of bytes.
func TestRootDigest(t *testing.T) {
	tests := map[string]struct {
		files []Subject
		root  string
		names []string
	}{
		"one file": {
			[]Subject{{selfName, signme1}},
			"afa48c8674afe334b8a7dea34f7b46ab256e9255edf8da2132792341b667a45b",
			[]string{"."},
		},
		"folder": {
			[]Subject{{"signme-2", signme2}, {"signme-1", signme1}},
			"92745110b1ab4368471cbe31664e10174e954b113a3df333db860317b2c6dec4",
			[]string{"signme-1", "signme-2"},
		},
		"folder, other content": {
			[]Subject{{"signme-1", digestOf("signme-1")}, {"signme-2", digestOf("signme-2")}},
			"61d4849d9d90076d6215f4d525f13d6574af8e3f67aef3e6f36fc40a14fdd226",
			[]string{"signme-1", "signme-2"},
		},
		"order": {
			[]Subject{{"a.bin", digestOf("a.bin")}, {"a/b.bin", digestOf("a/b.bin")}},
			"d3945b587209f998c9f8c06d569f576474aee9e3ca4c7b4113b96bb2f6e5557f",
			[]string{"a/b.bin", "a.bin"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			given := slices.Clone(tt.files)
			st, err := modelStatement("folder", tt.files, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := st.Subjects[0].SHA256; got != tt.root {
				t.Errorf("root digest %s, want %s", got, tt.root)
			}
			var names []string
			for _, r := range manifestOf(t, st).Resources {
				names = append(names, r.Name)
			}
			if diff := cmp.Diff(tt.names, names); diff != "" {
				t.Errorf("resources (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(given, tt.files); diff != "" {
				t.Errorf("the argument was changed (-before +after):\n%s", diff)
			}
		})
	}
}

// TestFingerprint has the hint that model-signing v1.1.0 wrote for its P-384 test key.
func TestFingerprint(t *testing.T) {
	der, err := base64.StdEncoding.DecodeString("MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEsu6rZGBTjxtvRWPMixT+3HyndV0J0Ybt" +
		"aHZUcO4DEK+OJHO/4e32bb/fbJKSpRgcBsIpKLcVijUomyFOERbd7u+BTPSUjGZDQq6J7lTvp/EAXQGOKxW9RP0MGX3qAkvi")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fingerprint(der), "e8450dec4eb99dae995da9af1bc2cc9f76ed669ee2e744f57abba763df3e3f8e"; got != want {
		t.Errorf("fingerprint %s, want %s", got, want)
	}
}

func TestComparePaths(t *testing.T) {
	sorted := []string{"A", "a", "a/B", "a/b", "a/b/c", "a/b.c", "a-b", "a.b", "ab"}
	shuffled := []string{"a.b", "ab", "a/b.c", "A", "a-b", "a/b/c", "a", "a/b", "a/B"}
	slices.SortFunc(shuffled, comparePaths)
	if diff := cmp.Diff(sorted, shuffled); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestModelPredicate(t *testing.T) {
	st, err := modelStatement("signme-1", []Subject{{selfName, signme1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Statement{
		PredicateType: "https://model_signing/signature/v1.0",
		Subjects:      []Subject{{"signme-1", "afa48c8674afe334b8a7dea34f7b46ab256e9255edf8da2132792341b667a45b"}},
		Predicate: json.RawMessage(`{"serialization":{"method":"files","hash_type":"sha256","allow_symlinks":false},` +
			`"resources":[{"name":".","algorithm":"sha256","digest":"` + signme1 + `"}]}`),
	}
	if diff := cmp.Diff(want, st); diff != "" {
		t.Errorf("statement (-want +got):\n%s", diff)
	}
}

func TestSignModelRefused(t *testing.T) {
	tests := map[string]struct {
		files []Subject
		want  string
	}{
		"no files":   {nil, "no files"},
		"bad digest": {[]Subject{{"a", "x"}}, "64 lower-case"},
		"twice":      {[]Subject{{"a", signme1}, {"a", signme2}}, "appears twice"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := SignModel(context.Background(), newKey(t), "folder", tt.files)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("no name", func(t *testing.T) {
		_, err := SignModel(context.Background(), newKey(t), "", []Subject{{"a", signme1}, {"b", signme2}})
		if err == nil || !strings.Contains(err.Error(), "no name") {
			t.Errorf("error %v, want one about the name", err)
		}
	})
}

func TestVerifyModelSignature(t *testing.T) {
	key := newKey(t)
	keys := []PublicKey{key.PublicKey()}
	files := []Subject{{"signme-1", signme1}, {"signme-2", signme2}}
	good, err := modelStatement("folder", files, nil)
	if err != nil {
		t.Fatal(err)
	}
	// As the official signer writes it: other order, excluded paths.
	official := strings.Replace(string(good.Predicate), `"method":"files"`,
		`"ignore_paths":["model.sig",".git"],"method":"files"`, 1)
	for name, predicate := range map[string]string{"ours": string(good.Predicate), "official": official} {
		t.Run(name, func(t *testing.T) {
			st := good
			st.Predicate = json.RawMessage(predicate)
			v, err := Verify(sign(t, key, st).Bundle, keys)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(files, v.Files()); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
	tests := map[string]struct{ old, new, want string }{
		"shards":         {`"files"`, `"shards"`, `the shard "signme-1" is not named path:start:end`},
		"other method":   {`"files"`, `"tensors"`, `"tensors"`},
		"ignores all":    {`"method"`, `"ignore_paths":["./"],"method"`, "the whole model"},
		"blake3":         {`"hash_type":"sha256"`, `"hash_type":"blake3"`, `"blake3"`},
		"other digest":   {`"algorithm":"sha256"`, `"algorithm":"blake3"`, `"blake3"`},
		"changed digest": {signme2, signme1, "root digest"},
		"renamed twice":  {"signme-2", "signme-1", "appears twice"},
		"bad digest":     {signme2, "00", "64 lower-case"},
		"misspelt":       {`"resources"`, `"Resources"`, `must be spelt "resources"`},
		"nothing":        {`"resources"`, `"other"`, "lists no files"},
		"wrong types":    {`"files"`, `1`, "number"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := good
			st.Predicate = json.RawMessage(strings.Replace(string(good.Predicate), tt.old, tt.new, 1))
			_, err := Verify(sign(t, key, st).Bundle, keys)
			wantRejected(t, err, ReasonSchema, tt.want)
		})
	}
	t.Run("two subjects", func(t *testing.T) {
		st := good
		st.Subjects = append(slices.Clone(st.Subjects), files[0])
		_, err := Verify(sign(t, key, st).Bundle, keys)
		wantRejected(t, err, ReasonSchema, "exactly one")
	})
}
