package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/audit"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/validate"
)

// scene is a folder as a validation under a locked policy leaves it, for a test
// to tamper with: candidate.onnx with its weights beside it, r/ with report and
// evidence, locked.json, the keys release (of reports) and owner (of policies), and audit.jsonl.
type scene struct {
	t              *testing.T
	dir            string
	release, owner *attest.PrivateKey
	other          *attest.PrivateKey // nobody trusts it
	report         *report.Report
	locked         *gate.Locked
	subjects       []attest.Subject
	external       string // the candidate's data file
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, dir: t.TempDir()}
	for _, k := range []struct {
		name string
		key  **attest.PrivateKey
	}{{"release", &s.release}, {"owner", &s.owner}, {"other", &s.other}} {
		key, err := attest.GenerateKey()
		s.check(err)
		s.check(key.WriteFiles(s.path(k.name), attest.KeyOptions{Unencrypted: true}))
		*k.key = key
	}
	s.model("baseline", 1, onnxfile.ExternalNever)
	s.model("candidate", 2, onnxfile.ExternalAlways)
	s.check(os.Mkdir(s.path("r"), 0o755))
	external, err := validate.ExternalFiles(s.path("candidate.onnx"))
	s.check(err)
	if len(external) != 1 {
		t.Fatalf("the candidate reads %q, want one file", external)
	}
	s.external = external[0]
	s.subjects, err = attest.HashModel(context.Background(), s.path("candidate.onnx"), external)
	s.check(err)
	s.policy()
	s.measured()
	s.sign()
	for i := range 4 {
		_, err := audit.Append(s.path("audit.jsonl"), audit.Entry{Time: time.Now(), Tool: "lapidary", Command: "verify", Args: []string{fmt.Sprint(i)}})
		s.check(err)
	}
	return s
}

func (s *scene) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

// model writes a model of one product.
func (s *scene) model(name string, fill byte, external onnxfile.External) {
	m := onnx.NewModel(17)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(1, 16)))
	w, err := onnx.NewTensor("w", onnx.Float, []int64{16, 16}, bytes.Repeat([]byte{fill, 0, 0, 0x3f}, 256))
	s.check(err)
	n := onnx.NewNode("MatMul", []*onnx.Value{x, m.Graph.AddInitializer(w)}, "y")
	m.Graph.Append(n)
	m.Graph.AddOutput(n.Output(0))
	_, err = onnxfile.Write(s.path(name+".onnx"), m, onnxfile.WriteOptions{External: external, MinBytes: 16})
	s.check(err)
}

// policy makes the policy that was locked an hour ago.
func (s *scene) policy() {
	expires := time.Now().UTC().Add(24 * time.Hour).Truncate(time.Second)
	s.locked = &gate.Locked{
		Schema: gate.LockedSchemaURI, SchemaVersion: "1.0", Name: "production",
		Gates: []gate.Gate{{Name: "max-drop", Metric: "accuracy.drop", Operator: "<=", Threshold: 0.01},
			{Name: "max-latency-ratio", Metric: "latency.ratio", Operator: "<=", Threshold: 0.9}},
		Rules: []gate.Rule{{Name: "few-flips", CEL: "report.accuracy.flips.changed < 100", Message: "too many predictions changed"}},
		Data:  gate.DataLock{Name: "holdout.npz", Digest: digestOf("data"), Samples: 1000}, Seed: "7",
		Baseline:   &gate.ModelLock{Name: "baseline.onnx", SHA256: s.digest("baseline.onnx")},
		Requires:   gate.Requirements{MinSamples: 500, Devices: []string{"cpu"}},
		Registered: time.Now().UTC().Add(-time.Hour).Truncate(time.Second), Expires: &expires,
	}
}

