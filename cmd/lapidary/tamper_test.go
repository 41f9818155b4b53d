package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// tampering is one way of making evidence say what it should not.
type tampering struct {
	what   string // for the table, unique
	edit   func(s *scene)
	args   []string // of lapidary; default: verifyArgs
	reason string   // part of what is said
}

// The ways in which a scene is verified.
var (
	verifyArgs = []string{"verify", bundleFile, "--key", "release.pub", "--model", "candidate.onnx", "--policy", "locked.json", "--policy-key", "owner.pub"}
	bareArgs   = []string{"verify", bundleFile, "--key", "release.pub"}
	oldArgs    = []string{"verify", "r/evidence.dsse.json", "--key", "release.pub", "--model", "candidate.onnx"}
	sigArgs    = []string{"verify", "r/model.sig", "--key", "release.pub", "--model", "candidate.onnx"}
	logArgs    = []string{"audit", "verify", "audit.jsonl"}
)

// sections of the table, in its order.
var sections = []struct {
	title string
	list  []tampering
}{
	{"Envelope and signature", envelopeTamperings},
	{"The signed statement, by a signer whose key is trusted", statementTamperings},
	{"What the report concludes, by a signer whose key is trusted", reportTamperings},
	{"Files", fileTamperings},
	{"The policy", policyTamperings},
	{"The model signature (`model.sig`)", modelSigTamperings},
	{"The audit log", auditTamperings},
}

func replaced(name, old, new string) func(*scene) {
	return func(s *scene) { s.replace(name, old, new) }
}
func changedTo(old, new string) func(*scene) {
	return func(s *scene) { s.changed(bundleFile, old, new) }
}
func resignedTo(old, new string) func(*scene) { return func(s *scene) { s.resigned(old, new) } }

// encoded edits the base64 of the payload.
func encoded(edit func(string) string) func(*scene) {
	return func(s *scene) {
		was := base64.StdEncoding.EncodeToString([]byte(s.payload(bundleFile)))
		s.replace(bundleFile, `"`+was+`"`, `"`+edit(was)+`"`)
	}
}

