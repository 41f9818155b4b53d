package attest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testPredicateType = "https://lapidary.example/test/v1"

func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func testStatement() Statement {
	return Statement{
		PredicateType: testPredicateType,
		Subjects: []Subject{
			{Name: "model.onnx", SHA256: digestOf("model")},
			{Name: "weights/w0.bin", SHA256: digestOf("weights")},
		},
		Predicate: json.RawMessage("{\n  \"verdict\": \"pass\",\n  \"note\": \"a < b & c \\u2028\"\n}"),
	}
}

func newKey(t testing.TB) *PrivateKey {
	t.Helper()
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, s Signer, st Statement) *Evidence {
	t.Helper()
	ev, err := Sign(context.Background(), s, st)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// wantRejected checks the reason of a rejection and what it says.
func wantRejected(t *testing.T, err error, reason Reason, parts ...string) {
	t.Helper()
	var rejected *RejectedError
	if !errors.As(err, &rejected) {
		t.Fatalf("error %v, want a rejection", err)
	}
	if rejected.Reason != reason {
		t.Errorf("reason %q (%v), want %q", rejected.Reason, err, reason)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestSignVerify(t *testing.T) {
	key, other := newKey(t), newKey(t)
	want := testStatement()
	ev := sign(t, key, want)
	for name, evidence := range map[string][]byte{"envelope": ev.Envelope, "bundle": ev.Bundle} {
		t.Run(name, func(t *testing.T) {
			v, err := Verify(evidence, []PublicKey{other.PublicKey(), key.PublicKey()})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, v.Statement()); diff != "" {
				t.Errorf("statement (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want.Subjects, v.Files()); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if got := v.Key().Fingerprint(); got != key.PublicKey().Fingerprint() {
				t.Errorf("key %s, want the one that signed", got)
			}
		})
	}
}

// TestWireForm compares with the forms that the specifications give, written out.
func TestWireForm(t *testing.T) {
	key := newKey(t)
	st := testStatement()
	st.Predicate = json.RawMessage(` {"a": 1} `)
	ev := sign(t, key, st)

	var env envelope
	if err := json.Unmarshal(ev.Envelope, &env); err != nil {
		t.Fatal(err)
	}
	payload := `{"_type":"https://in-toto.io/Statement/v1","subject":[` +
		`{"name":"model.onnx","digest":{"sha256":"` + digestOf("model") + `"}},` +
		`{"name":"weights/w0.bin","digest":{"sha256":"` + digestOf("weights") + `"}}],` +
		`"predicateType":"https://lapidary.example/test/v1","predicate":{"a": 1}}`
	envelope := `{"payload":"` + base64.StdEncoding.EncodeToString([]byte(payload)) +
		`","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"` + env.Signatures[0].Sig + `","keyid":""}]}`
	if diff := cmp.Diff(envelope+"\n", string(ev.Envelope)); diff != "" {
		t.Errorf("envelope (-want +got):\n%s", diff)
	}
	bundle := `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"` +
		digestOf(string(key.PublicKey().PEM())) + `"},"tlogEntries":[]},"dsseEnvelope":` + envelope + `}`
	if diff := cmp.Diff(bundle+"\n", string(ev.Bundle)); diff != "" {
		t.Errorf("bundle (-want +got):\n%s", diff)
	}
}

// TestPAE uses the test vector of the DSSE specification's protocol, with our type.
func TestPAE(t *testing.T) {
	payload := "hello world"
	want := sha256.Sum256([]byte("DSSEv1 28 application/vnd.in-toto+json 11 hello world"))
	if got := paeDigest([]byte(payload)); got != want {
		t.Errorf("paeDigest(%q) = %x, want %x", payload, got, want)
	}
}

func TestVerifyTrustsNobody(t *testing.T) {
	ev := sign(t, newKey(t), testStatement())
	for name, keys := range map[string][]PublicKey{
		"no keys":   nil,
		"zero key":  {{}},
		"other key": {newKey(t).PublicKey()},
		"others":    {newKey(t).PublicKey(), newKey(t).PublicKey()},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := Verify(ev.Bundle, keys)
			wantRejected(t, err, ReasonSignature)
			if v != nil {
				t.Error("a rejected evidence can be read")
			}
		})
	}
}

// badSigner signs with one key and claims another.
type badSigner struct{ signs, claims *PrivateKey }

func (s badSigner) PublicKey() PublicKey { return s.claims.PublicKey() }

func (s badSigner) Sign(ctx context.Context, message []byte) ([]byte, error) {
	return s.signs.Sign(ctx, message)
}

func TestSignRefused(t *testing.T) {
	key := newKey(t)
	tests := map[string]struct {
		edit func(*Statement)
		want string
	}{
		"no type":            {func(s *Statement) { s.PredicateType = "" }, "predicateType is missing"},
		"no subject":         {func(s *Statement) { s.Subjects = nil }, "it has no subject"},
		"no name":            {func(s *Statement) { s.Subjects[1].Name = "" }, "subject 1 has no name"},
		"same name":          {func(s *Statement) { s.Subjects[1].Name = "model.onnx" }, `"model.onnx" appears twice`},
		"name no UTF-8":      {func(s *Statement) { s.Subjects[0].Name = "m\xff" }, "not valid UTF-8"},
		"upper-case digest":  {func(s *Statement) { s.Subjects[0].SHA256 = strings.Repeat("A", 64) }, "64 lower-case"},
		"short digest":       {func(s *Statement) { s.Subjects[0].SHA256 = "ab" }, "64 lower-case"},
		"no predicate":       {func(s *Statement) { s.Predicate = nil }, "want a JSON object"},
		"predicate no map":   {func(s *Statement) { s.Predicate = json.RawMessage("[]") }, "want a JSON object"},
		"predicate no JSON":  {func(s *Statement) { s.Predicate = json.RawMessage("{]") }, "not valid JSON"},
		"predicate twice":    {func(s *Statement) { s.Predicate = json.RawMessage("{} {}") }, "not valid JSON"},
		"predicate too deep": {func(s *Statement) { s.Predicate = nested(64) }, "nested more than 64 deep"},
		"repeated field":     {func(s *Statement) { s.Predicate = json.RawMessage(`{"a":{"b":1,"b":2}}`) }, `a: field "b" appears twice`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := testStatement()
			tt.edit(&st)
			ev, err := Sign(context.Background(), key, st)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if ev != nil {
				t.Error("there is evidence beside the error")
			}
		})
	}
	t.Run("wrong signer", func(t *testing.T) {
		_, err := Sign(context.Background(), badSigner{key, newKey(t)}, testStatement())
		if err == nil || !strings.Contains(err.Error(), "own public key") {
			t.Errorf("error %v, want one about the signer's key", err)
		}
	})
}

