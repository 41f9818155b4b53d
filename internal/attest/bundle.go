package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

const bundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// bundle is a Sigstore bundle v0.3 for a signature by a key.
type bundle struct {
	MediaType            string               `json:"mediaType"`
	VerificationMaterial verificationMaterial `json:"verificationMaterial"`
	DSSEEnvelope         *envelope            `json:"dsseEnvelope"`
}

type verificationMaterial struct {
	PublicKey   *publicKeyHint    `json:"publicKey"`
	TlogEntries []json.RawMessage `json:"tlogEntries"`
}

// publicKeyHint says which key signed. Model signatures by versions of OMS before 1.1
// carry the key itself instead of a hint.
type publicKeyHint struct {
	Hint       string `json:"hint"`
	RawBytes   string `json:"rawBytes,omitempty"`
	KeyDetails string `json:"keyDetails,omitempty"`
}

func newBundle(env *envelope, key PublicKey) *bundle {
	return &bundle{
		MediaType: bundleMediaType,
		VerificationMaterial: verificationMaterial{
			PublicKey:   &publicKeyHint{Hint: key.Fingerprint()},
			TlogEntries: []json.RawMessage{},
		},
		DSSEEnvelope: env,
	}
}

// parseEvidence reads a bundle or a bare envelope, whichever data is. The hint is
// empty where there is none.
func parseEvidence(data []byte) (env *envelope, hint publicKeyHint, err error) {
	var top map[string]json.RawMessage
	if err := UnmarshalStrict(data, &top, JSONOptions{MaxBytes: maxEvidence}); err != nil {
		return nil, hint, err
	}
	_, isEnvelope := top["payload"]
	if isEnvelope {
		env = new(envelope)
		return env, hint, UnmarshalStrict(data, env, JSONOptions{MaxBytes: maxEvidence})
	}
	if _, isBundle := top["dsseEnvelope"]; !isBundle {
		return nil, hint, fmt.Errorf(`neither a Sigstore bundle (no field "dsseEnvelope") nor a DSSE envelope (no field "payload")`)
	}
	var b bundle
	if err := UnmarshalStrict(data, &b, JSONOptions{MaxBytes: maxEvidence}); err != nil {
		return nil, hint, err
	}
	switch {
	case b.MediaType != bundleMediaType:
		return nil, hint, fmt.Errorf("mediaType is %q, want %q", b.MediaType, bundleMediaType)
	case b.DSSEEnvelope == nil:
		return nil, hint, fmt.Errorf("dsseEnvelope is null")
	case b.VerificationMaterial.PublicKey == nil:
		return nil, hint, fmt.Errorf("verificationMaterial has no publicKey")
	case len(b.VerificationMaterial.TlogEntries) > 0:
		return nil, hint, fmt.Errorf("it has transparency log entries, which are not checked here; only evidence without any is accepted")
	}
	return b.DSSEEnvelope, *b.VerificationMaterial.PublicKey, nil
}

// isOf reports whether the hint is absent or names the key, in OMS's form (see
// [PublicKey.Fingerprint]) or in cosign's (base64 of the SHA-256 of the DER).
func (h publicKeyHint) isOf(key PublicKey) bool {
	der := sha256.Sum256(key.der)
	return h.Hint == "" || h.Hint == key.Fingerprint() || h.Hint == base64.StdEncoding.EncodeToString(der[:])
}

// carries reports whether the key inside, as PEM or DER, is the given one.
func (h publicKeyHint) carries(key PublicKey) bool {
	raw, err := decodeBase64(h.RawBytes)
	return err == nil && (bytes.Equal(raw, key.der) || bytes.Equal(raw, key.PEM()))
}