var envelopeTamperings = []tampering{
	{what: "a number of the payload changed", edit: changedTo(`"delta": -0.002`, `"delta": -0.001`), reason: "was changed since"},
	{what: "the same, in the bare envelope", edit: func(s *scene) { s.changed("r/evidence.dsse.json", `"delta": -0.002`, `"delta": -0.001`) }, args: oldArgs, reason: "was changed since"},
	{what: "white space added to the payload", edit: changedTo(`"verdict": "pass"`, `"verdict":  "pass"`), reason: "was changed since"},
	{what: "a byte of the signature changed", edit: func(s *scene) { s.replace(bundleFile, `"sig":"ME`, `"sig":"MF`) }, reason: "was changed since"},
	{what: "the signature of another report by the same key", edit: func(s *scene) {
		old := signatureOf(s, bundleFile)
		s.report.Warnings = nil
		s.sign()
		s.replace(bundleFile, signatureOf(s, bundleFile), old)
	}, reason: "was changed since"},
	{what: "signed by a key that is not trusted", edit: func(s *scene) { s.release = s.other; s.sign() }, reason: "it was not signed with the key"},
	{what: "verified with another key than it was signed with", args: []string{"verify", bundleFile, "--key", "other.pub"}, reason: "it was not signed with the key"},
	{what: "verified with two keys, neither of which signed", args: []string{"verify", bundleFile, "--key", "other.pub", "--key", "owner.pub"}, reason: "any of the 2 trusted keys"},
	{what: "a second signature beside the good one", edit: replaced(bundleFile, `"signatures":[`, `"signatures":[{"sig":"MEUCIQD=","keyid":""},`), reason: "2 signatures, exactly one is accepted"},
	{what: "no signature at all", edit: func(s *scene) {
		text := s.read(bundleFile)
		at := strings.Index(text, `"signatures":[`)
		s.write(bundleFile, []byte(text[:at]+`"signatures":[]`+text[strings.Index(text[at:], "]")+at+1:]))
	}, reason: "0 signatures, exactly one is accepted"},
	{what: "an empty signature", edit: func(s *scene) { s.replace(bundleFile, signatureOf(s, bundleFile), "") }, reason: "signature: it is missing or empty"},
	{what: "a signature that is longer than one can be", edit: func(s *scene) {
		s.replace(bundleFile, signatureOf(s, bundleFile), base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x30}, 100)))
	}, reason: "100 bytes"},
	{what: "a key id: SHA-256 of the key in hexadecimal", edit: replaced(bundleFile, `"keyid":""`, `"keyid":"0f4be1"`), reason: `keyid is "0f4be1"`},
	{what: "a key id in the form of SSH", edit: replaced(bundleFile, `"keyid":""`, `"keyid":"SHA256:abc"`), reason: `keyid is "SHA256:abc"`},
	{what: "a key id of one space", edit: replaced(bundleFile, `"keyid":""`, `"keyid":" "`), reason: `keyid is " "`},
	{what: "a key hint of another key", edit: func(s *scene) {
		s.replace(bundleFile, `"hint":"`+s.release.PublicKey().Fingerprint(), `"hint":"`+s.other.PublicKey().Fingerprint())
	}, reason: "its key hint is"},
	{what: "a field that the format does not have", edit: replaced(bundleFile, `{"mediaType"`, `{"note":"trust me","mediaType"`), reason: `unknown field "note"`},
	{what: "a field twice: two payloads", edit: replaced(bundleFile, `"dsseEnvelope":{`, `"dsseEnvelope":{"payload":"e30=",`), reason: `field "payload" appears twice`},
	{what: "a field in other capitals", edit: replaced(bundleFile, `"payloadType"`, `"PayloadType"`), reason: `must be spelt "payloadType"`},
	{what: "a field in other letters that Unicode folds to the same", edit: replaced(bundleFile, `"signatures"`, `"ſignatures"`), reason: `must be spelt "signatures"`},
	{what: "something after the document", edit: func(s *scene) { s.write(bundleFile, []byte(s.read(bundleFile)+"{}")) }, reason: "not valid JSON"},
	{what: "an unknown payload type", edit: replaced(bundleFile, `"application/vnd.in-toto+json"`, `"application/vnd.other+json"`), reason: "payloadType is"},
	{what: "an unknown payload type, signed as such", edit: func(s *scene) { s.raw(s.payload(bundleFile), "application/vnd.in-toto.report+json") }, reason: "payloadType is"},
	{what: "another media type", edit: replaced(bundleFile, `bundle.v0.3+json`, `bundle.v0.2+json`), reason: "mediaType is"},
	{what: "base64 with a line break", edit: encoded(func(b string) string { return b[:76] + `\n` + b[76:] }), reason: "not canonical base64"},
	{what: "base64 in the alphabet of addresses", edit: encoded(func(b string) string { return "_" + b[1:] }), reason: "not standard base64"},
	{what: "base64 with padding that is not needed", edit: encoded(func(b string) string { return b + "=" }), reason: "not standard base64"},
	{what: "base64 with stray bits in its last digit", edit: func(s *scene) { s.replace(bundleFile, signatureOf(s, bundleFile), "MEUCIQ1=") }, reason: "not canonical base64"},
	{what: "an empty payload", edit: encoded(func(string) string { return "" }), reason: "payload: it is missing or empty"},
	{what: "an envelope of null", edit: func(s *scene) {
		s.write(bundleFile, []byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":null}`))
	}, reason: "dsseEnvelope is null"},
	{what: "no key material", edit: func(s *scene) {
		s.replace(bundleFile, `"publicKey":{"hint":"`+s.release.PublicKey().Fingerprint()+`"}`, `"publicKey":null`)
	}, reason: "has no publicKey"},
	{what: "a certificate in place of a key", edit: replaced(bundleFile, `"publicKey"`, `"certificate"`), reason: `unknown field`},
	{what: "transparency log entries, which nobody checked", edit: replaced(bundleFile, `"tlogEntries":[]`, `"tlogEntries":[{}]`), reason: "transparency log entries"},
	{what: "invalid UTF-8", edit: func(s *scene) { s.replace(bundleFile, `"hint":"`, "\"hint\":\"\xff") }, reason: "not valid UTF-8"},
	{what: "a number where a text belongs", edit: replaced(bundleFile, `"keyid":""`, `"keyid":0`), reason: "have number, want a text"},
	{what: "nested deeper than any evidence", edit: func(s *scene) {
		s.replace(bundleFile, `"tlogEntries":[]`, `"tlogEntries":`+strings.Repeat("[", 100)+strings.Repeat("]", 100))
	}, reason: "nested more than"},
	{what: "the file cut off in the middle", edit: func(s *scene) { text := s.read(bundleFile); s.write(bundleFile, []byte(text[:len(text)/2])) }, reason: "not valid JSON"},
	{what: "the file empty", edit: func(s *scene) { s.write(bundleFile, nil) }, reason: "not valid JSON"},
	{what: "the report itself in place of evidence", edit: func(s *scene) { s.write(bundleFile, []byte(s.read("r/report.json"))) }, reason: "neither a Sigstore bundle"},
}

// signatureOf returns the base64 of the signature in an evidence file.
func signatureOf(s *scene, name string) string {
	m := regexp.MustCompile(`"sig":"([^"]*)"`).FindStringSubmatch(s.read(name))
	if m == nil {
		s.t.Fatalf("%s has no signature", name)
	}
	return m[1]
}

// subjectsAs signs a statement of other subjects.
func subjectsAs(edit func(s *scene, subjects []attest.Subject) []attest.Subject) func(*scene) {
	return func(s *scene) {
		data := []byte(s.read("r/report.json"))
		s.signed(attest.Statement{PredicateType: report.PredicateType, Subjects: edit(s, append([]attest.Subject{}, s.subjects...)), Predicate: data})
	}
}