// nested returns an object of the given depth.
func nested(depth int) json.RawMessage {
	return json.RawMessage(strings.Repeat(`{"a":`, depth-1) + "{}" + strings.Repeat("}", depth-1))
}

// tampering is a replacement in the JSON text of good evidence.
type tampering struct {
	name, old, new string
	reason         Reason
}

// TestTamper changes one thing in good evidence.
func TestTamper(t *testing.T) {
	key := newKey(t)
	ev := sign(t, key, testStatement())
	stranger := sign(t, newKey(t), testStatement())
	st := testStatement()
	st.Predicate = json.RawMessage("{}")
	otherReport := sign(t, key, st)
	check := func(kind string, good []byte, tt tampering) {
		t.Run(kind+"/"+tt.name, func(t *testing.T) {
			if !bytes.Contains(good, []byte(tt.old)) {
				t.Fatalf("the evidence does not contain %q", tt.old)
			}
			bad := bytes.Replace(good, []byte(tt.old), []byte(tt.new), 1)
			v, err := Verify(bad, []PublicKey{key.PublicKey()})
			wantRejected(t, err, tt.reason)
			if v != nil {
				t.Error("a rejected evidence can be read")
			}
		})
	}
	env := envelopeOf(t, ev)
	for _, tt := range envelopeTampering(t, env, envelopeOf(t, stranger), envelopeOf(t, otherReport)) {
		check("envelope", ev.Envelope, tt)
		check("bundle", ev.Bundle, tt)
	}
	for _, tt := range bundleTampering(key.PublicKey().Fingerprint(), newKey(t).PublicKey().Fingerprint()) {
		check("bundle", ev.Bundle, tt)
	}
}

