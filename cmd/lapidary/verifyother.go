package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/evidence"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/spf13/cobra"
)

// otherFlags say which evidence is expected. The signer signs several statements about
// one model with one key: whoever asks for the report must not be content with the
// model's signature.
type otherFlags struct {
	kind     string
	unsigned bool // accept files that a model signature does not list
}

// Values of --type; the file's name decides where none is given.
const (
	kindByName     = "auto"
	kindReport     = "report"
	kindTestResult = "test-result"
	kindProvenance = "provenance"
	kindModel      = "model"
	kindAny        = "" // no flag: a line among others, of which one must be a report
)

// kinds are the predicate types of evidence.
var kinds = map[string]string{
	kindReport: report.PredicateType, kindTestResult: evidence.TestResultType,
	kindProvenance: evidence.ProvenanceType, kindModel: attest.ModelPredicateType,
}

func (f *otherFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.kind, "type", kindByName, "what EVIDENCE must be: report, test-result, provenance or model; auto: as its file name says, else a report")
	c.Flags().BoolVar(&f.unsigned, "ignore-unsigned-files", false, "accept files in the folder that a model signature does not list")
}

// anyType returns the flags for one of several lines.
func (f otherFlags) anyType() otherFlags {
	f.kind = kindAny
	return f
}

// gates returns the gates that evidence without numbers must answer for. Among lines the
// report does.
func (f otherFlags) gates(own gate.Policy) gate.Policy {
	if f.kind == kindAny {
		return gate.Policy{}
	}
	return own
}

// check refuses an unknown --type.
func (f otherFlags) check() error {
	if _, ok := kinds[f.kind]; !ok && f.kind != kindByName {
		return usagef("--type %q is unknown; want auto, report, test-result, provenance or model", f.kind)
	}
	return nil
}

// expect refuses evidence of another type than the one asked for.
func (f otherFlags) expect(path string, v *attest.Verified) error {
	kind := f.kind
	if kind == kindByName {
		kind = kindOf(filepath.Base(path))
	}
	got := nameOfType(v.PredicateType())
	switch {
	case kind == kindAny && got != "", kind == got:
		return nil
	case got == "":
		return &attest.RejectedError{Reason: attest.ReasonSchema, Detail: fmt.Sprintf("it is of type %q, want %q", v.PredicateType(), kinds[cmp.Or(kind, kindReport)])}
	}
	return &attest.RejectedError{Reason: attest.ReasonSchema,
		Detail: fmt.Sprintf("it is a %s (%s), where a %s was asked for; give --type %s if that is meant", got, v.PredicateType(), kind, got)}
}

// kindOf says what a file of that name must hold.
func kindOf(name string) string {
	switch {
	case strings.HasSuffix(name, ".sig"):
		return kindModel
	case strings.Contains(name, ".test-result."):
		return kindTestResult
	case strings.Contains(name, ".provenance."):
		return kindProvenance
	}
	return kindReport
}

// nameOfType returns the value of --type for a predicate type, "" for an unknown one.
func nameOfType(predicate string) string {
	for name, t := range kinds {
		if t == predicate {
			return name
		}
	}
	return ""
}

// otherEvidence is verified evidence that carries no numbers: what a report amounts to
// in another type, or the signature of a model.
type otherEvidence struct {
	a        *app
	path     string
	v        *attest.Verified
	key      string // file of the first key, for the command to check with
	model    string
	unsigned bool // accept files that a model signature does not list
}

// stated is the JSON document of verify for it.
type stated struct {
	Schema    string           `json:"schema"`
	Accepted  bool             `json:"accepted"`
	Predicate string           `json:"predicate_type"`
	Verdict   report.Verdict   `json:"verdict,omitempty"` // of a test result
	Key       string           `json:"key"`               // fingerprint of the key that signed
	Subjects  []attest.Subject `json:"subjects"`
	Checked   string           `json:"checked,omitempty"` // the file or folder whose bytes were compared
	Passed    []string         `json:"passed,omitempty"`
	Warned    []string         `json:"warned,omitempty"`
	Failed    []string         `json:"failed,omitempty"`
	Steps     []string         `json:"steps,omitempty"`    // command lines that made the model
	Inputs    []string         `json:"inputs,omitempty"`   // what they read
	Files     []string         `json:"files,omitempty"`    // that a model signature lists
	Ignored   []string         `json:"ignored,omitempty"`  // paths that its signer left out; of a folder those that are there
	Unsigned  []string         `json:"unsigned,omitempty"` // files in the folder that it does not list
	Warnings  []string         `json:"warnings,omitempty"`
}

