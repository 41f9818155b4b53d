package attest

import (
	"encoding/json"
	"slices"
)

// Verified is a statement whose signature has been verified. Only [Verify] makes one
// that says anything.
type Verified struct {
	key       PublicKey
	statement Statement
	files     []Subject
	manifest  *Manifest // of a model signature
	warnings  []string
}

// Verify accepts a Sigstore bundle or a bare DSSE envelope that one of the keys
// signed. Where there is no key, nobody is trusted. The error is a [*RejectedError].
//
// It says who signed what, not that the files at hand are the ones meant: see
// [Verified.CheckFiles]. Nor does it say what the statement is for: callers compare
// [Verified.PredicateType] with the one they expect.
func Verify(evidence []byte, keys []PublicKey) (*Verified, error) {
	env, hint, err := parseEvidence(evidence)
	if err != nil {
		return nil, rejectf(ReasonParse, "%v", err)
	}
	payload, sig, err := env.open()
	if err != nil {
		return nil, rejectf(ReasonParse, "%v", err)
	}
	if len(keys) == 0 {
		return nil, rejectf(ReasonSignature, "no trusted key was given")
	}
	digest := paeDigest(payload)
	i := slices.IndexFunc(keys, func(k PublicKey) bool { return k.verify(digest, sig) })
	switch {
	case i < 0 && len(keys) == 1:
		return nil, rejectf(ReasonSignature, "it was not signed with the key %s, or was changed since", keys[0].Fingerprint())
	case i < 0:
		return nil, rejectf(ReasonSignature, "it was not signed with any of the %d trusted keys, or was changed since", len(keys))
	case !hint.isOf(keys[i]):
		return nil, rejectf(ReasonSignature, "its key hint is %q, but the key that signed it is %s", hint.Hint, keys[i].Fingerprint())
	}
	st, err := parseStatement(payload)
	if err != nil {
		return nil, rejectf(ReasonSchema, "the signed statement is not acceptable: %v", err)
	}
	v := &Verified{key: keys[i], statement: st, files: st.Subjects}
	if st.PredicateType == ModelPredicateType {
		if v.manifest, err = parseManifest(st); err != nil {
			return nil, rejectf(ReasonSchema, "the signed model manifest is not acceptable: %v", err)
		}
		v.files = v.manifest.listed
	}
	if err := v.acceptOldKey(hint); err != nil {
		return nil, err
	}
	return v, nil
}

// Key returns the key that signed.
func (v *Verified) Key() PublicKey { return v.key }

// PredicateType returns the URI of the predicate's schema.
func (v *Verified) PredicateType() string { return v.statement.PredicateType }

// Predicate returns the predicate, a JSON object without repeated fields, byte by
// byte as it was signed. [UnmarshalStrict] reads it safely.
func (v *Verified) Predicate() json.RawMessage { return slices.Clone(v.statement.Predicate) }

// Subjects returns what the statement is about.
func (v *Verified) Subjects() []Subject { return slices.Clone(v.statement.Subjects) }

// Files returns the files that the evidence covers: the subjects, or for a model
// signature the files (or shards of files) of its manifest, where the name "." is the
// model itself.
func (v *Verified) Files() []Subject { return slices.Clone(v.files) }

// Statement returns the whole statement.
func (v *Verified) Statement() Statement {
	return Statement{PredicateType: v.PredicateType(), Subjects: v.Subjects(), Predicate: v.Predicate()}
}
