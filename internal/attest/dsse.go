package attest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

const payloadType = "application/vnd.in-toto+json"

// maxSignature bounds the DER of an ECDSA P-256 signature, which has at most 72 bytes.
const maxSignature = 72

// envelope is a DSSE envelope in JSON.
type envelope struct {
	Payload     string      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Sig   string `json:"sig"`
	KeyID string `json:"keyid"`
}

// paePrefix begins every encoding of an envelope.
const paePrefix = "DSSEv1 "

// pae is DSSE's pre-authentication encoding of the payload, which is what is signed.
func pae(payload []byte) []byte {
	return append(fmt.Appendf(nil, paePrefix+"%d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// paeDigest is the SHA-256 of the payload's encoding.
func paeDigest(payload []byte) [sha256.Size]byte { return sha256.Sum256(pae(payload)) }

// signPayload makes an envelope with one signature and an empty key id, which is the
// only form that cosign and OMS both verify.
func signPayload(ctx context.Context, s Signer, payload []byte) (*envelope, error) {
	message := pae(payload)
	sig, err := s.Sign(ctx, message)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	if !s.PublicKey().verify(sha256.Sum256(message), sig) {
		return nil, fmt.Errorf("signing: the signature does not verify with the signer's own public key")
	}
	return &envelope{
		Payload:     base64.StdEncoding.EncodeToString(payload),
		PayloadType: payloadType,
		Signatures:  []signature{{Sig: base64.StdEncoding.EncodeToString(sig)}},
	}, nil
}

// open checks the envelope's form and returns what it carries, not yet verified.
func (e *envelope) open() (payload, sig []byte, err error) {
	if e.PayloadType != payloadType {
		return nil, nil, fmt.Errorf("payloadType is %q, want %q", e.PayloadType, payloadType)
	}
	if n := len(e.Signatures); n != 1 {
		return nil, nil, fmt.Errorf("%d signatures, exactly one is accepted", n)
	}
	if id := e.Signatures[0].KeyID; id != "" {
		return nil, nil, fmt.Errorf("keyid is %q, only an empty one is accepted: other verifiers refuse any other", id)
	}
	if payload, err = decodeBase64(e.Payload); err != nil {
		return nil, nil, fmt.Errorf("payload: %v", err)
	}
	if sig, err = decodeBase64(e.Signatures[0].Sig); err != nil {
		return nil, nil, fmt.Errorf("signature: %v", err)
	}
	if len(sig) > maxSignature {
		return nil, nil, fmt.Errorf("signature: %d bytes, an ECDSA P-256 signature has at most %d", len(sig), maxSignature)
	}
	return payload, sig, nil
}

// decodeBase64 accepts the one standard encoding of some bytes that are not none.
// Base64 as such allows line breaks and stray bits in the last digit.
func decodeBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("not standard base64: %v", err)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("it is missing or empty")
	}
	if base64.StdEncoding.EncodeToString(b) != s {
		return nil, fmt.Errorf("not canonical base64")
	}
	return b, nil
}

// marshalLine returns v as one line of JSON.
func marshalLine(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}
