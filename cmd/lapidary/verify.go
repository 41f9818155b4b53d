package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/spf13/cobra"
)

// maxEvidence bounds what is read of an evidence file.
const maxEvidence = 64 << 20

// verified is the JSON document of verify.
type verified struct {
	Schema   string           `json:"schema"`
	Accepted bool             `json:"accepted"`
	Verdict  report.Verdict   `json:"verdict"`
	Key      string           `json:"key"` // fingerprint of the key that signed
	Subjects []attest.Subject `json:"subjects"`
	Checked  string           `json:"checked,omitempty"` // the model file whose bytes were compared
	Gates    []report.Gate    `json:"gates"`
}

func (a *app) verifyCommand() *cobra.Command {
	var keys []string
	var model, inconclusive string
	var other otherFlags
	gates := newGateFlags()
	c := &cobra.Command{
		Use:   "verify EVIDENCE --key PUB",
		Short: "Check a signed report: signature, model bytes, and every gate again",
		Long: `verify checks the signature of EVIDENCE (evidence.sigstore.json or
evidence.dsse.json) with the public key, compares the digests with the bytes of
--model and its external data, and evaluates the gates again on the signed
numbers. Gates given here, by flag or in the configuration, are demanded in
place of those that were signed. Nothing touches the network.

The other files that validate --sign writes can be verified too, by name or with
--type: a test result, provenance, a model signature (model.sig, also of a whole
folder), and evidence.jsonl with all of them. They carry no numbers. One is never
accepted in the place of another.`,
		Example: "  lapidary verify report/evidence.sigstore.json --key release.pub --model model.int8.onnx\n" +
			"  lapidary verify model.sig --key release.pub --model models/resnet",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkInconclusive(inconclusive); err != nil {
				return err
			}
			if err := other.check(); err != nil {
				return err
			}
			own, err := a.policy(gates)
			if err != nil {
				return err
			}
			return a.verify(c.Context(), args[0], nil, keys, model, other, own, inconclusive)
		},
	}
	c.Flags().StringSliceVar(&keys, "key", nil, "public key `FILE` that may have signed; repeat for several")
	c.Flags().StringVar(&model, "model", "", "model file that the evidence must be about; for a model signature a file or folder")
	other.register(c)
	registerInconclusive(c, &inconclusive)
	gates.register(c)
	return c
}

// verify checks the evidence in data, or where that is nil, in the file at path.
func (a *app) verify(ctx context.Context, path string, data []byte, keyFiles []string, model string, other otherFlags, own gate.Policy, inconclusive string) error {
	if len(keyFiles) == 0 {
		return usagef("no key to trust; name the public key with --key")
	}
	var keys []attest.PublicKey
	for _, f := range keyFiles {
		k, err := attest.LoadPublicKey(f)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	if data == nil {
		var err error
		if data, err = readLimited(path, maxEvidence); err != nil {
			return err
		}
		if filepath.Ext(path) == linesExt {
			return a.verifyLines(path, data, keys, inconclusive, func(a *app, name string, line []byte) error {
				return a.verify(ctx, name, line, keyFiles, model, other.anyType(), own, "fail")
			})
		}
	}
	v, err := attest.Verify(data, keys)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := other.expect(path, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if v.PredicateType() != report.PredicateType {
		return otherEvidence{a, path, v, keyFiles[0], model, other.unsigned}.verify(ctx, other.gates(own), inconclusive)
	}
	outcome, err := gate.EvaluateVerified(v, own)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if model != "" {
		if err := checkModel(ctx, v, outcome.Report, model); err != nil {
			return err
		}
	}
	if err := a.printVerified(path, v, outcome, keyFiles[0], model); err != nil {
		return err
	}
	return verdict(outcome.Verdict, inconclusive)
}

// checkModel compares the model file and its external data with the evidence.
func checkModel(ctx context.Context, v *attest.Verified, r *report.Report, model string) error {
	var external []string
	for _, f := range r.Candidate.External {
		external = append(external, f.Path)
	}
	return v.CheckFiles(ctx, model, external)
}

func (a *app) printVerified(path string, v *attest.Verified, o *gate.Outcome, key, model string) error {
	if a.json() {
		return writeJSON(a.env.stdout, verified{schemaURI("verify-v1"), true, o.Verdict, v.Key().Fingerprint(), v.Subjects(), model, o.Gates})
	}
	w := a.env.stdout
	fmt.Fprintf(w, "%s: signature good, by key %s\n", path, v.Key().Fingerprint())
	for _, s := range v.Subjects() {
		fmt.Fprintf(w, "  about %s sha256:%s\n", s.Name, s.SHA256)
	}
	if model != "" {
		fmt.Fprintf(w, "  %s has these bytes\n", model)
	} else {
		fmt.Fprintf(w, "  no file was compared; name it with --model\n")
	}
	for _, g := range o.Gates {
		fmt.Fprintf(w, "  %-12s %s: %s\n", g.Verdict, g.Name, g.Reason)
	}
	fmt.Fprintf(w, "verdict: %s\n", o.Verdict)
	if model == "" {
		model = o.Report.Candidate.Name
	}
	fmt.Fprintf(w, "check it without lapidary:\n  cosign verify-blob-attestation --key %s --bundle %s --type %s --insecure-ignore-tlog %s\n",
		key, path, report.PredicateType, model)
	return nil
}

// verdict turns a verdict into the error that gives the exit code.
func verdict(v report.Verdict, inconclusive string) error {
	if v == report.Pass || v == report.Inconclusive && inconclusive == "pass" {
		return nil
	}
	return verdictError{v}
}

func registerInconclusive(c *cobra.Command, v *string) {
	c.Flags().StringVar(v, "inconclusive", "fail", "what too weak evidence means: fail (exit code 4) or pass")
}

func checkInconclusive(v string) error {
	if v != "fail" && v != "pass" {
		return usagef("--inconclusive %q is unknown; want fail or pass", v)
	}
	return nil
}

// readLimited reads a regular file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", path, rootCause(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("reading %s: not a regular file", path)
	case info.Size() > limit:
		return nil, fmt.Errorf("reading %s: %d bytes are more than the %d that such a file may have", path, info.Size(), limit)
	}
	return os.ReadFile(filepath.Clean(path))
}
