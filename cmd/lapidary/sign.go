package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/spf13/cobra"
)

// signed is the JSON document of sign.
type signed struct {
	Schema    string   `json:"schema"`
	Signature string   `json:"signature"`
	Name      string   `json:"name"`
	Root      string   `json:"root"` // SHA-256 over the digests of the files
	Files     []string `json:"files"`
	Ignored   []string `json:"ignored"` // paths that were there and are not signed
	Key       string   `json:"key"`     // fingerprint
}

func (a *app) signCommand() *cobra.Command {
	var key, passphrase, output string
	var ignore []string
	c := &cobra.Command{
		Use:   "sign MODEL|DIR --key KEY",
		Short: "Sign a model file with its data, or a whole folder, in OpenSSF's format",
		Long: `sign writes a signature in the format of OpenSSF Model Signing, which the tool
model_signing verifies, and lapidary verify. Of an ONNX file it covers the file and
all external data; of a folder every file in it but .git, .gitattributes, .github,
.gitignore at its top, --ignore-paths, and the signature itself. Symbolic links and
special files are refused, since what they lead to could not be checked.

It says that these are the bytes, not that they are any good: that is what
validate --sign says.`,
		Example: "  lapidary sign models/resnet --key release.key -o resnet.sig",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if key == "" {
				return usagef("no key to sign with; name one with --key")
			}
			return a.sign(c.Context(), args[0], key, passphrase, output, ignore)
		},
	}
	c.Flags().StringVar(&key, "key", "", signHelp)
	c.Flags().StringVar(&passphrase, "passphrase-file", "", "`FILE` whose first line is the passphrase or PIN of --key")
	c.Flags().StringVarP(&output, "output", "o", "model.sig", "signature `FILE`")
	c.Flags().StringSliceVar(&ignore, "ignore-paths", nil, "`PATHS` of a folder to leave out, relative to it; the signature names them")
	return c
}

func (a *app) sign(ctx context.Context, target, keySpec, passphrase, output string, ignore []string) error {
	info, err := os.Stat(target)
	if err != nil {
		return fmt.Errorf("signing %s: %w", target, rootCause(err))
	}
	if !info.IsDir() && len(ignore) > 0 {
		return usagef("--ignore-paths is for a folder, and %s is a file", target)
	}
	s, err := a.openSigner(ctx, keySpec, passphrase)
	if err != nil {
		return err
	}
	defer s.Close()
	out := signed{Schema: schemaURI("sign-v1"), Signature: output, Name: folderName(target), Ignored: []string{}, Key: s.PublicKey().Fingerprint()}
	var files []attest.Subject
	var signature []byte
	if info.IsDir() {
		if ignore, err = ignoredIn(target, output, ignore); err != nil {
			return err
		}
		var present []string
		if files, present, err = attest.HashFolder(ctx, target, ignore); err != nil {
			return err
		}
		out.Ignored = append(out.Ignored, present...)
		signature, err = attest.SignFolder(ctx, s, out.Name, files, ignore)
	} else {
		if files, err = hashModelFile(ctx, target); err != nil {
			return err
		}
		if len(files) > 1 {
			out.Name = folderName(filepath.Dir(target))
		}
		signature, err = attest.SignModel(ctx, s, out.Name, files)
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		out.Files = append(out.Files, f.Name)
	}
	v, err := attest.Verify(signature, []attest.PublicKey{s.PublicKey()})
	if err != nil {
		return fmt.Errorf("the signature just made: %w", err)
	}
	out.Root = v.Subjects()[0].SHA256
	if err := atomicfile.WriteFile(output, signature, 0o666); err != nil {
		return err
	}
	return a.printSigned(out, target, info.IsDir())
}

func (a *app) printSigned(s signed, target string, folder bool) error {
	if a.json() {
		return writeJSON(a.env.stdout, s)
	}
	w := a.env.stdout
	fmt.Fprintf(w, "%s: %s of %s signed, root sha256:%s, by key %s\n", s.Signature, plural(len(s.Files), "file", "files"), s.Name, s.Root, s.Key)
	for _, p := range s.Ignored {
		fmt.Fprintf(w, "  not signed: %s\n", p)
	}
	if !folder && len(s.Files) > 1 {
		target = filepath.Dir(target)
	}
	fmt.Fprintf(w, "check it without lapidary:\n  model_signing verify key %s --signature %s --public_key PUB\n", target, s.Signature)
	fmt.Fprintf(w, "  cosign verify-blob-attestation --key PUB --bundle %s --type %s --insecure-ignore-tlog --digest %s --digestAlg sha256\n", s.Signature, attest.ModelPredicateType, s.Root)
	return nil
}

// ignoredIn returns what of a folder is not signed: the usual paths, those of the user,
// and the signature where it lies inside.
func ignoredIn(dir, signature string, user []string) ([]string, error) {
	out := attest.GitPaths()
	for _, p := range user {
		clean, err := attest.CleanIgnored(p)
		if err != nil {
			return nil, usagef("--ignore-paths: %w", err)
		}
		out = append(out, clean)
	}
	if rel, ok := inside(dir, signature); ok {
		out = append(out, rel)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// inside returns the slash-separated path of a file relative to the folder it lies in,
// however both are spelt.
func inside(dir, file string) (string, bool) {
	real := func(p string) string {
		if abs, err := filepath.Abs(p); err == nil {
			p = abs
		}
		if r, err := filepath.EvalSymlinks(p); err == nil {
			return r
		}
		return p
	}
	parent := filepath.Join(real(filepath.Dir(file)), filepath.Base(file)) // the file may not exist yet
	rel, err := filepath.Rel(real(dir), parent)
	if err != nil || !filepath.IsLocal(rel) || rel == "." {
		return "", false
	}
	return filepath.ToSlash(rel), true
}

// folderName returns the last component of a path, also of ".".
func folderName(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return filepath.Base(path)
}

// hashModelFile hashes a file and, where it is an ONNX model, its external data.
func hashModelFile(ctx context.Context, path string) ([]attest.Subject, error) {
	external, err := externalFiles(path)
	if err != nil {
		return nil, err
	}
	return attest.HashModel(ctx, path, external)
}

// externalFiles returns the files beside an ONNX model that hold its tensors. A file of
// another name than *.onnx has none.
func externalFiles(path string) ([]string, error) {
	if !strings.EqualFold(filepath.Ext(path), ".onnx") {
		return nil, nil
	}
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return m.ExternalFiles(), nil
}