func envelopeOf(t *testing.T, ev *Evidence) envelope {
	t.Helper()
	var env envelope
	if err := json.Unmarshal(ev.Envelope, &env); err != nil {
		t.Fatal(err)
	}
	return env
}

// flipByte changes one bit in what s encodes, in the byte at the place or, from -1 on
// down, counted from the end.
func flipByte(t *testing.T, s string, at int) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	b[(at+len(b))%len(b)] ^= 1
	return base64.StdEncoding.EncodeToString(b)
}

// envelopeTampering applies to an envelope alone and in a bundle. The stranger's has
// the same statement by another key, otherReport another statement by the same key.
func envelopeTampering(t *testing.T, env, stranger, otherReport envelope) []tampering {
	sig, otherSig := env.Signatures[0].Sig, stranger.Signatures[0].Sig
	flip := func(s string, at int) string { return flipByte(t, s, at) }
	return []tampering{
		{"payload, first byte", env.Payload, flip(env.Payload, 0), ReasonSignature},
		{"payload, last byte", env.Payload, flip(env.Payload, -1), ReasonSignature},
		{"payload empty", env.Payload, "", ReasonParse},
		{"payload missing", `"payload":"` + env.Payload + `",`, "", ReasonParse},
		{"payload null", `"payload":"` + env.Payload + `"`, `"payload":null`, ReasonParse},
		{"payload twice", `"payload":`, `"payload":"e30=","payload":`, ReasonParse},
		{"payload misspelt beside", `"payload":`, `"Payload":"e30=","payload":`, ReasonParse},
		{"payload misspelt", `"payload":`, `"PAYLOAD":`, ReasonParse},
		{"payload with line break", `"payload":"`, `"payload":"\n`, ReasonParse},
		{"payload of another type", `"` + env.Payload + `"`, `7`, ReasonParse},
		{"payload not base64", `"payload":"`, `"payload":"*`, ReasonParse},
		{"payloadType", payloadType, "application/vnd.in-toto.x+json", ReasonParse},
		{"payloadType in capitals", payloadType, strings.ToUpper(payloadType), ReasonParse},
		{"payloadType missing", `"payloadType":"` + payloadType + `",`, "", ReasonParse},
		{"signature, first byte", sig, flip(sig, 0), ReasonSignature},
		{"signature, middle byte", sig, flip(sig, 30), ReasonSignature},
		{"signature, last byte", sig, flip(sig, -1), ReasonSignature},
		{"signature empty", sig, "", ReasonParse},
		{"signature of another key", sig, otherSig, ReasonSignature},
		{"signature of another payload", sig, otherReport.Signatures[0].Sig, ReasonSignature},
		{"signature too long", sig, base64.StdEncoding.EncodeToString(make([]byte, 73)), ReasonParse},
		{"no signature", `[{"sig":"` + sig + `","keyid":""}]`, "[]", ReasonParse},
		{"signatures null", `[{"sig":"` + sig + `","keyid":""}]`, "null", ReasonParse},
		{"second signature after", `"keyid":""}]`, `"keyid":""},{"sig":"` + otherSig + `","keyid":""}]`, ReasonParse},
		{"second signature before", `"signatures":[`, `"signatures":[{"sig":"` + otherSig + `","keyid":""},`, ReasonParse},
		{"same signature twice", `"keyid":""}]`, `"keyid":""},{"sig":"` + sig + `","keyid":""}]`, ReasonParse},
		{"keyid", `"keyid":""`, `"keyid":"` + digestOf("key") + `"`, ReasonParse},
		{"certificate in signature", `"keyid":""`, `"keyid":"","cert":"x"`, ReasonParse},
		{"unknown field in envelope", `"payloadType"`, `"extra":1,"payloadType"`, ReasonParse},
		{"not UTF-8", payloadType, "\xff", ReasonParse},
	}
}

