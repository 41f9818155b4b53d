package attest

import (
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

type publicKeyHint struct {
	Hint string `json:"hint"`
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
func parseEvidence(data []byte) (env *envelope, hint string, err error) {
	var top map[string]json.RawMessage
	if err := UnmarshalStrict(data, &top, JSONOptions{MaxBytes: maxEvidence}); err != nil {
		return nil, "", err
	}
	_, isEnvelope := top["payload"]
	if isEnvelope {
		env = new(envelope)
		return env, "", UnmarshalStrict(data, env, JSONOptions{MaxBytes: maxEvidence})
	}
	if _, isBundle := top["dsseEnvelope"]; !isBundle {
		return nil, "", fmt.Errorf(`neither a Sigstore bundle (no field "dsseEnvelope") nor a DSSE envelope (no field "payload")`)
	}
	var b bundle
	if err := UnmarshalStrict(data, &b, JSONOptions{MaxBytes: maxEvidence}); err != nil {
		return nil, "", err
	}
	switch {
	case b.MediaType != bundleMediaType:
		return nil, "", fmt.Errorf("mediaType is %q, want %q", b.MediaType, bundleMediaType)
	case b.DSSEEnvelope == nil:
		return nil, "", fmt.Errorf("dsseEnvelope is null")
	case b.VerificationMaterial.PublicKey == nil:
		return nil, "", fmt.Errorf("verificationMaterial has no publicKey")
	case len(b.VerificationMaterial.TlogEntries) > 0:
		return nil, "", fmt.Errorf("it has transparency log entries, which are not checked here; only evidence without any is accepted")
	}
	return b.DSSEEnvelope, b.VerificationMaterial.PublicKey.Hint, nil
}

// isHintOf reports whether hint is absent or names the key, in OMS's form (see
// [PublicKey.Fingerprint]) or in cosign's (base64 of the SHA-256 of the DER).
func isHintOf(hint string, key PublicKey) bool {
	der := sha256.Sum256(key.der)
	return hint == "" || hint == key.Fingerprint() || hint == base64.StdEncoding.EncodeToString(der[:])
}
