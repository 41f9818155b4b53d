package attest

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// How a model signature splits a model: one digest for each file, or one for each
// piece of a file.
const (
	methodFiles  = "files"
	methodShards = "shards"
)

// Manifest is what a model signature lists.
type Manifest struct {
	// Ignored are the paths that the signer left out, relative to the model's folder,
	// with all that is below them. Nothing is known about their content.
	Ignored []string
	pieces  []piece   // by path, then by start
	listed  []Subject // the resources as they were signed
	sharded bool
}

// piece is a file, or the bytes from start up to end of one.
type piece struct {
	path       string
	start, end int64 // both 0 where the piece is the whole file
	digest     string
	name       string // of the resource
}

// Manifest returns what a model signature lists; nil for evidence of another kind.
func (v *Verified) Manifest() *Manifest { return v.manifest }

// Warnings returns what should be known about accepted evidence.
func (v *Verified) Warnings() []string { return slices.Clone(v.warnings) }

// Paths returns the files that are listed, by path component. The only one of a model
// that is one file is ".".
func (m *Manifest) Paths() []string {
	var out []string
	for _, p := range m.pieces {
		if len(out) == 0 || out[len(out)-1] != p.path {
			out = append(out, p.path)
		}
	}
	return out
}

// of returns the pieces of one file, in order.
func (m *Manifest) of(path string) []piece {
	i, _ := slices.BinarySearchFunc(m.pieces, path, func(p piece, path string) int { return comparePaths(p.path, path) })
	j := i
	for j < len(m.pieces) && m.pieces[j].path == path {
		j++
	}
	return m.pieces[i:j]
}

// parseManifest reads a model signature. As the specification has it, fields it does
// not name are ignored.
func parseManifest(st Statement) (*Manifest, error) {
	var m manifest
	if err := UnmarshalStrict(st.Predicate, &m, JSONOptions{AllowUnknown: true}); err != nil {
		return nil, err
	}
	s := m.Serialization
	if s.Method != methodFiles && s.Method != methodShards || s.HashType != "sha256" {
		return nil, fmt.Errorf("its serialization is %q with %q, only \"files\" and \"shards\" with \"sha256\" can be checked", s.Method, s.HashType)
	}
	if len(st.Subjects) != 1 {
		return nil, fmt.Errorf("%d subjects, a model signature has exactly one", len(st.Subjects))
	}
	out := &Manifest{sharded: s.Method == methodShards}
	for _, r := range m.Resources {
		if !out.isSHA256(r.Algorithm) {
			return nil, fmt.Errorf("the digest of %q is %q, want sha256", r.Name, r.Algorithm)
		}
		p, err := out.piece(r)
		if err != nil {
			return nil, err
		}
		out.pieces = append(out.pieces, p)
		out.listed = append(out.listed, Subject{Name: r.Name, SHA256: r.Digest})
	}
	if err := checkFiles(out.listed); err != nil {
		return nil, err
	}
	if len(out.listed) == 0 {
		return nil, fmt.Errorf("it lists no files")
	}
	if got, want := rootDigest(out.listed), st.Subjects[0].SHA256; got != want {
		return nil, fmt.Errorf("its files add up to the root digest %s, the subject says %s", got, want)
	}
	slices.SortFunc(out.pieces, comparePieces)
	var err error
	if out.Ignored, err = ignoredPaths(s.IgnorePaths); err != nil {
		return nil, err
	}
	return out, out.checkShards()
}

func comparePieces(a, b piece) int {
	return cmp.Or(comparePaths(a.path, b.path), cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end))
}

// isSHA256 reports whether an algorithm is the one that can be checked. Of shards OMS calls
// it sha256-sharded-N, with the size of a shard.
func (m *Manifest) isSHA256(algorithm string) bool {
	if size, ok := strings.CutPrefix(algorithm, "sha256-sharded-"); ok && m.sharded {
		n, err := strconv.ParseInt(size, 10, 64)
		return err == nil && n > 0
	}
	return algorithm == "sha256"
}

// piece reads one resource. The name of a shard is "path:start:end".
func (m *Manifest) piece(r resource) (piece, error) {
	p := piece{path: r.Name, digest: r.Digest, name: r.Name}
	if !m.sharded {
		return p, nil
	}
	rest, end, ok := cutLast(r.Name)
	path, start, ok2 := cutLast(rest)
	var err1, err2 error
	p.start, err1 = strconv.ParseInt(start, 10, 64)
	p.end, err2 = strconv.ParseInt(end, 10, 64)
	if !ok || !ok2 || path == "" || err1 != nil || err2 != nil || p.start < 0 || p.end < p.start {
		return p, fmt.Errorf("the shard %q is not named path:start:end", r.Name)
	}
	p.path = path
	return p, nil
}

// cutLast splits at the last colon.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// checkShards makes sure that the shards of each file follow each other from its first
// byte on: bytes between them could be anything.
func (m *Manifest) checkShards() error {
	if !m.sharded {
		return nil
	}
	var last piece
	for _, p := range m.pieces {
		want := int64(0)
		if p.path == last.path {
			want = last.end
		}
		if p.start != want || p.end == p.start && p.end > 0 {
			return fmt.Errorf("the shards of %q do not follow each other: %q, want one that begins at %d", p.path, p.name, want)
		}
		last = p
	}
	return nil
}

// ignoredPaths reads a signer's list of ignored paths. Paths that lead out of the
// folder match nothing in it.
func ignoredPaths(list []string) ([]string, error) {
	var out []string
	for _, p := range list {
		clean := strings.TrimSuffix(p, "/")
		if clean == "." || clean == "" {
			return nil, fmt.Errorf("it ignores %q, which is the whole model", p)
		}
		if fs.ValidPath(clean) {
			out = append(out, clean)
		}
	}
	slices.SortFunc(out, comparePaths)
	return slices.Compact(out), nil
}

// acceptOldKey judges a key that the evidence itself carries. Only OMS before 1.1
// wrote one, in model signatures.
func (v *Verified) acceptOldKey(h publicKeyHint) error {
	switch {
	case h.RawBytes == "" && h.KeyDetails == "":
		return nil
	case v.manifest == nil:
		return rejectf(ReasonParse, "it carries a public key of its own, which only model signatures of OMS before 1.1 do")
	case !h.carries(v.key):
		return rejectf(ReasonSignature, "the public key that it carries is not the one that signed it, %s", v.key.Fingerprint())
	}
	v.warnings = append(v.warnings, "the signature carries its public key, as OMS before 1.1 wrote it; sign again")
	return nil
}