// bundleTampering applies to what is around the envelope.
func bundleTampering(hint, otherHint string) []tampering {
	return []tampering{
		{"mediaType", "v0.3+json", "v0.2+json", ReasonParse},
		{"mediaType of another form", "bundle.v0.3+json", "bundle+json;version=0.3", ReasonParse},
		{"mediaType missing", `"mediaType":"` + bundleMediaType + `",`, "", ReasonParse},
		{"unknown top-level field", `{"mediaType"`, `{"extra":{},"mediaType"`, ReasonParse},
		{"envelope beside bundle", `{"mediaType"`, `{"payload":"","mediaType"`, ReasonParse},
		{"misspelt top-level field", `"verificationMaterial"`, `"verificationmaterial"`, ReasonParse},
		{"bundle twice", `"dsseEnvelope":`, `"dsseEnvelope":{},"dsseEnvelope":`, ReasonParse},
		{"no envelope", `"dsseEnvelope":`, `"messageSignature":`, ReasonParse},
		{"hint of another key", hint, otherHint, ReasonSignature},
		{"no key", `"publicKey":{"hint":"` + hint + `"},`, "", ReasonParse},
		{"key inside", `"hint":`, `"rawBytes":"AA==","hint":`, ReasonParse},
		{"certificate", `"publicKey":`, `"certificate":{"rawBytes":"AA=="},"publicKey":`, ReasonParse},
		{"log entry", `"tlogEntries":[]`, `"tlogEntries":[{"logIndex":"1"}]`, ReasonParse},
		{"timestamps", `"tlogEntries":[]`, `"tlogEntries":[],"timestampVerificationData":{"rfc3161Timestamps":[{}]}`, ReasonParse},
	}
}

