package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// passphraseVariable holds the passphrase of a private key where nobody can be asked.
const passphraseVariable = "LAPIDARY_KEY_PASSPHRASE"

// keyMade is the JSON document of keygen.
type keyMade struct {
	Schema      string `json:"schema"`
	Private     string `json:"private,omitempty"` // absent with --from
	Public      string `json:"public"`
	Fingerprint string `json:"fingerprint"`
	Encrypted   bool   `json:"encrypted"`
}

func (a *app) keygenCommand() *cobra.Command {
	var plain bool
	var file, from string
	c := &cobra.Command{
		Use:   "keygen PREFIX",
		Short: "Make a key pair for signing evidence",
		Long: `keygen writes PREFIX.key, an ECDSA P-256 private key encrypted with a passphrase
(in the format of cosign), and PREFIX.pub, the public key. Existing files are
never replaced. The passphrase is asked for, or comes from --passphrase-file or
the environment variable ` + passphraseVariable + `.

With --from it makes no key: it writes PREFIX.pub for a key that is somewhere else,
which also tries whether that can be reached and is of the right kind.

Keys are of ECDSA P-256, since these verify everywhere: OpenSSF Model Signing does
not verify Ed25519 and RSA, and cosign checks P-384 and P-521 only when told another
digest algorithm.`,
		Example: "  lapidary keygen release\n" +
			"  lapidary keygen release --from 'pkcs11:token=prod;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so'",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if from != "" {
				if plain {
					return usagef("--unencrypted is for a new key, and --from makes none")
				}
				return a.exportPublic(c.Context(), args[0], from, file)
			}
			o := attest.KeyOptions{Unencrypted: plain}
			if !plain {
				o.Passphrase = func() ([]byte, error) { return a.passphrase(file, true) }
			}
			key, err := attest.GenerateKey()
			if err != nil {
				return err
			}
			if err := key.WriteFiles(args[0], o); err != nil {
				return err
			}
			a.wrote(args[0] + ".pub") // no digest of a private key is kept
			return a.printKey(keyMade{schemaURI("keygen-v1"), args[0] + ".key", args[0] + ".pub", key.PublicKey().Fingerprint(), !plain})
		},
	}
	c.Flags().BoolVar(&plain, "unencrypted", false, "write the private key without a passphrase, for throw-away keys")
	c.Flags().StringVar(&file, "passphrase-file", "", "`FILE` whose first line is the passphrase, or with --from the PIN")
	c.Flags().StringVar(&from, "from", "", "write only the public key of "+signHelp)
	return c
}

// exportPublic writes the public half of a key that exists.
func (a *app) exportPublic(ctx context.Context, prefix, spec, passphraseFile string) error {
	s, err := a.openSigner(ctx, spec, passphraseFile)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.PublicKey().WriteFile(prefix + ".pub"); err != nil {
		return err
	}
	return a.printKey(keyMade{Schema: schemaURI("keygen-v1"), Public: prefix + ".pub", Fingerprint: s.PublicKey().Fingerprint()})
}

func (a *app) printKey(k keyMade) error {
	if a.json() {
		return writeJSON(a.env.stdout, k)
	}
	if k.Private != "" {
		fmt.Fprintf(a.env.stdout, "private key %s\n", k.Private)
	}
	fmt.Fprintf(a.env.stdout, "public key  %s\nfingerprint %s\n", k.Public, k.Fingerprint)
	return nil
}

// passphrase returns the passphrase of a private key: from file, the
// environment, or a prompt; twice where a new one is chosen.
func (a *app) passphrase(file string, isNew bool) ([]byte, error) {
	return a.secret(file, "Passphrase", isNew)
}

// maxPassphrase bounds a passphrase in a file, in bytes.
const maxPassphrase = 4 << 10

// secret returns a passphrase or a PIN, prompting for it by that name.
func (a *app) secret(file, name string, isNew bool) ([]byte, error) {
	attest.GuardMemory()
	if file != "" {
		line, err := readfile.Line(file, maxPassphrase)
		if err != nil {
			return nil, fmt.Errorf("the passphrase: %w", err)
		}
		return line, nil
	}
	if v, ok := a.env.lookup(passphraseVariable); ok {
		return []byte(v), nil
	}
	in, ok := a.env.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, usagef("the key needs a passphrase, and there is no terminal to ask; set %s, give --passphrase-file, or see keygen --unencrypted", passphraseVariable)
	}
	first, err := a.prompt(in, name+": ")
	if err != nil || !isNew {
		return first, err
	}
	second, err := a.prompt(in, "Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the passphrases differ")
	}
	return first, nil
}

func (a *app) prompt(in *os.File, text string) ([]byte, error) {
	fmt.Fprint(a.env.stderr, text)
	b, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(a.env.stderr)
	return b, err
}
