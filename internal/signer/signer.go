// Package signer opens whatever holds a signing key, as an [attest.Signer]: a key file,
// a PKCS#11 token, or a program that asks a key service.
//
// What is asked for is one word:
//
//	release.key                       a file that attest.LoadPrivateKey reads
//	pkcs11:token=T;object=K?module-path=/usr/lib/…   a key on a token (RFC 7512)
//	exec:PROGRAM                      a program that signs
//	awskms://…, NAME://…              the program lapidary-sign-NAME on the PATH
//
// A program is called twice. "PROGRAM public-key [URI]" prints the public key as PEM.
// "PROGRAM sign [URI]" reads the message on its standard input, and prints the
// signature of its SHA-256: in DER, or as the 64 bytes r and s. The environment variable
// LAPIDARY_SHA256 has the digest in hex, for services that sign digests. What it writes
// to its standard error goes to the user. The message is the pre-authentication encoding
// of DSSE, so a program can look at what it signs.
//
// Keys are of ECDSA P-256 everywhere. Only a program can touch the network, and only one
// that the user named.
package signer

import (
	"context"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/attest"
)

// Signer is an open key. Close forgets secrets and ends sessions.
type Signer interface {
	attest.Signer
	io.Closer
}

// Options says who is asked and told.
type Options struct {
	// Secret returns a passphrase or PIN, prompting for it by that name where it must.
	// Nil stands for nobody to ask.
	Secret func(name string) ([]byte, error)
	// Messages is where programs write for the user; nil drops it.
	Messages io.Writer
}

// secret returns a function that asks for one secret.
func (o Options) secret(name string) func() ([]byte, error) {
	if o.Secret == nil {
		return nil
	}
	return func() ([]byte, error) { return o.Secret(name) }
}

// isURI has the beginning of a key's address at a service; a drive letter is none.
var isURI = regexp.MustCompile(`^([a-z][a-z0-9+.-]+)://`)

// Open opens the key that spec names.
func Open(ctx context.Context, spec string, o Options) (Signer, error) {
	if program, ok := strings.CutPrefix(spec, "exec:"); ok {
		return openProgram(ctx, program, "", o)
	}
	if strings.HasPrefix(spec, "pkcs11:") {
		u, err := parseTokenURI(spec)
		if err != nil {
			return nil, fmt.Errorf("reading the key's address: %w", err)
		}
		return openToken(u, o)
	}
	if m := isURI.FindStringSubmatch(spec); m != nil {
		return openService(ctx, m[1], spec, o)
	}
	key, err := attest.LoadPrivateKey(spec, o.secret("Passphrase"))
	if err != nil {
		return nil, err
	}
	return file{key}, nil
}

// file is a key in memory.
type file struct{ *attest.PrivateKey }

// Close implements [Signer]. Go's keys cannot be wiped.
func (file) Close() error { return nil }

// derSignature encodes r and s, each half of raw, as ECDSA-Sig-Value (RFC 3279).
func derSignature(raw []byte) ([]byte, error) {
	if len(raw) != 64 {
		return nil, fmt.Errorf("a signature of %d bytes, one of ECDSA P-256 has 64", len(raw))
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
}

// isDER reports whether sig is one ECDSA-Sig-Value.
func isDER(sig []byte) bool {
	var v struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(sig, &v)
	return err == nil && len(rest) == 0
}
