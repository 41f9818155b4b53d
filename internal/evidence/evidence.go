// Package evidence makes the signed files beside a report: the report itself as an
// in-toto statement of our own type, and what it amounts to in the types of others.
//
// The report alone carries numbers. A test result ([TestResultType]) says which gates
// passed, and a provenance ([ProvenanceType]) how the candidate was made, for tools that
// know these types and not ours. Each is a statement, and a signature, of its own about
// the candidate's files; the baseline is never a subject.
package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// Names of the files.
const (
	EnvelopeFile   = "evidence.dsse.json"                 // the report, as a DSSE envelope
	BundleFile     = "evidence.sigstore.json"             // the report, as a Sigstore bundle with the same signature
	TestResultFile = "evidence.test-result.sigstore.json" // the gates, as an in-toto test result
	ProvenanceFile = "evidence.provenance.sigstore.json"  // the candidate's history, as SLSA provenance; only where it has one
	ModelFile      = "model.sig"                          // the candidate's files, as an OMS signature
	LinesFile      = "evidence.jsonl"                     // every bundle, one a line
)

// files are all of them, in the order in which they are written.
var files = []string{EnvelopeFile, BundleFile, TestResultFile, ProvenanceFile, ModelFile, LinesFile}

// File is one file to write.
type File struct {
	Name string
	Data []byte
}

// Sign returns the evidence for the candidate of r. The data are the bytes of r's
// report.json, and subjects the candidate's files.
func Sign(ctx context.Context, s attest.Signer, r *report.Report, data []byte, subjects []attest.Subject) ([]File, error) {
	main, err := attest.Sign(ctx, s, attest.Statement{PredicateType: report.PredicateType, Subjects: subjects, Predicate: data})
	if err != nil {
		return nil, err
	}
	out := []File{{EnvelopeFile, main.Envelope}, {BundleFile, main.Bundle}}
	lines := bytes.Clone(main.Bundle)
	add := func(name string, bundle []byte) {
		out = append(out, File{name, bundle})
		lines = append(lines, bundle...)
	}
	for _, p := range []struct {
		name, kind string
		predicate  any
	}{
		{TestResultFile, TestResultType, newTestResult(r, data)},
		{ProvenanceFile, ProvenanceType, newProvenance(r)},
	} {
		if p.predicate == (*provenance)(nil) {
			continue
		}
		predicate, err := json.Marshal(p.predicate)
		if err != nil {
			return nil, fmt.Errorf("making %s: %v", p.name, err)
		}
		e, err := attest.Sign(ctx, s, attest.Statement{PredicateType: p.kind, Subjects: subjects, Predicate: predicate})
		if err != nil {
			return nil, err
		}
		add(p.name, e.Bundle)
	}
	model, err := attest.SignModel(ctx, s, r.Candidate.Name, subjects)
	if err != nil {
		return nil, err
	}
	add(ModelFile, model)
	return append(out, File{LinesFile, lines}), nil
}

// Write puts the files into dir.
func Write(dir string, files []File) error {
	for _, f := range files {
		if err := atomicfile.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes evidence of an earlier run out of dir, so that a report never lies beside
// another report's signature.
func Remove(dir string) error {
	for _, name := range files {
		if err := atomicfile.Remove(filepath.Join(dir, name)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("removing old evidence: %w", err)
		}
	}
	return nil
}

// descriptor is an in-toto ResourceDescriptor v1.
type descriptor struct {
	Name        string            `json:"name,omitempty"`
	Digest      map[string]string `json:"digest"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// describe names something by its SHA-256, with an annotation where note is not empty.
func describe(name, sha256, note string) descriptor {
	d := descriptor{Name: name, Digest: map[string]string{"sha256": sha256}}
	if note != "" {
		d.Annotations = map[string]string{"note": note}
	}
	return d
}
