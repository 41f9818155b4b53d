package attest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// HashModel returns the subjects for a model: the file at path first, then its
// external data files, each once, by path component. The external files are named by
// slash-separated paths relative to the model's folder, which they may not leave,
// neither by "..", nor by a symbolic link. Files are read once, in pieces.
func HashModel(ctx context.Context, path string, external []string) ([]Subject, error) {
	digest, err := hashFile(ctx, path)
	if err != nil {
		return nil, err
	}
	subjects := []Subject{{Name: filepath.Base(path), SHA256: digest}}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	external = slices.Clone(external)
	slices.SortFunc(external, comparePaths)
	for _, name := range slices.Compact(external) {
		if name == subjects[0].Name {
			continue // tensors at the end of the model's own file
		}
		digest, err := hashIn(ctx, root, name)
		if err != nil {
			return nil, fmt.Errorf("hashing %s: %w", filepath.Join(root.Name(), filepath.FromSlash(name)), err)
		}
		subjects = append(subjects, Subject{Name: name, SHA256: digest})
	}
	return subjects, nil
}

// CheckFiles checks that the model at path is what the evidence is about. The model
// may have been renamed; its content decides. Every other file that the evidence
// covers must be in the model's folder under its name with the signed content, and
// every path in external, the data files that the model reads (as in [HashModel]),
// must be covered. A failed check is a [*RejectedError] that names the file.
func (v *Verified) CheckFiles(ctx context.Context, path string, external []string) error {
	if v.manifest != nil && v.manifest.sharded {
		return v.checkSharded(ctx, path, external)
	}
	model, err := v.match(ctx, path)
	if err != nil {
		return err
	}
	for _, name := range external {
		if name == filepath.Base(path) {
			continue // the model's own file, which was found
		}
		if !slices.ContainsFunc(v.files, func(s Subject) bool { return s.Name == name }) {
			return rejectf(ReasonDigest, "%s reads %q, which the evidence does not cover", path, name)
		}
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	for i, s := range v.files {
		if i == model {
			continue
		}
		if err := checkIn(ctx, root, s); err != nil {
			return err
		}
	}
	return nil
}

// CheckFile checks only that the file at path is one of those that the evidence
// covers, whichever and under whatever name. That the other ones are there, and that
// a model's external data is covered, is left to the caller.
func (v *Verified) CheckFile(ctx context.Context, path string) error {
	_, err := v.match(ctx, path)
	return err
}

// match returns the index of the covered file that has the content of the one at
// path, if possible the one of the same name.
func (v *Verified) match(ctx context.Context, path string) (int, error) {
	digest, err := hashFile(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, rejectf(ReasonDigest, "%s is missing", path)
	}
	if err != nil {
		return 0, err
	}
	base := filepath.Base(path)
	if i := slices.Index(v.files, Subject{Name: base, SHA256: digest}); i >= 0 {
		return i, nil
	}
	if i := slices.IndexFunc(v.files, func(s Subject) bool { return s.SHA256 == digest }); i >= 0 {
		return i, nil
	}
	return 0, rejectf(ReasonDigest, "%s has the SHA-256 %s, but the evidence is about %s", path, digest, v.describe())
}

// describe names the covered files, the first with its digest.
func (v *Verified) describe() string {
	if len(v.files) == 0 {
		return "no file"
	}
	first := v.files[0]
	if first.Name == selfName {
		first.Name = v.statement.Subjects[0].Name
	}
	s := fmt.Sprintf("%q (%s)", first.Name, first.SHA256)
	if n := len(v.files) - 1; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// checkIn checks one covered file below root.
func checkIn(ctx context.Context, root *os.Root, s Subject) error {
	path := filepath.Join(root.Name(), filepath.FromSlash(s.Name))
	digest, err := hashIn(ctx, root, s.Name)
	var escape *escapeError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return rejectf(ReasonDigest, "%s is missing, which the evidence covers", path)
	case errors.As(err, &escape):
		return rejectf(ReasonDigest, "the evidence covers %q, which is not a file in the model's folder", s.Name)
	case err != nil:
		return fmt.Errorf("hashing %s: %w", path, err)
	case digest != s.SHA256:
		return rejectf(ReasonDigest, "%s has the SHA-256 %s, the evidence says %s", path, digest, s.SHA256)
	}
	return nil
}

// escapeError says that a path is not that of a file below a folder.
type escapeError struct{ name string }

func (e *escapeError) Error() string {
	return fmt.Sprintf("%q must be a relative path with slashes that stays in the model's folder", e.name)
}

// hashIn hashes the file with the slash-separated relative path name below root.
// os.Root refuses links that lead out.
func hashIn(ctx context.Context, root *os.Root, name string) (string, error) {
	local := filepath.FromSlash(name)
	if !fs.ValidPath(name) || name == "." || !filepath.IsLocal(local) {
		return "", &escapeError{name}
	}
	f, err := root.OpenFile(local, openFlags, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return hash(ctx, f)
}

// openFlags opens a pipe without waiting for its writer, so that hash can refuse it.
const openFlags = os.O_RDONLY | readfile.NoWait

func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.OpenFile(path, openFlags, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digest, err := hash(ctx, f)
	if err != nil {
		return "", fmt.Errorf("hashing %s: %w", path, err)
	}
	return digest, nil
}

// hash reads a regular file to its end. Anything else, such as a pipe or a folder,
// is refused: it cannot be read a second time.
func hash(ctx context.Context, f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("it is not a regular file")
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, contextReader{ctx, f}, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// contextReader ends with the context's error once that is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
