package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/evidence"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/validate"
	"github.com/spf13/cobra"
)

// maxEvidence bounds what is read of an evidence file.
const maxEvidence = 64 << 20

// verified is the JSON document of verify.
type verified struct {
	Schema   string               `json:"schema"`
	Accepted bool                 `json:"accepted"`
	Verdict  report.Verdict       `json:"verdict"`
	Key      string               `json:"key"` // fingerprint of the key that signed
	Subjects []attest.Subject     `json:"subjects"`
	Checked  string               `json:"checked,omitempty"` // the model file whose bytes were compared
	Policy   *report.LockedPolicy `json:"policy,omitempty"`  // the locked policy that the report was judged under
	Demanded bool                 `json:"demanded"`          // whether that policy was demanded, with --policy
	Gates    []report.Gate        `json:"gates"`
}

// verifyFlags are the flags of verify that are its own.
type verifyFlags struct {
	keys         []string
	model        string
	inconclusive string
	redactKey    string
	other        otherFlags
	locked       policyFlags
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	gates := newGateFlags()
	c := &cobra.Command{
		Use:   "verify EVIDENCE --key PUB",
		Short: "Check a signed report: signature, model bytes, and every gate again",
		Long: `verify checks the signature of EVIDENCE (evidence.sigstore.json or
evidence.dsse.json) with the public key, compares the digests with the bytes of
--model and its external data, and evaluates the gates again on the signed
numbers. A report.json beside the evidence must be the signed one. Nothing touches
the network.

With --policy only evidence that was judged by exactly that locked policy is
accepted: its gates, on its data, with its seed, measured after it was signed.
Without, gates given here, by flag or in the configuration, are demanded in place of
those that were signed.

The other files that validate --sign writes can be verified too, by name or with
--type: a test result, provenance, a model signature (model.sig, also of a whole
folder), and evidence.jsonl with all of them. They carry no numbers. One is never
accepted in the place of another.`,
		Example: "  lapidary verify report/evidence.sigstore.json --key release.pub --model model.int8.onnx\n" +
			"  lapidary verify report/evidence.sigstore.json --key release.pub --model model.int8.onnx --policy locked.json --policy-key owner.pub\n" +
			"  lapidary verify report/model.sig --key release.pub --model model.int8.onnx",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkInconclusive(f.inconclusive); err != nil {
				return err
			}
			if err := f.other.check(); err != nil {
				return err
			}
			own, err := a.policy(gates)
			if err != nil {
				return err
			}
			return a.verify(c.Context(), args[0], nil, f, own)
		},
	}
	c.Flags().StringSliceVar(&f.keys, "key", nil, "public key `FILE` that may have signed; repeat for several")
	c.Flags().StringVar(&f.model, "model", "", "model file that the evidence must be about; for a model signature a file or folder")
	c.Flags().StringVar(&f.redactKey, "redact-key", "", "key `FILE` of a report with redacted names, for models with several data files")
	f.other.register(c)
	f.locked.register(c, "locked policy `FILE` by which the evidence must have been judged", "those of --key")
	registerInconclusive(c, &f.inconclusive)
	gates.register(c)
	return c
}

