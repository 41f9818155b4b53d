package main

import (
	"context"
	"os"
	"runtime"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/lapidary-ml/lapidary/internal/signer"
)

// signHelp says what --sign and --key of the commands that sign take.
const signHelp = "a private key `FILE`, a token (pkcs11:...), a program (exec:...) or a key service (awskms://... and others)"

// openSigner opens the key that spec names. The passphrase or PIN comes from the file,
// the environment or a prompt; the caller closes the signer.
func (a *app) openSigner(ctx context.Context, spec, passphraseFile string) (signer.Signer, error) {
	a.warnReadable(spec)
	return signer.Open(ctx, spec, signer.Options{
		Secret:   func(name string) ([]byte, error) { return a.secret(passphraseFile, name, false) },
		Messages: a.env.stderr,
	})
}

// warnReadable says when a key file that needs no passphrase is open to others.
func (a *app) warnReadable(path string) {
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o077 == 0 {
		return
	}
	data, err := readfile.All(path, 64<<10)
	if err == nil && strings.Contains(string(data), "PRIVATE KEY-----") && !strings.Contains(string(data), "ENCRYPTED") {
		a.warn("%s is not encrypted, and other users can read it (mode %04o); chmod 600, or encrypt it", path, info.Mode().Perm())
	}
}