// TestAcceptedVariants holds the other spellings that mean the same.
func TestAcceptedVariants(t *testing.T) {
	key := newKey(t)
	ev := sign(t, key, testStatement())
	der := sha256.Sum256(key.PublicKey().der)
	hint := `"hint":"` + key.PublicKey().Fingerprint() + `"`
	tests := map[string]struct{ old, new string }{
		"cosign's hint":    {hint, `"hint":"` + base64.StdEncoding.EncodeToString(der[:]) + `"`},
		"no hint":          {hint, ""},
		"no keyid":         {`,"keyid":""`, ""},
		"no log entries":   {`,"tlogEntries":[]`, ""},
		"no final newline": {"}\n", "}"},
		"white space":      {`{"mediaType":`, "\n{ \"mediaType\" :\t"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			changed := bytes.Replace(ev.Bundle, []byte(tt.old), []byte(tt.new), 1)
			if bytes.Equal(changed, ev.Bundle) {
				t.Fatal("nothing was changed")
			}
			if _, err := Verify(changed, []PublicKey{key.PublicKey()}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDamaged cuts evidence off everywhere, flips every byte, and adds to its end. A
// flipped byte may leave the meaning, but never change it.
func TestDamaged(t *testing.T) {
	key := newKey(t)
	st := Statement{PredicateType: "t", Subjects: testStatement().Subjects[:1], Predicate: json.RawMessage("{}")}
	keys := []PublicKey{key.PublicKey()}
	ev := sign(t, key, st)
	for kind, good := range map[string][]byte{"envelope": ev.Envelope, "bundle": ev.Bundle} {
		for n := range len(good) - 1 {
			if _, err := Verify(good[:n], keys); err == nil {
				t.Errorf("%s: accepted when cut to %d of %d bytes", kind, n, len(good))
			}
		}
		for i := range len(good) - 1 {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			if _, err := Verify(bad, keys); err == nil {
				t.Errorf("%s: accepted with byte %d changed from %q to %q", kind, i, good[i], bad[i])
			}
		}
		for _, tail := range []string{"x", "{}", string(good), "\x00", "]"} {
			_, err := Verify(append(bytes.Clone(good), tail...), keys)
			wantRejected(t, err, ReasonParse)
		}
	}
	for _, data := range []string{"", "{}", "[]", "null", "0", `"x"`, `{"payload":{}}`, `{"dsseEnvelope":null}`} {
		_, err := Verify([]byte(data), keys)
		wantRejected(t, err, ReasonParse)
	}
}

// TestSignedButWrong has good signatures of payloads that are not acceptable.
func TestSignedButWrong(t *testing.T) {
	key := newKey(t)
	good := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"m","digest":{"sha256":"` + digestOf("m") +
		`"}}],"predicateType":"t","predicate":{"verdict":"fail"}}`
	tests := map[string]struct{ old, new, want string }{
		"statement v0.1":       {"Statement/v1", "Statement/v0.1", "_type"},
		"no type":              {`"_type":"https://in-toto.io/Statement/v1",`, "", "_type"},
		"repeated subject":     {`"subject":`, `"subject":[],"subject":`, `"subject" appears twice`},
		"repeated in report":   {`"verdict":`, `"verdict":"pass","verdict":`, `"verdict" appears twice`},
		"misspelt predicate":   {`"predicate":`, `"Predicate":`, `must be spelt "predicate"`},
		"misspelt beside":      {`"predicate":`, `"Predicate":{},"predicate":`, `must be spelt "predicate"`},
		"misspelt digest":      {`"digest":`, `"Digest":`, `must be spelt "digest"`},
		"misspelt by Unicode":  {`"predicateType":`, `"predicateType":"t","\u017fubject":`, `must be spelt "subject"`},
		"no subject":           {`"subject":[{"name":"m","digest":{"sha256":"` + digestOf("m") + `"}}]`, `"subject":[]`, "no subject"},
		"subject without name": {`"name":"m",`, "", "no name"},
		"other digest only":    {`"sha256"`, `"sha512"`, "sha256 digest"},
		"digest in capitals":   {digestOf("m"), strings.ToUpper(digestOf("m")), "sha256 digest"},
		"no predicateType":     {`"predicateType":"t",`, "", "predicateType"},
		"no predicate":         {`,"predicate":{"verdict":"fail"}`, "", "predicate"},
		"predicate null":       {`{"verdict":"fail"}`, "null", "predicate"},
		"predicate is a list":  {`{"verdict":"fail"}`, "[1]", "predicate"},
		"too deep":             {`{"verdict":"fail"}`, string(nested(70)), "nested more than 64 deep"},
		"trailing data":        {`"fail"}}`, `"fail"}}{}`, "not valid JSON"},
		"not JSON":             {`{"_type"`, `_type`, "not valid JSON"},
	}
	verify := func(payload string) error {
		env, err := signPayload(context.Background(), key, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		evidence, err := marshalLine(env)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Verify(evidence, []PublicKey{key.PublicKey()})
		return err
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, tt.old, tt.new, 1)
			if bad == good {
				t.Fatal("nothing was changed")
			}
			wantRejected(t, verify(bad), ReasonSchema, tt.want)
		})
	}
	for name, payload := range map[string]string{
		"as it is":       good,
		"unknown fields": strings.Replace(good, `"name":"m"`, `"mediaType":"x","name":"m","annotations":{"a":[1]}`, 1),
		"other digests":  strings.Replace(good, `"sha256"`, `"sha512":"00","sha256"`, 1),
		"white space":    "\n" + good + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			if err := verify(payload); err != nil {
				t.Error(err)
			}
		})
	}
}

func ExampleVerify() {
	key, _ := GenerateKey()
	evidence, _ := Sign(context.Background(), key, Statement{
		PredicateType: "https://example.org/report/v1",
		Subjects:      []Subject{{Name: "model.onnx", SHA256: strings.Repeat("0", 64)}},
		Predicate:     json.RawMessage(`{"verdict": "pass"}`),
	})
	v, err := Verify(evidence.Bundle, []PublicKey{key.PublicKey()})
	fmt.Println(string(v.Predicate()), err)
	_, err = Verify(evidence.Bundle, nil)
	fmt.Println(err)
	// Output:
	// {"verdict": "pass"} <nil>
	// evidence rejected: no trusted key was given
}
