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
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// GitPaths are what OMS never signs, at the top of a model's folder.
func GitPaths() []string { return []string{".git", ".gitattributes", ".github", ".gitignore"} }

// HashFolder returns a subject for every regular file below dir, by path component.
// The paths in ignore, relative to dir and with slashes, are left out with all that is
// below them; ignored are those that were there. A symbolic link or a special file is
// an error: what it leads to could not be checked.
func HashFolder(ctx context.Context, dir string, ignore []string) (files []Subject, ignored []string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	list, err := listFolder(ctx, root, ignore)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the folder %s: %w", dir, err)
	}
	for _, name := range list.files {
		digest, err := hashIn(ctx, root, name)
		if err != nil {
			return nil, nil, fmt.Errorf("hashing %s: %w", filepath.Join(dir, filepath.FromSlash(name)), err)
		}
		files = append(files, Subject{Name: name, SHA256: digest})
	}
	return files, list.ignored, nil
}

// CleanIgnored returns a path that a caller wants left out as it is written into a
// signature.
func CleanIgnored(p string) (string, error) {
	clean := path.Clean(filepath.ToSlash(p))
	if !fs.ValidPath(clean) || clean == "." || strings.ContainsAny(clean, "*?[") {
		return "", fmt.Errorf("%q is not a path within the model's folder; give one relative to it, without .. and wildcards", p)
	}
	return clean, nil
}

// listing is what is in a folder.
type listing struct {
	files   []string // regular files, by path component
	ignored []string // paths that were left out
}

// foreignError says that there is something in a folder that can be neither signed nor
// checked.
type foreignError struct{ msg string }

func (e *foreignError) Error() string { return e.msg }

func listFolder(ctx context.Context, root *os.Root, ignore []string) (*listing, error) {
	out := &listing{}
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || name == "." {
			return err
		}
		if slices.Contains(ignore, name) { // what is below a folder is never reached
			out.ignored = append(out.ignored, name)
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		switch {
		case !utf8.ValidString(name):
			return &foreignError{fmt.Sprintf("the name %q is not valid UTF-8; rename it", name)}
		case d.Type()&fs.ModeSymlink != 0:
			return &foreignError{fmt.Sprintf("%s is a symbolic link, which is not followed; put the file itself in its place, or leave it out", name)}
		case d.IsDir():
		case d.Type().IsRegular():
			out.files = append(out.files, name)
		default:
			return &foreignError{fmt.Sprintf("%s is neither a file nor a folder; remove it, or leave it out", name)}
		}
		return nil
	})
	slices.SortFunc(out.files, comparePaths)
	return out, err
}

// FolderCheck says how a folder is compared with a model signature.
type FolderCheck struct {
	// Ignore are paths, relative to the folder, that may be there in any form: the
	// signature itself, and [GitPaths].
	Ignore []string
	// AllowUnsigned accepts files that the signature does not list.
	AllowUnsigned bool
}

// FolderResult is what a comparison left out.
type FolderResult struct {
	Files    int      // files whose content is as it was signed
	Ignored  []string // paths in the folder that the signer left out
	Unsigned []string // files in the folder that the signature does not list
}

// CheckFolder checks that dir holds every file that the model signature lists, with the
// signed content, and no other. A failed check is a [*RejectedError] that names the file.
func (v *Verified) CheckFolder(ctx context.Context, dir string, o FolderCheck) (*FolderResult, error) {
	if v.manifest == nil {
		return nil, rejectf(ReasonSchema, "it is no model signature, so it says nothing about the folder %s", dir)
	}
	if paths := v.manifest.Paths(); len(paths) == 1 && paths[0] == selfName {
		return nil, rejectf(ReasonDigest, "it is about one file, %q, and %s is a folder", v.statement.Subjects[0].Name, dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	list, err := listFolder(ctx, root, append(slices.Clone(o.Ignore), v.manifest.Ignored...))
	if foreign := (*foreignError)(nil); errors.As(err, &foreign) {
		return nil, rejectf(ReasonDigest, "in %s, %s", dir, foreign)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the folder %s: %w", dir, err)
	}
	paths := v.manifest.Paths()
	out := &FolderResult{Files: len(paths)}
	for _, p := range list.ignored {
		if slices.Contains(v.manifest.Ignored, p) {
			out.Ignored = append(out.Ignored, p)
		}
	}
	for _, f := range list.files {
		if _, signed := slices.BinarySearchFunc(paths, f, comparePaths); !signed {
			out.Unsigned = append(out.Unsigned, f)
		}
	}
	if len(out.Unsigned) > 0 && !o.AllowUnsigned {
		return nil, rejectf(ReasonDigest, "%s has %d files that the signature does not list, such as %q", dir, len(out.Unsigned), out.Unsigned[0])
	}
	for _, p := range paths {
		if err := v.manifest.check(ctx, root, p, p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// checkSharded is [Verified.CheckFiles] for a signature of shards, by which a file is
// known only under its name.
func (v *Verified) checkSharded(ctx context.Context, model string, external []string) error {
	root, err := os.OpenRoot(filepath.Dir(model))
	if err != nil {
		return err
	}
	defer root.Close()
	paths := v.manifest.Paths()
	if slices.Equal(paths, []string{selfName}) {
		paths = []string{filepath.Base(model)}
	}
	for _, p := range append([]string{filepath.Base(model)}, external...) {
		if !slices.Contains(paths, p) {
			return rejectf(ReasonDigest, "the signature does not list %q", p)
		}
	}
	for _, p := range v.manifest.Paths() {
		name := p
		if p == selfName {
			name = filepath.Base(model)
		}
		if err := v.manifest.check(ctx, root, name, p); err != nil {
			return err
		}
	}
	return nil
}

// check compares the file of that name below root with what is listed for path.
func (m *Manifest) check(ctx context.Context, root *os.Root, name, path string) error {
	pieces := m.of(path)
	if !m.sharded {
		return checkIn(ctx, root, Subject{Name: name, SHA256: pieces[0].digest})
	}
	file := filepath.Join(root.Name(), filepath.FromSlash(name))
	local := filepath.FromSlash(name)
	if !fs.ValidPath(name) || !filepath.IsLocal(local) {
		return rejectf(ReasonDigest, "the evidence covers %q, which is not a file in the model's folder", name)
	}
	f, err := root.OpenFile(local, openFlags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return rejectf(ReasonDigest, "%s is missing, which the evidence covers", file)
	}
	if err != nil {
		return fmt.Errorf("hashing %s: %w", file, err)
	}
	defer f.Close()
	return checkPieces(ctx, f, file, pieces)
}

// checkPieces compares a file with its shards, which cover it from its first byte on.
func checkPieces(ctx context.Context, f *os.File, name string, pieces []piece) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("hashing %s: it is not a regular file", name)
	}
	if want := pieces[len(pieces)-1].end; info.Size() != want {
		return rejectf(ReasonDigest, "%s has %d bytes, the evidence covers %d", name, info.Size(), want)
	}
	for _, p := range pieces {
		h := sha256.New()
		section := io.NewSectionReader(f, p.start, p.end-p.start)
		if _, err := io.CopyBuffer(h, contextReader{ctx, section}, make([]byte, 1<<20)); err != nil {
			return fmt.Errorf("hashing %s: %w", name, err)
		}
		if digest := hex.EncodeToString(h.Sum(nil)); digest != p.digest {
			return rejectf(ReasonDigest, "%s has the SHA-256 %s from byte %d to %d, the evidence says %s", name, digest, p.start, p.end, p.digest)
		}
	}
	return nil
}
