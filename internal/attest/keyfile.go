package attest

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// maxKeyFile bounds a key file in bytes; real ones have less than 1 KiB.
const maxKeyFile = 64 << 10

// LoadPublicKey reads a file as [ParsePublicKey] does.
func LoadPublicKey(path string) (PublicKey, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return PublicKey{}, err
	}
	key, err := ParsePublicKey(data)
	if err != nil {
		return PublicKey{}, fmt.Errorf("reading the public key %s: %v", path, err)
	}
	return key, nil
}

// LoadPrivateKey reads a file as [ParsePrivateKey] does.
func LoadPrivateKey(path string, passphrase func() ([]byte, error)) (*PrivateKey, error) {
	data, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	key, err := ParsePrivateKey(data, passphrase)
	if err != nil {
		return nil, fmt.Errorf("reading the private key %s: %w", path, err)
	}
	return key, nil
}

func readKeyFile(path string) ([]byte, error) {
	data, err := readfile.All(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("the key: %w", err)
	}
	return data, nil
}

// KeyOptions says how [PrivateKey.WriteFiles] protects the key. One of the fields
// must be set.
type KeyOptions struct {
	// Passphrase returns what the key is encrypted with; it may not be empty.
	Passphrase func() ([]byte, error)
	// Unencrypted stores the key so that whoever can read the file can sign.
	Unencrypted bool
}

// WriteFiles writes the key to prefix.key (mode 0600) and its public half to
// prefix.pub. The key is in cosign's format (scrypt and NaCl secretbox), or PKCS#8
// where it stays unencrypted. Where one of the files exists, the error is
// fs.ErrExist (for errors.Is) and nothing is written.
func (k *PrivateKey) WriteFiles(prefix string, o KeyOptions) error {
	secret, public := prefix+".key", prefix+".pub"
	for _, path := range []string{secret, public} {
		if _, err := os.Lstat(path); err == nil {
			return existsError(path)
		}
	}
	data, err := k.marshal(o)
	if err != nil {
		return err
	}
	if err := writeNew(secret, data, 0o600); err != nil {
		return err
	}
	if err := writeNew(public, k.public.PEM(), 0o644); err != nil {
		atomicfile.Remove(secret)
		return err
	}
	return nil
}

// WriteFile writes the key as PEM to a file that must not exist yet; where it does, the
// error is fs.ErrExist (for errors.Is).
func (k PublicKey) WriteFile(path string) error { return writeNew(path, k.PEM(), 0o644) }

// writeNew writes a file that must not exist. What may not last is removed.
func writeNew(path string, data []byte, perm fs.FileMode) error {
	err := atomicfile.WriteNew(path, data, perm)
	switch {
	case errors.Is(err, fs.ErrExist):
		return existsError(path)
	case errors.Is(err, atomicfile.ErrInPlace):
		atomicfile.Remove(path)
	}
	return err
}

func existsError(path string) error {
	return fmt.Errorf("writing %s: %w; choose another prefix or move it away", path, fs.ErrExist)
}

func (k *PrivateKey) marshal(o KeyOptions) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Unencrypted && o.Passphrase != nil:
		return nil, errors.New("storing a key: both a passphrase and no encryption were asked for; choose one")
	case o.Unencrypted:
		return pem.EncodeToMemory(&pem.Block{Type: pkcs8Block, Bytes: der}), nil
	case o.Passphrase == nil:
		return nil, errors.New("storing a key: give a passphrase, or ask for it to be stored unencrypted")
	}
	passphrase, err := o.Passphrase()
	if err != nil {
		return nil, fmt.Errorf("storing a key: %w", err)
	}
	if len(passphrase) == 0 {
		return nil, errors.New("storing a key: the passphrase is empty; give one, or ask for the key to be stored unencrypted")
	}
	box, err := encrypted.Encrypt(der, passphrase)
	if err != nil {
		return nil, fmt.Errorf("storing a key: %v", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: sigstoreBlock, Bytes: box}), nil
}

// ask returns the passphrase of an encrypted key.
func ask(passphrase func() ([]byte, error)) ([]byte, error) {
	if passphrase == nil {
		return nil, errors.New("it is encrypted, and no passphrase was given")
	}
	return passphrase()
}

// decryptKey opens the box that cosign and WriteFiles make, and returns PKCS#8.
func decryptKey(box []byte, passphrase func() ([]byte, error)) ([]byte, error) {
	p, err := ask(passphrase)
	if err != nil {
		return nil, err
	}
	der, err := encrypted.Decrypt(box, p)
	if err != nil {
		return nil, fmt.Errorf("wrong passphrase, or a damaged file: %v", err)
	}
	return der, nil
}
