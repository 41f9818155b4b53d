package attest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// ModelPredicateType is the predicate type of an OpenSSF Model Signing (OMS)
// signature.
const ModelPredicateType = "https://model_signing/signature/v1.0"

// selfName is OMS's name for the file of a model that is one file.
const selfName = "."

// manifest is the predicate of a model signature.
type manifest struct {
	Serialization serialization `json:"serialization"`
	Resources     []resource    `json:"resources"`
}

type serialization struct {
	Method        string `json:"method"`
	HashType      string `json:"hash_type"`
	AllowSymlinks bool   `json:"allow_symlinks"`
}

type resource struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Digest    string `json:"digest"`
}

// SignModel makes an OMS signature, usually stored as model.sig, of the files that
// [HashModel] returned. The name, which is informative, is that of the folder they
// are in; a model that is one file goes by its own name.
//
// The official verifier refuses a folder with further files, unless it is told to
// ignore unsigned files.
func SignModel(ctx context.Context, s Signer, name string, files []Subject) ([]byte, error) {
	st, err := modelStatement(name, files)
	if err != nil {
		return nil, err
	}
	ev, err := Sign(ctx, s, st)
	if err != nil {
		return nil, err
	}
	return ev.Bundle, nil
}

func modelStatement(name string, files []Subject) (Statement, error) {
	if len(files) == 0 {
		return Statement{}, fmt.Errorf("signing a model: it has no files")
	}
	if err := checkFiles(files); err != nil {
		return Statement{}, fmt.Errorf("signing a model: %v", err)
	}
	files = slices.Clone(files)
	if len(files) == 1 {
		name = files[0].Name
		files[0].Name = selfName
	}
	slices.SortFunc(files, func(a, b Subject) int { return comparePaths(a.Name, b.Name) })
	m := manifest{Serialization: serialization{Method: "files", HashType: "sha256"}}
	for _, f := range files {
		m.Resources = append(m.Resources, resource{Name: f.Name, Algorithm: "sha256", Digest: f.SHA256})
	}
	predicate, err := json.Marshal(m)
	if err != nil {
		return Statement{}, fmt.Errorf("signing a model: %v", err)
	}
	return Statement{
		PredicateType: ModelPredicateType,
		Subjects:      []Subject{{Name: name, SHA256: rootDigest(files)}},
		Predicate:     predicate,
	}, nil
}

// comparePaths orders slash-separated paths as OMS does: component by component, so
// that a/b comes before a.b, which a comparison of bytes has the other way round.
func comparePaths(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "/"), strings.Split(b, "/"), cmp.Compare)
}

// rootDigest is the SHA-256 of the files' raw digests in the given order. The
// digests have been checked.
func rootDigest(files []Subject) string {
	h := sha256.New()
	for _, f := range files {
		raw, _ := hex.DecodeString(f.SHA256)
		h.Write(raw)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// parseManifest returns the files of a model signature. As the specification has it,
// fields it does not name are ignored; so are the paths that a signer excluded, since
// only listed files are ever accepted here.
func parseManifest(st Statement) ([]Subject, error) {
	var m manifest
	if err := UnmarshalStrict(st.Predicate, &m, JSONOptions{AllowUnknown: true}); err != nil {
		return nil, err
	}
	if s := m.Serialization; s.Method != "files" || s.HashType != "sha256" {
		return nil, fmt.Errorf("its serialization is %q with %q, only \"files\" with \"sha256\" can be checked", s.Method, s.HashType)
	}
	if len(st.Subjects) != 1 {
		return nil, fmt.Errorf("%d subjects, a model signature has exactly one", len(st.Subjects))
	}
	var files []Subject
	for _, r := range m.Resources {
		if r.Algorithm != "sha256" {
			return nil, fmt.Errorf("the digest of %q is %q, want sha256", r.Name, r.Algorithm)
		}
		files = append(files, Subject{Name: r.Name, SHA256: r.Digest})
	}
	if err := checkFiles(files); err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("it lists no files")
	}
	if got, want := rootDigest(files), st.Subjects[0].SHA256; got != want {
		return nil, fmt.Errorf("its files add up to the root digest %s, the subject says %s", got, want)
	}
	return files, nil
}