// verify checks the evidence in data, or where that is nil, in the file at path.
func (a *app) verify(ctx context.Context, path string, data []byte, f verifyFlags, own gate.Policy) error {
	if len(f.keys) == 0 {
		return usagef("no key to trust; name the public key with --key")
	}
	keys, err := publicKeys(f.keys)
	if err != nil {
		return err
	}
	locked, err := f.locked.read(keys)
	if err != nil {
		return err
	}
	if locked != nil {
		if err := locked.Asks(own); err != nil {
			return usageError{err}
		}
	}
	if data == nil {
		var err error
		if data, err = readfile.All(path, maxEvidence); err != nil {
			return err
		}
		if filepath.Ext(path) == linesExt {
			return a.verifyLines(path, data, keys, f.inconclusive, func(a *app, name string, line []byte) error {
				each := f
				each.other, each.inconclusive = f.other.anyType(), "fail"
				return a.verify(ctx, name, line, each, own)
			})
		}
	}
	v, err := attest.Verify(data, keys)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := f.other.expect(path, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if v.PredicateType() != report.PredicateType {
		if locked != nil {
			own = locked.Policy()
		}
		return otherEvidence{a, path, v, f.keys[0], f.model, f.other.unsigned}.verify(ctx, f.other.gates(own), f.inconclusive)
	}
	var outcome *gate.Outcome
	if locked != nil {
		outcome, err = gate.EvaluateUnder(v, locked)
	} else {
		outcome, err = gate.EvaluateVerified(v, own)
	}
	if err == nil {
		err = checkBeside(path, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if f.model != "" {
		if err := checkModel(ctx, v, f.model, f.redactKey); err != nil {
			return err
		}
	}
	a.judged(string(outcome.Verdict))
	if err := a.printVerified(path, v, outcome, f, locked != nil); err != nil {
		return err
	}
	return verdict(outcome.Verdict, f.inconclusive)
}

// checkModel compares the model file, and the external data that it reads itself,
// with the evidence. Links are refused: what they lead to can be changed after
// the check without a change in this folder.
func checkModel(ctx context.Context, v *attest.Verified, model, redactKey string) error {
	if err := refuseLink(model); err != nil {
		return err
	}
	if err := v.CheckFile(ctx, model); err != nil {
		return err
	}
	external, err := coveredBy(v, model)
	if err != nil {
		return err
	}
	for _, name := range external {
		if err := refuseLink(filepath.Join(filepath.Dir(model), filepath.FromSlash(name))); err != nil {
			return err
		}
	}
	if isRedacted(v) {
		key, err := readRedactKey(redactKey)
		if err != nil {
			return err
		}
		return checkRedacted(ctx, v, model, external, key)
	}
	return v.CheckFiles(ctx, model, external)
}

// coveredBy returns the external data that evidence about a model must cover. A model
// signature may be of any file, which is a model as sign told it: by its name.
func coveredBy(v *attest.Verified, model string) ([]string, error) {
	if v.Manifest() != nil && !strings.EqualFold(filepath.Ext(model), ".onnx") {
		return nil, nil
	}
	return validate.ExternalFiles(model)
}

func refuseLink(path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		return nil // whoever opens it says what is wrong
	}
	target, err := os.Readlink(path)
	if err != nil {
		target = "another file"
	}
	return &attest.RejectedError{Reason: attest.ReasonDigest, Detail: fmt.Sprintf("%s is a symbolic link to %s; name the file itself", path, target)}
}

// checkBeside holds a report.json that lies beside the evidence against the one
// that was signed: who reads the one must not be shown the other.
func checkBeside(evidence string, v *attest.Verified) error {
	path := filepath.Join(filepath.Dir(evidence), "report.json")
	data, err := readfile.All(path, maxEvidence)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimSpace(data), bytes.TrimSpace(v.Predicate())) {
		return &attest.RejectedError{Reason: attest.ReasonDigest, Detail: fmt.Sprintf("%s beside it is not the report that was signed", path)}
	}
	return nil
}

func (a *app) printVerified(path string, v *attest.Verified, o *gate.Outcome, f verifyFlags, demanded bool) error {
	var locked *report.LockedPolicy
	if o.Report.Policy != nil {
		locked = o.Report.Policy.Locked
	}
	if a.json() {
		return writeJSON(a.env.stdout, verified{schemaURI("verify-v1"), true, o.Verdict, v.Key().Fingerprint(), v.Subjects(), f.model, locked, demanded, o.Gates})
	}
	w := a.env.stdout
	fmt.Fprintf(w, "%s: signature good, by key %s\n", path, v.Key().Fingerprint())
	for _, s := range v.Subjects() {
		fmt.Fprintf(w, "  about %s sha256:%s\n", s.Name, s.SHA256)
	}
	model := f.model
	if model != "" {
		fmt.Fprintf(w, "  %s has these bytes\n", model)
	} else {
		fmt.Fprintf(w, "  no file was compared; name it with --model\n")
		model = o.Report.Candidate.Name
	}
	switch {
	case demanded:
		fmt.Fprintf(w, "  judged by the policy %s sha256:%s, registered %s, before the measurement\n", locked.Name, locked.SHA256, locked.Registered.Format(time.RFC3339))
	case locked != nil:
		fmt.Fprintf(w, "  it says that it was judged by the policy %s sha256:%s; demand that with --policy\n", locked.Name, locked.SHA256)
	}
	for _, g := range o.Gates {
		fmt.Fprintf(w, "  %-12s %s: %s\n", g.Verdict, g.Name, g.Reason)
	}
	fmt.Fprintf(w, "verdict: %s\n", o.Verdict)
	fmt.Fprintf(w, "check it without lapidary:\n  cosign verify-blob-attestation --key %s --bundle %s --type %s --insecure-ignore-tlog %s\n",
		quoted(f.keys[0]), quoted(path), report.PredicateType, quoted(model))
	if signature := filepath.Join(filepath.Dir(path), evidence.ModelFile); isThere(signature) {
		fmt.Fprintf(w, "  lapidary verify %s --key %s --model %s, which says how model_signing checks it\n", quoted(signature), quoted(f.keys[0]), quoted(model))
	}
	return nil
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// quoted returns s as one word for a POSIX shell.
func quoted(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/+=:@%,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
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
