// Package attest makes and checks signed evidence about files.
//
// What is signed is an in-toto Statement v1: a predicate (such as a validation
// report) about subjects, which are files named by their SHA-256. The statement
// travels as the payload of a DSSE envelope with exactly one ECDSA P-256
// signature, alone or inside a Sigstore bundle v0.3, both of which cosign
// verifies offline. A model can also be signed as such, in the format of OpenSSF
// Model Signing (OMS).
//
// The way there is [HashModel] or [HashFolder], then [Sign], [SignModel] or
// [SignFolder]; the way back is [Verify], then [Verified.CheckFiles] or
// [Verified.CheckFolder]. Nothing of an evidence can be read before
// its signature has been verified.
//
// # What is accepted
//
// Envelope and bundle are not signed themselves, so whatever could be changed in
// them unnoticed is refused unless it is what [Sign] writes: unknown, repeated or
// misspelt fields, a second signature, a key id, log entries, certificates, another
// media type, a hint that belongs to another key. (An absent hint, key id or list of
// log entries is the same as an empty one, and a hint in cosign's form is accepted
// too.) The statement is signed, so the in-toto rule holds there: fields that are not
// known are ignored, repeated or misspelt ones are refused.
//
// An ECDSA signature can be changed into another valid one for the same payload:
// the digest of an evidence file does not identify what it says.
//
// Formats: github.com/in-toto/attestation/blob/main/spec/v1/statement.md,
// github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md,
// github.com/sigstore/protobuf-specs, github.com/sigstore/model-transparency.
package attest

import (
	"context"
	"fmt"
)

// Evidence is one signed statement in two encodings with the same signature.
type Evidence struct {
	Envelope []byte // DSSE envelope as JSON
	Bundle   []byte // Sigstore bundle v0.3 as JSON
}

// Sign makes the evidence that st is stated by the signer.
//
// The subjects must be the files that the predicate speaks for and no other: a
// verifier accepts the statement for any one of them, so the baseline of a
// comparison belongs into the predicate.
func Sign(ctx context.Context, s Signer, st Statement) (*Evidence, error) {
	payload, err := st.marshal()
	if err != nil {
		return nil, err
	}
	env, err := signPayload(ctx, s, payload)
	if err != nil {
		return nil, err
	}
	envelope, err := marshalLine(env)
	if err != nil {
		return nil, err
	}
	bundle, err := marshalLine(newBundle(env, s.PublicKey()))
	if err != nil {
		return nil, err
	}
	if len(bundle) > maxEvidence {
		return nil, fmt.Errorf("signing: the evidence would have %d bytes, at most %d are accepted on verifying", len(bundle), maxEvidence)
	}
	return &Evidence{Envelope: envelope, Bundle: bundle}, nil
}

// maxEvidence is how many bytes of evidence are read; reports have a few hundred KiB.
const maxEvidence = 64 << 20

// Reason says which check an evidence failed.
type Reason string

const (
	ReasonParse     Reason = "parse"     // not an evidence file, or a malformed one
	ReasonSignature Reason = "signature" // not signed by a trusted key
	ReasonSchema    Reason = "schema"    // signed, but not a statement of the expected form
	ReasonDigest    Reason = "digest"    // signed, but about other files
)

// RejectedError says that evidence does not prove what it is meant to prove. An
// error of another type means that the check could not be made, such as a file
// that cannot be read.
type RejectedError struct {
	Reason Reason
	Detail string
}

func (e *RejectedError) Error() string { return "evidence rejected: " + e.Detail }

func rejectf(r Reason, format string, args ...any) *RejectedError {
	return &RejectedError{Reason: r, Detail: fmt.Sprintf(format, args...)}
}