var statementTamperings = []tampering{
	{what: "a statement of version 0.1", edit: resignedTo("in-toto.io/Statement/v1", "in-toto.io/Statement/v0.1"), reason: `_type is "https://in-toto.io/Statement/v0.1"`},
	{what: "another predicate type", edit: resignedTo("attestations/onnx-validation/v1", "attestations/onnx-validation/v2"), reason: "it is of type"},
	{what: "another maker's predicate type", edit: resignedTo(report.PredicateType, "https://slsa.dev/provenance/v1"), reason: "where a report was asked for"},
	{what: "a subject removed: the weights", edit: subjectsAs(func(s *scene, l []attest.Subject) []attest.Subject { return l[:1] }), reason: "for which it was not signed"},
	{what: "a subject twice", edit: resignedTo(`"subject":[`, `"subject":[{"name":"candidate.onnx","digest":{"sha256":"`+strings.Repeat("0", 64)+`"}},`), reason: `subject "candidate.onnx" appears twice`},
	{what: "the baseline as a further subject", edit: subjectsAs(func(s *scene, l []attest.Subject) []attest.Subject {
		return append(l, attest.Subject{Name: "baseline.onnx", SHA256: s.digest("baseline.onnx")})
	}), reason: "which is not the candidate of the report"},
	{what: "another model as a further subject", edit: subjectsAs(func(s *scene, l []attest.Subject) []attest.Subject {
		return append(l, attest.Subject{Name: "other.onnx", SHA256: digestOf("other")})
	}), reason: "which is not the candidate of the report"},
	{what: "a subject without SHA-256", edit: resignedTo(`"digest":{"sha256":`, `"digest":{"sha512":`), reason: "its sha256 digest is"},
	{what: "a digest in capitals", edit: func(s *scene) {
		d := s.subjects[0].SHA256
		s.resigned(`{"sha256":"`+d, `{"sha256":"`+strings.ToUpper(d))
	}, reason: "want 64 lower-case hex digits"},
	{what: "no subject", edit: func(s *scene) {
		s.raw(`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"x","predicate":{}}`, "application/vnd.in-toto+json")
	}, reason: "it has no subject"},
	{what: "no predicate", edit: func(s *scene) {
		s.raw(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"`+digestOf("a")+`"}}],"predicateType":"`+report.PredicateType+`"}`, "application/vnd.in-toto+json")
	}, reason: "predicate: want a JSON object"},
	{what: "a verdict twice", edit: resignedTo(`"verdict": "pass",`, `"verdict": "fail", "verdict": "pass",`), reason: `field "verdict" appears twice`},
	{what: "a verdict in other capitals", edit: resignedTo(`"verdict": "pass",`, `"verdict": "pass", "Verdict": "fail",`), reason: `must be spelt "verdict"`},
	{what: "something after the statement", edit: func(s *scene) { s.raw(s.payload(bundleFile)+"{}", "application/vnd.in-toto+json") }, reason: "not valid JSON"},
	{what: "a NaN among the numbers", edit: resignedTo(`"delta": -0.002`, `"delta": NaN`), reason: "not valid JSON"},
	{what: "a number that no reader can hold", edit: resignedTo(`"delta": -0.002`, `"delta": -1e999`), reason: "have number -1e999, want a number that 64 bits hold"},
	{what: "a count that is no whole number", edit: resignedTo(`"samples": 1000`, `"samples": 1000.5`), reason: "have number 1000.5, want a whole number"},
	{what: "a schema of a later major version", edit: resignedTo(`"schemaVersion": "1.0"`, `"schemaVersion": "2.0"`), reason: `the schema version is "2.0"`},
	{what: "another schema", edit: resignedTo("schemas/report-v1.json", "schemas/profile-v1.json"), reason: "the schema is"},
	{what: "a locked policy in place of a report", edit: func(s *scene) { s.release = s.owner; s.write(bundleFile, s.sealed(s.locked)) }, args: []string{"verify", bundleFile, "--key", "owner.pub"}, reason: "it is of type"},
}

// concluded signs a report that somebody edited after it was judged.
func concluded(edit func(s *scene, r *report.Report)) func(*scene) {
	return func(s *scene) { edit(s, s.report); s.sign() }
}

var reportTamperings = []tampering{
	{what: "a verdict that its gates do not give", edit: concluded(func(_ *scene, r *report.Report) { r.Verdict = report.Inconclusive }), args: bareArgs, reason: "but its gates give"},
	{what: "a gate that fails, recorded as passed", edit: concluded(func(_ *scene, r *report.Report) {
		r.Accuracy.Delta, r.Accuracy.CI95 = report.Num(-0.2), report.CI(-0.25, -0.15)
	}), args: bareArgs, reason: `but its numbers give "fail"`},
	{what: "a gate that is not decided, recorded as passed", edit: concluded(func(_ *scene, r *report.Report) { r.Accuracy.CI95 = report.CI(-0.02, 0.002) }), args: bareArgs, reason: `but its numbers give "inconclusive"`},
	{what: "another value than was measured", edit: concluded(func(_ *scene, r *report.Report) { r.Gates[0].Observed = report.Num(0) }), args: bareArgs, reason: "records another value of accuracy.drop"},
	{what: "another interval than was measured", edit: concluded(func(_ *scene, r *report.Report) { r.Gates[1].CI95 = report.CI(0.1, 0.2) }), args: bareArgs, reason: "records another value of latency.ratio"},
	{what: "a limit loosened", edit: concluded(func(_ *scene, r *report.Report) { r.Gates[0].Threshold = 0.5 }), args: bareArgs, reason: "but its gates are the policy"},
	{what: "a gate left out", edit: concluded(func(_ *scene, r *report.Report) { r.Gates = r.Gates[1:] }), args: bareArgs, reason: "but its gates are the policy"},
	{what: "all gates left out", edit: concluded(func(_ *scene, r *report.Report) { r.Gates = nil }), args: bareArgs, reason: "but its gates give"},
	{what: "a gate on a metric that does not exist", edit: concluded(func(_ *scene, r *report.Report) { r.Gates[0].Metric = "accuracy.luck" }), args: bareArgs, reason: `no metric "accuracy.luck"`},
	{what: "a gate turned around", edit: concluded(func(_ *scene, r *report.Report) { r.Gates[0].Operator = ">=" }), args: bareArgs, reason: "turn it around"},
	{what: "a rule loosened", edit: concluded(func(_ *scene, r *report.Report) { r.Gates[2].CEL = "report.accuracy.flips.changed < 1000000" }), args: bareArgs, reason: "but its gates are the policy"},
	{what: "a rule that does not hold, recorded as passed", edit: concluded(func(_ *scene, r *report.Report) { r.Accuracy.Flips.Changed = 400 }), args: bareArgs, reason: `records "pass" for the gate "few-flips"`},
	{what: "a rule that cannot be read", edit: concluded(func(_ *scene, r *report.Report) { r.Gates[2].CEL = "report.accuracy.luck > 0" }), args: bareArgs, reason: "undefined field 'luck'"},
	{what: "a rule recorded as a gate of another limit", edit: concluded(func(_ *scene, r *report.Report) { r.Gates[2].Threshold = 0 }), args: bareArgs, reason: "want >= 1"},
	{what: "numbers left out, with the gates on them still passed", edit: concluded(func(_ *scene, r *report.Report) { r.Latency = nil }), args: bareArgs, reason: `but its numbers give "fail": the report does not contain latency.ratio`},
	{what: "the origin of the data left out", edit: concluded(func(_ *scene, r *report.Report) { r.Data.Origin = "" }), args: bareArgs, reason: "the origin of the data"},
	{what: "generated inputs, judged as the user's own data", edit: concluded(func(_ *scene, r *report.Report) { r.Data.Origin = report.OriginSynthetic }), args: bareArgs, reason: "generated inputs"},
	{what: "the report of another candidate", edit: concluded(func(_ *scene, r *report.Report) { r.Candidate.SHA256 = digestOf("other") }), args: bareArgs, reason: "for which it was not signed"},
	{what: "the weights of another candidate", edit: concluded(func(_ *scene, r *report.Report) { r.Candidate.External[0].SHA256 = digestOf("other") }), args: bareArgs, reason: "for which it was not signed"},
}

var fileTamperings = []tampering{
	{what: "a byte of the model changed", edit: func(s *scene) { b := s.read("candidate.onnx"); s.write("candidate.onnx", []byte(b[:len(b)-1]+"\x00")) }, reason: "but the evidence is about"},
	{what: "the model cut off", edit: func(s *scene) { b := s.read("candidate.onnx"); s.write("candidate.onnx", []byte(b[:len(b)/2])) }, reason: "but the evidence is about"},
	{what: "the model missing", edit: func(s *scene) { s.check(os.Remove(s.path("candidate.onnx"))) }, reason: "candidate.onnx is missing"},
	{what: "the report of one model shown for another", args: append(append([]string{}, bareArgs...), "--model", "baseline.onnx"), reason: "but the evidence is about"},
	{what: "the model replaced by the baseline under its name", edit: func(s *scene) { s.write("candidate.onnx", []byte(s.read("baseline.onnx"))) }, reason: "but the evidence is about"},
	{what: "the model a symbolic link to another place", edit: func(s *scene) {
		s.check(os.Rename(s.path("candidate.onnx"), s.path("elsewhere.onnx")))
		s.check(os.Symlink("elsewhere.onnx", s.path("candidate.onnx")))
	}, reason: "is a symbolic link to elsewhere.onnx"},
	{what: "a byte of the weights changed", edit: func(s *scene) { b := s.read(s.external); s.write(s.external, []byte("\x01"+b[1:])) }, reason: "the evidence says"},
	{what: "a byte added to the weights", edit: func(s *scene) { s.write(s.external, []byte(s.read(s.external)+"\x00")) }, reason: "the evidence says"},
	{what: "the weights renamed", edit: func(s *scene) { s.check(os.Rename(s.path(s.external), s.path("other.data"))) }, reason: "is missing, which the evidence covers"},
	{what: "the weights missing", edit: func(s *scene) { s.check(os.Remove(s.path(s.external))) }, reason: "is missing, which the evidence covers"},
	{what: "the weights a symbolic link", edit: func(s *scene) {
		s.check(os.Rename(s.path(s.external), s.path("elsewhere.data")))
		s.check(os.Symlink("elsewhere.data", s.path(s.external)))
	}, reason: "is a symbolic link to elsewhere.data"},
	{what: "weights that the model reads and nobody signed", edit: func(s *scene) {
		s.subjects, s.report.Candidate.External = s.subjects[:1], nil
		s.sign()
	}, reason: "which the evidence does not cover"},
	{what: "a file signed beside the model that is not there", edit: func(s *scene) {
		s.subjects = append(s.subjects, attest.Subject{Name: "more.data", SHA256: digestOf("more")})
		s.report.Candidate.External = append(s.report.Candidate.External, report.File{Path: "more.data", SHA256: digestOf("more")})
		s.sign()
	}, reason: "more.data is missing"},
	{what: "a signed path that leads out of the model's folder", edit: func(s *scene) {
		s.subjects[1].Name = "../" + s.external
		s.report.Candidate.External[0].Path = "../" + s.external
		s.sign()
	}, reason: "which the evidence does not cover"},
	{what: "another `report.json` beside the evidence", edit: replaced("r/report.json", `"delta": -0.002`, `"delta": 0.002`), reason: "report.json beside it is not the report that was signed"},
	{what: "an earlier report of the same model beside the evidence", edit: func(s *scene) {
		s.report.Warnings = append(s.report.Warnings, "earlier")
		data, err := s.report.JSON()
		s.check(err)
		s.write("r/report.json", data)
	}, reason: "report.json beside it is not the report that was signed"},
}

// relocked signs another policy than the report was judged by.
func relocked(edit func(l *gate.Locked)) func(*scene) {
	return func(s *scene) { edit(s.locked); s.write("locked.json", s.sealed(s.locked)) }
}

// under makes a report under an edited policy, as a measurement that does not
// fit it, or a tool that does not check it, would.
func under(policy func(s *scene), measured func(s *scene, r *report.Report)) func(*scene) {
	return func(s *scene) {
		if policy != nil {
			policy(s)
		}
		signed, err := gate.ReadLocked(s.open(s.sealed(s.locked), s.owner))
		s.check(err)
		s.report.Policy = &report.Policy{Locked: signed.Reference()}
		if measured != nil {
			measured(s, s.report)
		}
		s.check(gate.Apply(s.report, s.locked.Policy()))
		s.sign()
	}
}

var policyTamperings = []tampering{
	{what: "a report under a looser policy of the same owner", edit: func(s *scene) {
		strict := *s.locked
		under(func(s *scene) {
			s.locked.Gates = []gate.Gate{{Name: "max-drop", Metric: "accuracy.drop", Operator: "<=", Threshold: 0.3}}
		}, nil)(s)
		s.write("locked.json", s.sealed(&strict))
	}, reason: "was judged under the policy"},
	{what: "a report under no policy", edit: func(s *scene) { s.report.Policy.Locked = nil; s.sign() }, reason: "was judged under no locked policy"},
	{what: "a report that names the policy, and was judged by other gates", edit: func(s *scene) {
		p := s.locked.Policy()
		p.Gates = p.Gates[:1]
		s.check(gate.Apply(s.report, p))
		s.sign()
	}, reason: `the gate "max-latency-ratio" is missing`},
	{what: "a report that names the policy, with its rule left out", edit: func(s *scene) {
		p := s.locked.Policy()
		p.Rules = nil
		s.check(gate.Apply(s.report, p))
		s.sign()
	}, reason: `the rule "few-flips" is missing`},
	{what: "a report that names the policy, with a limit loosened", edit: func(s *scene) {
		p := s.locked.Policy()
		p.Gates = []gate.Gate{p.Gates[0], p.Gates[1]}
		p.Gates[0].Threshold = 0.2
		s.check(gate.Apply(s.report, p))
		s.sign()
	}, reason: `the policy has accuracy.drop <= 1 pt`},
	{what: "another date of registration in the report than in the policy", edit: func(s *scene) {
		s.report.Policy.Locked.Registered = s.report.Policy.Locked.Registered.Add(-time.Hour)
		s.sign()
	}, reason: "otherwise than it is"},
	{what: "a policy signed after the measurement had begun", edit: under(func(s *scene) { s.locked.Registered = s.report.Started.Add(time.Second) }, nil), reason: "limits may not be chosen after seeing the numbers"},
	{what: "a policy that is registered in the future", edit: under(func(s *scene) { s.locked.Registered = time.Now().UTC().Add(time.Hour).Truncate(time.Second) }, nil), reason: "which is yet to come"},
	{what: "an expired policy", edit: under(func(s *scene) {
		t := time.Now().UTC().Add(-10 * time.Second).Truncate(time.Second)
		s.locked.Expires = &t
	}, nil), reason: "expired"},
	{what: "other data than the policy is for", edit: under(nil, func(_ *scene, r *report.Report) { r.Data.Digest = digestOf("easy data") }), reason: "and the report is on"},
	{what: "a part of the data that the policy is for", edit: under(nil, func(_ *scene, r *report.Report) { r.Data.Samples = 900 }), reason: "1000 samples, and the report is on 900"},
	{what: "another seed than the policy's", edit: under(nil, func(_ *scene, r *report.Report) { r.Seed = "8" }), reason: "the seed 7, and the report has 8"},
	{what: "another baseline than the policy's", edit: under(nil, func(_ *scene, r *report.Report) { r.Baseline.SHA256 = digestOf("weak baseline") }), reason: "and the report is against"},
	{what: "another device than the policy permits", edit: under(nil, func(_ *scene, r *report.Report) { r.Environment.Device = "cuda:0" }), reason: "the devices cpu, and the report is of cuda:0"},
	{what: "another engine than the policy permits", edit: under(func(s *scene) { s.locked.Requires.Engines = []string{"onnx-go"} }, nil), reason: "the engines onnx-go"},
	{what: "fewer timings than the policy requires", edit: under(func(s *scene) { s.locked.Requires.MinPairs = 100 }, nil), reason: "at least 100 pairs"},
	{what: "a policy that is signed by a key that is not trusted", args: []string{"verify", bundleFile, "--key", "release.pub", "--policy", "locked.json", "--policy-key", "other.pub"}, reason: "it was not signed with the key"},
	{what: "a policy that is signed by the key of reports", args: []string{"verify", bundleFile, "--key", "release.pub", "--policy", "locked.json"}, reason: "it was not signed with the key"},
	{what: "a limit of the policy changed after signing", edit: func(s *scene) { s.changed("locked.json", `"threshold":0.01`, `"threshold":0.1`) }, reason: "was changed since"},
	{what: "a policy with a requirement that is not known here", edit: func(s *scene) {
		b, err := json.Marshal(s.locked)
		s.check(err)
		ev, err := attest.Sign(context.Background(), s.owner, attest.Statement{PredicateType: gate.LockedPredicateType, Subjects: []attest.Subject{{Name: "d", SHA256: s.locked.Data.Digest}},
			Predicate: append([]byte(`{"reviewed":true,`), b[1:]...)})
		s.check(err)
		s.write("locked.json", ev.Envelope)
	}, reason: `unknown field "reviewed"`},
	{what: "a policy that is signed for other data than it names", edit: func(s *scene) {
		b, err := json.Marshal(s.locked)
		s.check(err)
		ev, err := attest.Sign(context.Background(), s.owner, attest.Statement{PredicateType: gate.LockedPredicateType, Subjects: []attest.Subject{{Name: "d", SHA256: digestOf("other")}}, Predicate: b})
		s.check(err)
		s.write("locked.json", ev.Envelope)
	}, reason: "is signed for other data than it names"},
	{what: "a policy that requires nothing", edit: relocked(func(l *gate.Locked) { l.Gates, l.Rules = []gate.Gate{}, nil }), reason: "the policy requires nothing"},
	{what: "a report in place of the policy", edit: func(s *scene) { s.write("locked.json", []byte(s.read(bundleFile))) },
		args: []string{"verify", bundleFile, "--key", "release.pub", "--policy", "locked.json"}, reason: "want the policy type"},
	{what: "an expired policy, by `policy verify`", edit: relocked(func(l *gate.Locked) { t := time.Now().UTC().Add(-time.Minute); l.Expires = &t }),
		args: []string{"policy", "verify", "locked.json", "--key", "owner.pub"}, reason: "expired"},
}

var modelSigTamperings = []tampering{
	{what: "a byte of the model changed", edit: fileTamperings[0].edit, args: sigArgs, reason: "but the evidence is about"},
	{what: "a byte of the weights changed", edit: fileTamperings[6].edit, args: sigArgs, reason: "the evidence says"},
	{what: "the weights missing", edit: fileTamperings[9].edit, args: sigArgs, reason: "is missing, which the evidence covers"},
	{what: "the signature of another model", edit: func(s *scene) {
		sig, err := attest.SignModel(context.Background(), s.release, "baseline.onnx", []attest.Subject{{Name: "baseline.onnx", SHA256: s.digest("baseline.onnx")}})
		s.check(err)
		s.write("r/model.sig", sig)
	}, args: sigArgs, reason: "but the evidence is about"},
	{what: "a digest in the manifest changed", edit: func(s *scene) { s.changed("r/model.sig", s.subjects[1].SHA256, digestOf("other")) }, args: sigArgs, reason: "was changed since"},
	{what: "a file left out of the manifest", edit: func(s *scene) {
		sig, err := attest.SignModel(context.Background(), s.release, "candidate.onnx", s.subjects[:1])
		s.check(err)
		s.write("r/model.sig", sig)
	}, args: sigArgs, reason: "which the evidence does not cover"},
	{what: "signed by a key that is not trusted", edit: func(s *scene) {
		sig, err := attest.SignModel(context.Background(), s.other, "candidate.onnx", s.subjects)
		s.check(err)
		s.write("r/model.sig", sig)
	}, args: sigArgs, reason: "it was not signed with the key"},
	{what: "a manifest whose files do not add up to its root", edit: func(s *scene) {
		root := regexp.MustCompile(`"digest":\{"sha256":"([0-9a-f]{64})"`).FindStringSubmatch(s.payload("r/model.sig"))[1]
		s.raw(strings.Replace(s.payload("r/model.sig"), root, digestOf("other"), 1), "application/vnd.in-toto+json")
		s.check(os.Rename(s.path(bundleFile), s.path("r/model.sig")))
	}, args: sigArgs, reason: "add up to the root digest"},
	{what: "the evidence of the report in its place, for another model", edit: func(s *scene) { s.write("r/model.sig", []byte(s.read(bundleFile))) },
		args: []string{"verify", "r/model.sig", "--key", "release.pub", "--model", "baseline.onnx"}, reason: "where a model was asked for"},
}

// lines edits the lines of the audit log.
func lines(edit func(l []string) []string) func(*scene) {
	return func(s *scene) {
		l := strings.SplitAfter(strings.TrimSuffix(s.read("audit.jsonl"), "\n")+"\n", "\n")
		s.write("audit.jsonl", []byte(strings.Join(edit(l[:len(l)-1]), "")))
	}
}

var auditTamperings = []tampering{
	{what: "a word of an entry changed", edit: replaced("audit.jsonl", `"exit":0`, `"exit":3`), args: logArgs, reason: "line 1: it was changed"},
	{what: "an entry taken out", edit: lines(func(l []string) []string { return append(l[:1], l[2:]...) }), args: logArgs, reason: "line 2: it is entry 3, want 2"},
	{what: "the first entry taken out", edit: lines(func(l []string) []string { return l[1:] }), args: logArgs, reason: "line 1: it is entry 2, want 1"},
	{what: "two entries exchanged", edit: lines(func(l []string) []string { l[1], l[2] = l[2], l[1]; return l }), args: logArgs, reason: "line 2: it is entry 3, want 2"},
	{what: "an entry twice", edit: lines(func(l []string) []string { return append(l, l[3]) }), args: logArgs, reason: "line 5: it is entry 4, want 5"},
	{what: "a field added to an entry", edit: replaced("audit.jsonl", `{"seq":1`, `{"note":"x","seq":1`), args: logArgs, reason: `unknown field "note"`},
	{what: "white space added to an entry", edit: replaced("audit.jsonl", `{"seq":1,`, `{"seq":1, `), args: logArgs, reason: "it was changed"},
	{what: "an entry of another log put in", edit: func(s *scene) {
		other := newScene(s.t)
		theirs := strings.SplitAfter(other.read("audit.jsonl"), "\n")
		lines(func(l []string) []string { l[2] = theirs[2]; return l })(s)
	}, args: logArgs, reason: "line 3: it follows the entry"},
	{what: "the last line incomplete", edit: func(s *scene) { b := s.read("audit.jsonl"); s.write("audit.jsonl", []byte(b[:len(b)-20])) }, args: logArgs, reason: "it is incomplete"},
	{what: "the end cut off, with the head kept elsewhere", edit: func(s *scene) {
		s.write("head", []byte(regexp.MustCompile(`"hash":"([0-9a-f]+)"\}\n$`).FindStringSubmatch(s.read("audit.jsonl"))[1]))
		lines(func(l []string) []string { return l[:2] })(s)
	}, args: append(append([]string{}, logArgs...), "--expect-head", "@head"), reason: "its end was cut off, or all of it was written anew"},
	{what: "all of it written anew, with the head kept elsewhere", edit: func(s *scene) {
		other := newScene(s.t)
		s.write("head", []byte(regexp.MustCompile(`"hash":"([0-9a-f]+)"\}\n$`).FindStringSubmatch(s.read("audit.jsonl"))[1]))
		s.write("audit.jsonl", []byte(other.read("audit.jsonl")))
	}, args: append(append([]string{}, logArgs...), "--expect-head", "@head"), reason: "its end was cut off, or all of it was written anew"},
}

// lapidary runs the program in the scene's folder. An argument @FILE stands for
// the content of that file.
func (s *scene) lapidary(args ...string) (code int, stderr string) {
	s.t.Helper()
	for i, a := range args {
		if name, ok := strings.CutPrefix(a, "@"); ok {
			args[i] = s.read(name)
		}
	}
	c := exec.Command("lapidary", args...)
	c.Dir = s.dir
	var b bytes.Buffer
	c.Stderr = &b
	err := c.Run()
	if c.ProcessState == nil {
		s.t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), b.String()
}

// TestTampering tampers with evidence in every way that is known, and holds that
// each is refused with exit code 5 and a reason that names it. With -update it writes
// docs/tampering.md.
func TestTampering(t *testing.T) {
	good := newScene(t)
	for _, args := range [][]string{verifyArgs, bareArgs, oldArgs, sigArgs, logArgs, {"policy", "verify", "locked.json", "--key", "owner.pub"}} {
		if code, stderr := good.lapidary(args...); code != 0 {
			t.Fatalf("lapidary %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
		}
	}
	var table bytes.Buffer
	fmt.Fprint(&table, tamperingHead)
	n := 0
	for _, section := range sections {
		fmt.Fprintf(&table, "\n## %s\n\n| | tampering | what `lapidary` says |\n|---|---|---|\n", section.title)
		for _, x := range section.list {
			n++
			row := ""
			t.Run(fmt.Sprintf("%s/%s", section.title, x.what), func(t *testing.T) { row = x.refused(t) })
			fmt.Fprintf(&table, "| %d | %s | %s |\n", n, x.what, row)
		}
	}
	if n < 40 {
		t.Errorf("only %d tamperings", n)
	}
	goldenDocument(t, "tampering.md", table.Bytes())
}

const tamperingHead = `# Tampering

Generated by ` + "`go test ./cmd/lapidary -run TestTampering -update`" + `: each of these is done to the evidence of a
validation under a locked policy, and refused with exit code 5. Digests, times and folders are left out (…).
`

// refused does the tampering and returns what is said, for the table.
func (x tampering) refused(t *testing.T) string {
	s := newScene(t)
	if x.edit != nil {
		x.edit(s)
	}
	args := x.args
	if args == nil {
		args = verifyArgs
	}
	code, stderr := s.lapidary(append([]string{}, args...)...)
	if code != exitRejected || !strings.Contains(stderr, x.reason) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, want %d; want %q in: %s", code, exitRejected, x.reason, stderr)
	}
	return tableText(strings.TrimPrefix(stderr, "lapidary: error: "))
}

// varying are the parts of a message that differ from one run to the next.
var varying = regexp.MustCompile(`[0-9A-Fa-f]{64}|\d{4}-\d\d-\d\dT[0-9:.]+Z|candidate\.onnx\.[0-9a-f]+\.data|the metrics are .*`)

func tableText(s string) string {
	s = strings.NewReplacer("|", `\|`, "\\", `\\`, "<", "&lt;").Replace(strings.TrimSpace(s))
	return varying.ReplaceAllString(s, "…")
}

// goldenDocument compares a document with that in docs, or writes it.
func goldenDocument(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join(docs, name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("docs/%s is not what the program says; run with -update (-stands +says):\n%s", name, d)
	}
}

// TestEveryFieldIsSigned changes every value of the report in the payload, one
// after another, under the signature that is there.
func TestEveryFieldIsSigned(t *testing.T) {
	s := newScene(t)
	var tree map[string]any
	s.check(json.Unmarshal([]byte(s.payload(bundleFile)), &tree))
	evidence, keys := s.read(bundleFile), []attest.PublicKey{s.release.PublicKey()}
	was := base64.StdEncoding.EncodeToString([]byte(s.payload(bundleFile)))
	n := 0
	var walk func(path string, v any, set func(any))
	walk = func(path string, v any, set func(any)) {
		try := func(other any) {
			n++
			set(other)
			b, err := json.Marshal(tree)
			s.check(err)
			set(v)
			forged := strings.Replace(evidence, was, base64.StdEncoding.EncodeToString(b), 1)
			if _, err := attest.Verify([]byte(forged), keys); err == nil || exitCode(err) != exitRejected || !strings.Contains(err.Error(), "was changed since") {
				t.Errorf("%s: %v", path, err)
			}
		}
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(path+"."+k, e, func(x any) { v[k] = x })
			}
		case []any:
			for i, e := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), e, func(x any) { v[i] = x })
			}
		case string:
			try(v + "x")
		case float64:
			try(v + 1)
		case bool:
			try(!v)
		}
		try(nil)
	}
	walk("", tree, func(any) {})
	if n < 150 {
		t.Errorf("only %d changes were tried", n)
	}
}
