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
	Method        string   `json:"method"`
	HashType      string   `json:"hash_type"`
	AllowSymlinks bool     `json:"allow_symlinks"`
	IgnorePaths   []string `json:"ignore_paths,omitempty"`
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
	if len(files) == 1 {
		name = files[0].Name
		files = []Subject{{Name: selfName, SHA256: files[0].SHA256}}
	}
	return signManifest(ctx, s, name, files, nil)
}

// SignFolder makes an OMS signature of all that [HashFolder] returned for the folder
// of that name. The paths that were left out are part of the signature.
func SignFolder(ctx context.Context, s Signer, name string, files []Subject, ignored []string) ([]byte, error) {
	return signManifest(ctx, s, name, files, ignored)
}

func signManifest(ctx context.Context, s Signer, name string, files []Subject, ignored []string) ([]byte, error) {
	st, err := modelStatement(name, files, ignored)
	if err != nil {
		return nil, err
	}
	ev, err := Sign(ctx, s, st)
	if err != nil {
		return nil, err
	}
	return ev.Bundle, nil
}

func modelStatement(name string, files []Subject, ignored []string) (Statement, error) {
	if len(files) == 0 {
		return Statement{}, fmt.Errorf("signing a model: it has no files")
	}
	if err := checkFiles(files); err != nil {
		return Statement{}, fmt.Errorf("signing a model: %v", err)
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b Subject) int { return comparePaths(a.Name, b.Name) })
	m := manifest{Serialization: serialization{Method: methodFiles, HashType: "sha256", IgnorePaths: ignored}}
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
