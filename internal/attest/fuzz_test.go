package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fixedKey returns the n-th of some keys that never change: the processes that share
// the inputs of a fuzz target must have the same.
func fixedKey(f *testing.F, n byte) *PrivateKey {
	f.Helper()
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n}, 32))
	if err != nil {
		f.Fatal(err)
	}
	key, err := newPrivateKey(ec)
	if err != nil {
		f.Fatal(err)
	}
	return key
}

// FuzzVerify looks for evidence that is accepted although the key has not signed it:
// whatever is accepted must say what was signed.
func FuzzVerify(f *testing.F) {
	key := fixedKey(f, 1)
	want := testStatement()
	ev := sign(f, key, want)
	stranger := sign(f, fixedKey(f, 2), want)
	for _, seed := range [][]byte{
		ev.Envelope, ev.Bundle, stranger.Envelope, stranger.Bundle, nil, []byte("{}"), []byte(`{"payload":""}`),
		ev.Bundle[:len(ev.Bundle)/2], append(bytes.Clone(ev.Envelope), ev.Bundle...),
		bytes.Replace(ev.Envelope, []byte(`"keyid":""`), []byte(`"keyid":"x"`), 1),
		bytes.Replace(ev.Bundle, []byte(`"tlogEntries":[]`), []byte(`"tlogEntries":[{}]`), 1),
		bytes.Replace(ev.Bundle, []byte(`"hint"`), []byte(`"Hint"`), 1),
		bytes.Replace(ev.Envelope, []byte(`{"payload"`), []byte(`{"payload":"","payload"`), 1),
	} {
		f.Add(seed)
	}
	keys := []PublicKey{key.PublicKey()}
	f.Fuzz(func(t *testing.T, evidence []byte) {
		v, err := Verify(evidence, keys)
		if err != nil {
			if v != nil {
				t.Error("a rejected evidence can be read")
			}
			return
		}
		if diff := cmp.Diff(want, v.Statement()); diff != "" {
			t.Errorf("a statement that was not signed (-want +got):\n%s", diff)
		}
	})
}

// FuzzStatement: what is accepted as a statement survives being written again, and
// reads the same to encoding/json.
func FuzzStatement(f *testing.F) {
	payload, err := testStatement().marshal()
	if err != nil {
		f.Fatal(err)
	}
	model, err := modelStatement("m", []Subject{{"a", signme1}, {"b/c", signme2}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	oms, err := model.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Add(oms)
	f.Add(bytes.Replace(payload, []byte(`"subject"`), []byte(`"Subject"`), 1))
	f.Add(bytes.Replace(payload, []byte(`"predicate"`), []byte(`"predicate":{},"predicate"`), 1))
	f.Add(bytes.Replace(payload, []byte(`v1`), []byte(`v0.1`), 1))
	f.Fuzz(func(t *testing.T, payload []byte) {
		st, err := parseStatement(payload)
		if err != nil {
			return
		}
		var loose wireStatement
		if err := json.Unmarshal(payload, &loose); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if loose.PredicateType != st.PredicateType || len(loose.Subject) != len(st.Subjects) || !bytes.Equal(loose.Predicate, st.Predicate) {
			t.Errorf("encoding/json reads %v, we read %v", loose, st)
		}
		again, err := st.marshal()
		if err != nil {
			t.Fatalf("writing it again: %v", err)
		}
		st2, err := parseStatement(again)
		if err != nil {
			t.Fatalf("reading it again: %v", err)
		}
		if diff := cmp.Diff(st, st2); diff != "" {
			t.Errorf("read again (-first +second):\n%s", diff)
		}
		if st.PredicateType == ModelPredicateType {
			if m, err := parseManifest(st); err == nil && (rootDigest(m.listed) != st.Subjects[0].SHA256 || len(m.pieces) != len(m.listed)) {
				t.Errorf("files %v do not add up to the subject", m.listed)
			}
		}
	})
}

// FuzzUnmarshalStrict: what is accepted is what encoding/json reads, under its names alone.
func FuzzUnmarshalStrict(f *testing.F) {
	for _, seed := range []string{
		`{"inner":{"name":"a","n":1},"list":[{"name":"c"},{}],"map":{"k":{}},"raw":{"x":[1]},"any":[null]}`,
		`{"inner":{"name":"a","name":"b"}}`, `{"Inner":{}}`, `{"a":1}`, `null`, `[]`, "{}{}", `{"ſhared":"1"}`,
		strings.Repeat("[", 70) + strings.Repeat("]", 70),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var strict, loose document
		if err := UnmarshalStrict(data, &strict, JSONOptions{}); err != nil {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&loose); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if !reflect.DeepEqual(strict, loose) {
			t.Errorf("encoding/json reads %v, we read %v", loose, strict)
		}
		var top map[string]json.RawMessage
		if err := json.Unmarshal(data, &top); err != nil {
			t.Fatal(err)
		}
		for name := range top {
			if _, ok := fieldsOf(reflect.TypeFor[document]())[name]; !ok {
				t.Errorf("field %q was let through", name)
			}
		}
	})
}

// FuzzKeys: no key file makes the parsers fail in another way than with an error.
func FuzzKeys(f *testing.F) {
	key := fixedKey(f, 1)
	plain, err := key.marshal(KeyOptions{Unencrypted: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(key.PublicKey().PEM())
	f.Add([]byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\ne30=\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if public, err := ParsePublicKey(data); err == nil {
			again, err := ParsePublicKey(public.PEM())
			if err != nil || again.Fingerprint() != public.Fingerprint() {
				t.Errorf("the key does not survive being written: %v", err)
			}
		}
		if private, err := ParsePrivateKey(data, nil); err == nil && private.PublicKey().key == nil {
			t.Error("a private key without its public half")
		}
	})
}
