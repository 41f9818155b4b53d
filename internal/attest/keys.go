package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// Signer signs with one ECDSA P-256 key, wherever that is kept.
type Signer interface {
	// PublicKey returns the key that verifies the signatures.
	PublicKey() PublicKey
	// Sign returns the ASN.1 DER signature of the SHA-256 of message. It is given the
	// message, not the digest, so that whoever holds the key can see what it signs.
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

// PublicKey is an ECDSA P-256 public key. The zero value verifies nothing.
type PublicKey struct {
	key *ecdsa.PublicKey
	der []byte // SubjectPublicKeyInfo
}

func newPublicKey(key any) (PublicKey, error) {
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return PublicKey{}, wrongKind(key)
	}
	der, err := x509.MarshalPKIXPublicKey(ec)
	if err != nil {
		return PublicKey{}, err
	}
	return PublicKey{key: ec, der: der}, nil
}

// ParsePublicKey reads a PEM block of type "PUBLIC KEY".
func ParsePublicKey(data []byte) (PublicKey, error) {
	block, err := onlyBlock(data)
	if err != nil {
		return PublicKey{}, err
	}
	if block.Type != publicBlock {
		return PublicKey{}, fmt.Errorf("PEM block %q, want %q", block.Type, publicBlock)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return PublicKey{}, fmt.Errorf("not a public key: %v", err)
	}
	return newPublicKey(key)
}

// PEM returns the key in the form of a .pub file.
func (k PublicKey) PEM() []byte { return publicPEM(k.der) }

// Fingerprint returns the SHA-256 of the key's PEM text as hex digits, which is how
// a Sigstore bundle by OMS names a key.
func (k PublicKey) Fingerprint() string { return fingerprint(k.der) }

func publicPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: der})
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(publicPEM(der))
	return hex.EncodeToString(sum[:])
}

func (k PublicKey) verify(digest [sha256.Size]byte, sig []byte) bool {
	return k.key != nil && ecdsa.VerifyASN1(k.key, digest[:], sig)
}

// PrivateKey is an ECDSA P-256 key in memory. It is a [Signer].
type PrivateKey struct {
	key    *ecdsa.PrivateKey
	public PublicKey
}

// GenerateKey makes a new key.
func GenerateKey() (*PrivateKey, error) {
	GuardMemory()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating a key: %v", err)
	}
	return newPrivateKey(key)
}

func newPrivateKey(key any) (*PrivateKey, error) {
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, wrongKind(key)
	}
	public, err := newPublicKey(&ec.PublicKey)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{key: ec, public: public}, nil
}

// PublicKey returns the public half.
func (k *PrivateKey) PublicKey() PublicKey { return k.public }

// Sign implements [Signer].
func (k *PrivateKey) Sign(_ context.Context, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	return ecdsa.SignASN1(rand.Reader, k.key, digest[:])
}

// NewPublicKey returns a key that a token or another store holds, if it is one of
// ECDSA P-256.
func NewPublicKey(key crypto.PublicKey) (PublicKey, error) { return newPublicKey(key) }

// wrongKind says what an unsupported key is, and who would not verify its signatures.
func wrongKind(key any) error {
	kind, why := fmt.Sprintf("a key of type %T", key), "other verifiers do not know it"
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		kind, why = "an ECDSA "+k.Curve.Params().Name+" key", "cosign checks it only when told another digest algorithm"
	case *rsa.PublicKey, *rsa.PrivateKey:
		kind, why = "an RSA key", "OpenSSF Model Signing does not verify it"
	case ed25519.PublicKey, ed25519.PrivateKey:
		kind, why = "an Ed25519 key", "OpenSSF Model Signing does not verify it"
	}
	return fmt.Errorf("it is %s; only ECDSA P-256 keys are supported, since these verify everywhere: %s", kind, why)
}

// Types of PEM blocks.
const (
	publicBlock        = "PUBLIC KEY"
	pkcs8Block         = "PRIVATE KEY"
	sec1Block          = "EC PRIVATE KEY"
	ecParametersBlock  = "EC PARAMETERS"
	pkcs8SecretBlock   = "ENCRYPTED PRIVATE KEY"
	sigstoreBlock      = "ENCRYPTED SIGSTORE PRIVATE KEY"
	cosignBlock        = "ENCRYPTED COSIGN PRIVATE KEY"
	certificateBlock   = "CERTIFICATE"
	opensslCipherField = "DEK-Info"
)

// onlyBlock returns the PEM block of a file that must hold one, so that nobody can
// see another key in it than is used. Parameters, which openssl puts before an EC
// key, do not count.
func onlyBlock(data []byte) (*pem.Block, error) {
	var found *pem.Block
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		switch {
		case block == nil && found == nil:
			return nil, errors.New("it is not in PEM format")
		case block == nil && len(bytes.TrimSpace(data)) > 0:
			return nil, errors.New("there is something after its PEM block")
		case block == nil:
			return found, nil
		case block.Type == ecParametersBlock:
		case found != nil:
			return nil, errors.New("it has more than one PEM block")
		default:
			found = block
		}
	}
}

// ParsePrivateKey reads a PEM block with a key of one of these forms: encrypted as by
// cosign, of either generation; PKCS#8, encrypted by PBES2 or not; SEC 1. The
// passphrase is asked for only where the key is encrypted; nil stands for nobody to ask.
func ParsePrivateKey(data []byte, passphrase func() ([]byte, error)) (*PrivateKey, error) {
	GuardMemory()
	block, err := onlyBlock(data)
	if err != nil {
		return nil, err
	}
	if block.Headers[opensslCipherField] != "" {
		return nil, errors.New(`it is encrypted in an old format of openssl; convert it with "openssl pkcs8 -topk8"`)
	}
	der := block.Bytes
	switch block.Type {
	case sec1Block:
		key, err := x509.ParseECPrivateKey(der)
		if err != nil {
			return nil, fmt.Errorf("not a private key: %v", err)
		}
		return newPrivateKey(key)
	case sigstoreBlock, cosignBlock:
		if der, err = decryptKey(der, passphrase); err != nil {
			return nil, err
		}
	case pkcs8Block:
	case pkcs8SecretBlock:
		if der, err = decryptPKCS8(der, passphrase); err != nil {
			return nil, err
		}
	case publicBlock, certificateBlock:
		return nil, fmt.Errorf("it holds a %q, want a private key", block.Type)
	default:
		return nil, fmt.Errorf("PEM block %q, want %q, %q or %q", block.Type, sigstoreBlock, pkcs8Block, sec1Block)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("not a private key: %v", err)
	}
	return newPrivateKey(key)
}