func digestOf(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func (s *scene) digest(name string) string {
	b, err := os.ReadFile(s.path(name))
	s.check(err)
	return digestOf(string(b))
}

// measured makes a report that passes the policy.
func (s *scene) measured() {
	started := time.Now().UTC().Add(-time.Minute).Truncate(time.Second)
	q := &report.Quantile{BaselineMS: 4, CandidateMS: 3, CandidateCI95: report.CI(2.9, 3.1)}
	s.report = &report.Report{
		Schema: report.SchemaURI, SchemaVersion: report.SchemaVersion, Seed: s.locked.Seed, Started: started, Finished: started.Add(30 * time.Second),
		Tool:      report.Tool{Name: "lapidary", Version: "v1", SHA256: digestOf("tool"), Command: "lapidary validate baseline.onnx candidate.onnx"},
		Baseline:  report.Model{Name: "baseline.onnx", SHA256: s.locked.Baseline.SHA256, Bytes: 1200, Parameters: 256, Nodes: 1},
		Candidate: report.Model{Name: "candidate.onnx", SHA256: s.subjects[0].SHA256, Bytes: 200, Parameters: 256, Nodes: 1},
		Data:      &report.Data{Origin: report.OriginFiles, Name: "holdout.npz", Digest: s.locked.Data.Digest, Samples: 1000, Labelled: true, Classes: 10, CalibrationOverlap: report.Count(0)},
		Environment: report.Environment{Tool: "lapidary v1", Device: "cpu", OS: "linux/amd64", Cores: 4, Threads: 2,
			Runtime: report.Runtime{Name: "onnxruntime", Version: "1.30.0", SHA256: digestOf("ort"), Provider: "CPUExecutionProvider"}},
		Accuracy: &report.Accuracy{Task: report.TaskClassification, Metric: "top1", Better: report.BetterHigher, N: 1000,
			Baseline: report.Num(0.9), Candidate: report.Num(0.898), Delta: report.Num(-0.002), CI95: report.CI(-0.006, 0.002),
			Flips: &report.Flips{Changed: 12, RightToWrong: report.Count(7), WrongToRight: report.Count(5), WrongToOther: report.Count(0)},
			KL:    report.Num(0.01), SQNR: report.Num(31), Agreement: report.Num(0.988), AgreementCI95: report.CI(0.98, 0.993)},
		Latency:     &report.Latency{BaselineMS: report.Num(4), CandidateMS: report.Num(3), Ratio: report.Num(0.75), CI95: report.CI(0.73, 0.77), Pairs: 60, Processes: 6, P50: q},
		Explanation: &report.Explanation{Method: "occlusion", Samples: 32, Spearman: report.Num(0.95), CI95: report.CI(0.93, 0.96)},
		Warnings:    []string{"none worth the name"},
	}
	for _, f := range s.subjects[1:] {
		s.report.Candidate.External = append(s.report.Candidate.External, report.File{Path: f.Name, SHA256: f.SHA256, Bytes: 1024})
	}
	signed, err := gate.ReadLocked(s.open(s.sealed(s.locked), s.owner))
	s.check(err)
	s.report.Policy = &report.Policy{Locked: signed.Reference()}
	s.check(gate.Apply(s.report, s.locked.Policy()))
}

// sealed signs a policy, also one that should not be.
func (s *scene) sealed(l *gate.Locked) []byte {
	predicate, err := json.Marshal(l)
	s.check(err)
	ev, err := attest.Sign(context.Background(), s.owner, attest.Statement{PredicateType: gate.LockedPredicateType,
		Subjects: []attest.Subject{{Name: l.Data.Name, SHA256: l.Data.Digest}}, Predicate: predicate})
	s.check(err)
	return ev.Envelope
}

func (s *scene) open(evidence []byte, key *attest.PrivateKey) *attest.Verified {
	v, err := attest.Verify(evidence, []attest.PublicKey{key.PublicKey()})
	s.check(err)
	return v
}

// sign writes all evidence anew, of what the scene holds now.
func (s *scene) sign() {
	s.write("locked.json", s.sealed(s.locked))
	data, err := report.Write(s.path("r"), s.report, report.Options{})
	s.check(err)
	s.signed(attest.Statement{PredicateType: report.PredicateType, Subjects: s.subjects, Predicate: data})
	sig, err := attest.SignModel(context.Background(), s.release, "candidate.onnx", s.subjects)
	s.check(err)
	s.write("r/model.sig", sig)
}

// signed writes the evidence of a statement.
func (s *scene) signed(st attest.Statement) {
	ev, err := attest.Sign(context.Background(), s.release, st)
	s.check(err)
	s.write("r/evidence.sigstore.json", ev.Bundle)
	s.write("r/evidence.dsse.json", ev.Envelope)
}

func (s *scene) write(name string, data []byte) { s.check(os.WriteFile(s.path(name), data, 0o644)) }

func (s *scene) read(name string) string {
	b, err := os.ReadFile(s.path(name))
	s.check(err)
	return string(b)
}

// replace changes text in a file that must have it.
func (s *scene) replace(name, old, new string) {
	s.t.Helper()
	text := s.read(name)
	if !strings.Contains(text, old) {
		s.t.Fatalf("%s does not contain %s", name, old)
	}
	s.write(name, []byte(strings.Replace(text, old, new, 1)))
}

const bundleFile = "r/evidence.sigstore.json"

// payload returns the payload of the evidence.
func (s *scene) payload(name string) string {
	var e struct {
		Payload  string `json:"payload"`
		Envelope struct {
			Payload string `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	s.check(json.Unmarshal([]byte(s.read(name)), &e))
	b, err := base64.StdEncoding.DecodeString(e.Payload + e.Envelope.Payload)
	s.check(err)
	return string(b)
}

// changed puts another payload under the signature that is there.
func (s *scene) changed(name, old, new string) {
	s.t.Helper()
	was := s.payload(name)
	now := strings.Replace(was, old, new, 1)
	if now == was {
		s.t.Fatalf("the payload of %s does not contain %s", name, old)
	}
	s.replace(name, base64.StdEncoding.EncodeToString([]byte(was)), base64.StdEncoding.EncodeToString([]byte(now)))
}

// resigned changes the payload and signs it with the right key, as a signer that
// lies, or whose tool is wrong, would.
func (s *scene) resigned(old, new string) {
	s.t.Helper()
	was := s.payload(bundleFile)
	now := strings.Replace(was, old, new, 1)
	if now == was {
		s.t.Fatalf("the payload does not contain %s", old)
	}
	s.check(os.Remove(s.path("r/report.json"))) // it is not what this is about
	s.raw(now, "application/vnd.in-toto+json")
}

// raw signs any payload of any type.
func (s *scene) raw(payload, payloadType string) {
	sig, err := s.release.Sign(context.Background(), fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	s.check(err)
	b, err := json.Marshal(map[string]any{"payload": base64.StdEncoding.EncodeToString([]byte(payload)), "payloadType": payloadType,
		"signatures": []any{map[string]any{"sig": base64.StdEncoding.EncodeToString(sig), "keyid": ""}}})
	s.check(err)
	s.write(bundleFile, b)
}