// verify reads what the evidence states, compares the model, and prints it.
func (o otherEvidence) verify(ctx context.Context, own gate.Policy, inconclusive string) error {
	if !own.Empty() {
		return fmt.Errorf("%s: %w", o.path, &attest.RejectedError{Reason: attest.ReasonSchema,
			Detail: fmt.Sprintf("it is of type %s, which carries no numbers, so the %s cannot be checked; verify %s", o.v.PredicateType(), own.First(), evidence.BundleFile)})
	}
	s := stated{
		Schema: schemaURI("verify-statement-v1"), Accepted: true, Predicate: o.v.PredicateType(),
		Key: o.v.Key().Fingerprint(), Subjects: o.v.Subjects(), Checked: o.model, Warnings: o.v.Warnings(),
	}
	if err := o.read(&s); err != nil {
		return fmt.Errorf("%s: %w", o.path, err)
	}
	if o.model != "" {
		if err := o.compare(ctx, &s); err != nil {
			return fmt.Errorf("%s: %w", o.path, err)
		}
	}
	if o.a.json() {
		if err := writeJSON(o.a.env.stdout, s); err != nil {
			return err
		}
	} else {
		o.print(s)
	}
	if s.Verdict == "" {
		return nil
	}
	return verdict(s.Verdict, inconclusive)
}

// read takes what the evidence states into s.
func (o otherEvidence) read(s *stated) error {
	switch o.v.PredicateType() {
	case evidence.TestResultType:
		t, err := evidence.ReadTestResult(o.v)
		if err != nil {
			return err
		}
		s.Verdict, s.Passed, s.Warned, s.Failed = t.Verdict(), t.Passed, t.Warned, t.Failed
	case evidence.ProvenanceType:
		var err error
		s.Steps, s.Inputs, err = evidence.ReadProvenance(o.v)
		return err
	case attest.ModelPredicateType:
		s.Files, s.Ignored = o.v.Manifest().Paths(), o.v.Manifest().Ignored
	}
	return nil
}

// compare holds the evidence against the bytes of the model.
func (o otherEvidence) compare(ctx context.Context, s *stated) error {
	info, err := os.Stat(o.model)
	if err != nil {
		return fmt.Errorf("reading %s: %w", o.model, rootCause(err))
	}
	if !info.IsDir() {
		return checkModel(ctx, o.v, o.model, "")
	}
	if o.v.Manifest() == nil {
		return usagef("%s is a folder; name the model file with --model", o.model)
	}
	check := attest.FolderCheck{Ignore: attest.GitPaths(), AllowUnsigned: o.unsigned}
	if rel, ok := inside(o.model, o.path); ok {
		check.Ignore = append(check.Ignore, rel)
	}
	r, err := o.v.CheckFolder(ctx, o.model, check)
	if err != nil {
		return err
	}
	s.Ignored, s.Unsigned = r.Ignored, r.Unsigned
	return nil
}

func (o otherEvidence) print(s stated) {
	w := o.a.env.stdout
	fmt.Fprintf(w, "%s: signature good, by key %s\n", o.path, s.Key)
	for _, x := range s.Warnings {
		fmt.Fprintf(w, "  warning: %s\n", x)
	}
	for _, sub := range s.Subjects {
		fmt.Fprintf(w, "  about %s sha256:%s\n", sub.Name, sub.SHA256)
	}
	lists := []struct {
		what string
		list []string
	}{
		{"passed", s.Passed}, {"undecided", s.Warned}, {"failed", s.Failed}, {"step", s.Steps}, {"read", s.Inputs},
		{"not signed, not checked", s.Ignored}, {"not listed, not checked", s.Unsigned},
	}
	for _, l := range lists {
		for _, x := range l.list {
			fmt.Fprintf(w, "  %s: %s\n", l.what, x)
		}
	}
	switch {
	case s.Checked == "":
		fmt.Fprintf(w, "  no file was compared; name it with --model\n")
	case o.v.Manifest() != nil:
		fmt.Fprintf(w, "  %s has the %s that it lists\n", s.Checked, plural(len(s.Files), "file", "files"))
	default:
		fmt.Fprintf(w, "  %s has these bytes\n", s.Checked)
	}
	o.hint(s)
}

// hint says what the evidence does not show, and how to check it without this program.
func (o otherEvidence) hint(s stated) {
	w := o.a.env.stdout
	artifact := o.model
	if artifact == "" {
		artifact = s.Subjects[0].Name
	}
	switch s.Predicate {
	case evidence.TestResultType:
		fmt.Fprintf(w, "it carries no numbers; verify %s for those\nverdict: %s\n", evidence.BundleFile, s.Verdict)
	case evidence.ProvenanceType:
		fmt.Fprintf(w, "it carries no numbers, and says what the model's own metadata says; verify %s for numbers\n", evidence.BundleFile)
	case attest.ModelPredicateType:
		fmt.Fprintf(w, "it says that these are the bytes that were signed, and nothing about how good they are\n")
		fmt.Fprintf(w, "check it without lapidary:\n  model_signing verify key %s --signature %s --public_key %s\n", filepath.Clean(artifact), o.path, o.key)
		return
	}
	fmt.Fprintf(w, "check it without lapidary:\n  cosign verify-blob-attestation --key %s --bundle %s --type %s --insecure-ignore-tlog %s\n",
		o.key, o.path, s.Predicate, artifact)
}
