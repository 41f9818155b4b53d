package attest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
)

// SignBlob makes a signature of the bytes as they are, in no envelope, which openssl checks where there is neither lapidary nor cosign:
//
//	openssl dgst -sha256 -verify PUB -signature SIG FILE
//
// It refuses bytes that begin as an envelope's encoding does: their signature would also be that of a statement.
func SignBlob(ctx context.Context, s Signer, message []byte) ([]byte, error) {
	if bytes.HasPrefix(message, []byte(paePrefix)) {
		return nil, errors.New("signing a file: it begins as an envelope does, and its signature could be taken for that of a statement")
	}
	sig, err := s.Sign(ctx, message)
	if err != nil {
		return nil, err
	}
	if !s.PublicKey().verify(sha256.Sum256(message), sig) {
		return nil, errors.New("signing a file: the signature does not verify with the signer's own public key")
	}
	return sig, nil
}
