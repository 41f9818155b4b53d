package attest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	stdhash "hash"

	"golang.org/x/crypto/scrypt"
)

// What deriving a key from a passphrase may cost: openssl writes 2048 iterations of
// PBKDF2, or scrypt with 16 MiB; careful people write hundreds of times as much.
const (
	maxIterations   = 10_000_000
	maxScryptMemory = 1 << 30 // bytes
)

// Object identifiers of RFC 8018 (PKCS#5) and RFC 7914.
var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// prfs are the pseudo-random functions of PBKDF2, HMAC with these hashes.
var prfs = map[string]func() stdhash.Hash{
	"":                    sha1.New, // the default of RFC 8018
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

// pbesCipher is a block cipher in CBC mode.
type pbesCipher struct {
	keyBytes int
	block    func(key []byte) (cipher.Block, error)
}

var pbesCiphers = map[string]pbesCipher{
	"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
	"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
	"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
	"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
}

// encryptedInfo is an EncryptedPrivateKeyInfo (RFC 5958) that is encrypted by PBES2.
type encryptedInfo struct {
	Algorithm struct {
		ID     asn1.ObjectIdentifier
		Params struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	}
	Data []byte
}

var errDamaged = errors.New("its encryption is damaged")

// decryptPKCS8 opens an encrypted PKCS#8 key as openssl and others write it, and
// returns PKCS#8. Whether the passphrase was right shows only in what comes out, which
// its caller parses.
func decryptPKCS8(der []byte, passphrase func() ([]byte, error)) ([]byte, error) {
	var e encryptedInfo
	if rest, err := asn1.Unmarshal(der, &e); err != nil || len(rest) > 0 || !e.Algorithm.ID.Equal(oidPBES2) {
		return nil, errors.New(`its encryption is damaged, or of an old kind; convert it with "openssl pkcs8 -topk8 -v2 aes-256-cbc"`)
	}
	c, ok := pbesCiphers[e.Algorithm.Params.Cipher.Algorithm.String()]
	if !ok {
		return nil, fmt.Errorf("its cipher is not known (object identifier %v)", e.Algorithm.Params.Cipher.Algorithm)
	}
	derive, err := derivation(e.Algorithm.Params.KDF, c.keyBytes)
	if err != nil {
		return nil, err
	}
	p, err := ask(passphrase)
	if err != nil {
		return nil, err
	}
	key, err := derive(p)
	if err != nil {
		return nil, err
	}
	block, err := c.block(key)
	if err != nil {
		return nil, err
	}
	var iv []byte
	if _, err := asn1.Unmarshal(e.Algorithm.Params.Cipher.Parameters.FullBytes, &iv); err != nil || len(iv) != block.BlockSize() {
		return nil, errDamaged
	}
	if n := len(e.Data); n == 0 || n%block.BlockSize() != 0 {
		return nil, errDamaged
	}
	plain := make([]byte, len(e.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, e.Data)
	return unpad(plain, block.BlockSize())
}

// derivation returns the function that turns the passphrase into a key of that many
// bytes, and refuses one that takes more time or memory than is reasonable.
func derivation(kdf pkix.AlgorithmIdentifier, keyBytes int) (func(passphrase []byte) ([]byte, error), error) {
	params := kdf.Parameters.FullBytes
	switch {
	case kdf.Algorithm.Equal(oidPBKDF2):
		var p struct {
			Salt       []byte
			Iterations int
			KeyBytes   int                      `asn1:"optional"`
			PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
		}
		if _, err := asn1.Unmarshal(params, &p); err != nil || p.KeyBytes != 0 && p.KeyBytes != keyBytes {
			return nil, errDamaged
		}
		h, ok := prfs[p.PRF.Algorithm.String()]
		if !ok {
			return nil, fmt.Errorf("its key is derived with a hash that is not known (object identifier %v)", p.PRF.Algorithm)
		}
		if p.Iterations < 1 || p.Iterations > maxIterations {
			return nil, fmt.Errorf("it asks for %d iterations of PBKDF2, at most %d are made", p.Iterations, maxIterations)
		}
		return func(passphrase []byte) ([]byte, error) {
			return pbkdf2.Key(h, string(passphrase), p.Salt, p.Iterations, keyBytes)
		}, nil
	case kdf.Algorithm.Equal(oidScrypt):
		var p struct {
			Salt    []byte
			N, R, P int
		}
		if _, err := asn1.Unmarshal(params, &p); err != nil {
			return nil, errDamaged
		}
		if p.N < 2 || p.R < 1 || p.P < 1 || p.P > 16 || p.R > maxScryptMemory/128/p.N {
			return nil, fmt.Errorf("it asks for scrypt with N=%d, r=%d, p=%d, which is more than is computed", p.N, p.R, p.P)
		}
		return func(passphrase []byte) ([]byte, error) {
			return scrypt.Key(passphrase, p.Salt, p.N, p.R, p.P, keyBytes)
		}, nil
	}
	return nil, fmt.Errorf("its key is derived by a method that is not known (object identifier %v)", kdf.Algorithm)
}

// unpad removes the padding of PKCS#7. Padding that is none shows a wrong passphrase.
func unpad(plain []byte, block int) ([]byte, error) {
	n := int(plain[len(plain)-1])
	if n < 1 || n > block || !bytes.HasSuffix(plain, bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, errors.New("wrong passphrase, or a damaged file")
	}
	return plain[:len(plain)-n], nil
}
