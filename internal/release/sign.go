package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/signer"
	"golang.org/x/term"
)

// Names of the files that show whose a release is.
const (
	sumsFile      = "SHA256SUMS"
	sumsSignature = "SHA256SUMS.sig" // of the sums as they are: openssl checks it
	signatureFile = "release.sig"    // of every file, in OpenSSF's format
)

// passphraseVariable holds the passphrase or PIN of the key where nobody can be asked.
const passphraseVariable = "LAPIDARY_KEY_PASSPHRASE"

// openOwner opens the key that signs a release. What is started afterwards does not see its passphrase.
func openOwner(ctx context.Context, spec string) (signer.Signer, error) {
	s, err := signer.Open(ctx, spec, signer.Options{Secret: secret, Messages: os.Stderr})
	if err != nil {
		return nil, fmt.Errorf("-key: %w", err)
	}
	return s, os.Unsetenv(passphraseVariable)
}

// secret asks for a passphrase or a PIN, where the environment has none.
func secret(name string) ([]byte, error) {
	if v, ok := os.LookupEnv(passphraseVariable); ok {
		return []byte(v), nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, errors.New("the key needs a passphrase, and there is no terminal to ask; set " + passphraseVariable)
	}
	fmt.Fprint(os.Stderr, name+": ")
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	return b, err
}

// sign writes the signature of the sums, and one of all files, that of the sums included.
func (r *release) sign(ctx context.Context, owner attest.Signer) error {
	text, err := os.ReadFile(filepath.Join(r.out, sumsFile))
	if err != nil {
		return err
	}
	sig, err := attest.SignBlob(ctx, owner, text)
	if err != nil {
		return fmt.Errorf("%s: %w", sumsFile, err)
	}
	if err := os.WriteFile(filepath.Join(r.out, sumsSignature), sig, 0o644); err != nil {
		return err
	}
	ignored := append(attest.GitPaths(), signatureFile)
	slices.Sort(ignored)
	files, _, err := attest.HashFolder(ctx, r.out, ignored)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(r.out)
	if err != nil {
		return err
	}
	bundle, err := attest.SignFolder(ctx, owner, filepath.Base(dir), files, ignored)
	if err != nil {
		return err
	}
	if _, err := attest.Verify(bundle, []attest.PublicKey{owner.PublicKey()}); err != nil {
		return fmt.Errorf("the signature just made: %w", err)
	}
	if err := os.WriteFile(filepath.Join(r.out, signatureFile), bundle, 0o644); err != nil {
		return err
	}
	fmt.Printf("signed by key %s: %s, and all %d files in %s\n", owner.PublicKey().Fingerprint(), sumsSignature, len(files), signatureFile)
	return nil
}
