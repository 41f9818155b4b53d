package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/evidence"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/spf13/cobra"
)

// reportFlags are the flags of report.
type reportFlags struct {
	out    string
	keys   []string
	model  string
	strict bool
}

func (a *app) reportCommand() *cobra.Command {
	var f reportFlags
	c := &cobra.Command{
		Use:   "report REPORT.json|EVIDENCE",
		Short: "Show a report, and write it in every form again",
		Long: `report reads a report.json, or the report inside signed evidence
(evidence.sigstore.json or evidence.dsse.json), prints it, and with -o writes
every form of it: HTML, Markdown, JUnit, SARIF, CSV, benchfmt and JSON. Evidence
is shown only after its signature was verified with --key. Every gate is
evaluated again: a report whose verdict does not follow from its numbers is
refused (exit code 5). The exit code says nothing of the verdict; verify does.`,
		Example: "  lapidary report report/evidence.sigstore.json --key release.pub --model model.int8.onnx -o committee",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.report(c.Context(), args[0], f)
		},
	}
	c.Flags().StringVarP(&f.out, "output", "o", "", "`FOLDER` to write every form into; default: only print")
	c.Flags().StringSliceVar(&f.keys, "key", nil, "public key `FILE` that may have signed the evidence; repeat for several")
	c.Flags().StringVar(&f.model, "model", "", "candidate's model file: its bytes must be what the report is about; SARIF then points to it")
	registerJUnitStrict(c, &f.strict)
	return c
}

func registerJUnitStrict(c *cobra.Command, strict *bool) {
	c.Flags().BoolVar(strict, "junit-strict", false, "in junit.xml, what could not be decided is a failure and not a skipped case")
}

func (a *app) report(ctx context.Context, path string, f reportFlags) error {
	input, err := readfile.All(path, maxEvidence)
	if err != nil {
		return err
	}
	r, data, err := readReport(path, input, f.keys)
	if err != nil {
		return err
	}
	if f.model != "" {
		if err := isCandidate(ctx, r, f.model); err != nil {
			return err
		}
	}
	if f.out != "" {
		if err := a.rewriteReport(path, r, data, f); err != nil {
			return err
		}
	}
	if a.json() {
		_, err := a.env.stdout.Write(data)
		return err
	}
	if _, err := a.env.stdout.Write(r.Text()); err != nil {
		return err
	}
	if f.out != "" {
		fmt.Fprintf(a.env.stdout, "report: %s\n", filepath.Join(f.out, "report.html"))
	}
	return nil
}

// rewriteReport writes the forms. A report that was signed stays beside its own evidence; evidence of another report is removed,
// so that it never lies beside this one.
func (a *app) rewriteReport(path string, r *report.Report, data []byte, f reportFlags) error {
	same, err := sameFolder(filepath.Dir(path), f.out)
	if err != nil {
		return err
	}
	if !same {
		if err := evidence.Remove(f.out); err != nil {
			return err
		}
	}
	o := reportOptions(f.model, f.strict)
	if report.IsRedacted(r.Candidate.Name) {
		o.Path = ""
	}
	return report.WriteAgain(f.out, r, data, o)
}

func sameFolder(a, b string) (bool, error) {
	one, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	two, err := os.Stat(b)
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil && os.SameFile(one, two), err
}

// readReport returns the report in a report.json or in evidence that one of the keys signed, with the bytes of its report.json.
func readReport(path string, input []byte, keyFiles []string) (*report.Report, []byte, error) {
	var head struct {
		Schema string `json:"schema"`
	}
	if json.Unmarshal(input, &head) == nil && head.Schema != "" {
		if len(keyFiles) > 0 {
			return nil, nil, usagef("--key: %s is a report and not signed; give the evidence that was made with it", path)
		}
		r, err := unsignedReport(input)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		return r, input, nil
	}
	if len(keyFiles) == 0 {
		return nil, nil, usagef("%s is not a report.json; where it is signed evidence, name the public key to trust with --key", path)
	}
	keys, err := publicKeys(keyFiles)
	if err != nil {
		return nil, nil, err
	}
	v, err := attest.Verify(input, keys)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	outcome, err := gate.EvaluateVerified(v, gate.Policy{})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	var data bytes.Buffer
	if err := json.Indent(&data, v.Predicate(), "", "  "); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	data.WriteByte('\n')
	return outcome.Report, data.Bytes(), nil
}

// unsignedReport reads a report.json and holds that its verdict follows from its numbers.
func unsignedReport(data []byte) (*report.Report, error) {
	r := new(report.Report)
	if err := attest.UnmarshalStrict(data, r, attest.JSONOptions{AllowUnknown: true}); err != nil {
		return nil, err
	}
	if err := r.CheckSchema(); err != nil {
		return nil, err
	}
	if err := gate.CheckRecorded(r); err != nil {
		return nil, err
	}
	return r, nil
}

// isCandidate returns an error where the model file and its external data are not the candidate of the report.
func isCandidate(ctx context.Context, r *report.Report, model string) error {
	var external []string
	want := map[string]string{filepath.Base(model): r.Candidate.SHA256}
	for _, f := range r.Candidate.External {
		external = append(external, f.Path)
		want[f.Path] = f.SHA256
	}
	files, err := attest.HashModel(ctx, model, external)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.SHA256 != want[f.Name] {
			return &attest.RejectedError{Reason: attest.ReasonDigest, Detail: fmt.Sprintf("%s has the digest %s, which is not that of the report's candidate", f.Name, f.SHA256)}
		}
	}
	return nil
}

// reportOptions chooses how the forms are written; SARIF names the model by its path from the root of the repository.
func reportOptions(model string, strict bool) report.Options {
	return report.Options{Strict: strict, Path: repositoryPath(model)}
}

// repositoryPath returns the path of a file from the root of the git repository that holds it, else from the current folder, with
// slashes; "" where it is in neither.
func repositoryPath(file string) string {
	if file == "" {
		return ""
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return ""
	}
	root, err := os.Getwd()
	if err != nil {
		return ""
	}
	for dir := filepath.Dir(abs); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
			root = dir
			break
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	rel, err := filepath.Rel(root, abs)
	if err != nil || !filepath.IsLocal(rel) {
		return ""
	}
	return filepath.ToSlash(rel)
}
