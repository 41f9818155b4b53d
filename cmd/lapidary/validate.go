package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/evidence"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/validate"
	"github.com/spf13/cobra"
)

// validateFlags are the flags of validate that are its own.
type validateFlags struct {
	report       string
	sign         string
	passphrase   string
	inconclusive string
	calibration  []string
	overlap      bool
	ex           explainFlags
	noAccuracy   bool // asked for by no flag: a self-test alone is about latency
	noLatency    bool
	noExplain    bool
	budget       time.Duration
	processes    int
	samples      bool
	locked       policyFlags
	redact       redactFlags
	redactKey    []byte // of this report; nil where nothing is redacted
	strict       bool
}

func (f *validateFlags) register(c *cobra.Command) {
	p := c.Flags()
	p.StringVar(&f.report, "report", "", "folder to write the report into, in every form")
	p.StringVar(&f.sign, "sign", "", "sign the report, as evidence.*, and the model, as model.sig, with "+signHelp)
	p.StringVar(&f.passphrase, "passphrase-file", "", "`FILE` whose first line is the passphrase or PIN of --sign")
	p.StringSliceVar(&f.calibration, "calibration-data", nil, "data that the candidate was calibrated on, which must not overlap with --data")
	p.BoolVar(&f.overlap, "allow-overlap", false, "report samples that are calibration data instead of refusing them")
	p.BoolVar(&f.noLatency, "no-latency", false, "measure no latency")
	p.BoolVar(&f.noExplain, "no-explain", false, "compare no explanations")
	p.DurationVar(&f.budget, "latency-budget", 30*time.Second, "most time to spend on latency")
	p.IntVar(&f.processes, "processes", 0, "most pairs of fresh processes to measure in; 0: as the noise asks for")
	p.BoolVar(&f.samples, "include-samples", false, "let attribution maps of single samples into the report")
	f.redact.register(c)
	f.locked.register(c, "locked policy `FILE` (see lapidary policy lock): its gates on its data with its seed, and no others", "that of --sign")
	f.ex.register(c)
	registerJUnitStrict(c, &f.strict)
	registerInconclusive(c, &f.inconclusive)
}

func (a *app) validateCommand() *cobra.Command {
	var vf validateFlags
	var af accuracyFlags
	var lf latencyFlags
	var ef engineFlags
	var df dataFlags
	gates := newGateFlags()
	c := &cobra.Command{
		Use:   "validate BASELINE [CANDIDATE] --data DATA",
		Short: "Compare two models on real data, and sign what was found",
		Long: `validate runs baseline and candidate over the same samples. It compares accuracy
sample by sample, latency in randomly interleaved pairs in fresh processes, and
explanations by the same perturbations, and judges the result by gates:
of flags, of the configuration, or of a locked policy.

With --self-test it also times the baseline against a byte copy of itself: how
often this machine finds a difference where there is none, and how large one has
to be. The report states both, and so do later ones about the same baseline. With
--self-test and no candidate, that is all that is done.

Methods of --explain-method, of which gates judge the first:
` + methodList(),
		Example: `  lapidary validate model.onnx model.int8.onnx --data holdout.npz --max-drop 0.5pt --report report --sign release.key
  lapidary validate model.onnx --data holdout.npz --self-test`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkInconclusive(vf.inconclusive); err != nil {
				return err
			}
			if df.spec == "" {
				return usagef("no data; name some with --data, or ask for --data synthetic")
			}
			if vf.sign != "" && vf.report == "" {
				return usagef("--sign needs --report, the folder that evidence is written into")
			}
			policy, err := a.policy(gates)
			if err == nil {
				policy, err = withPreset(af.preset, policy)
			}
			if err != nil {
				return err
			}
			if len(args) == 1 {
				if args, policy, err = lf.alone(args[0], &vf, policy); err != nil {
					return err
				}
			}
			return a.validate(c, args[0], args[1], vf, af, lf, ef, &df, policy)
		},
	}
	vf.register(c)
	af.register(c)
	lf.register(c)
	ef.register(c)
	df.register(c, "data to compare on")
	gates.register(c)
	return c
}

func (a *app) validate(c *cobra.Command, baseline, candidate string, vf validateFlags, af accuracyFlags, lf latencyFlags, ef engineFlags, df *dataFlags, policy gate.Policy) error {
	ctx := c.Context()
	var signer attest.Signer
	var keys []attest.PublicKey
	if vf.sign != "" { // before hours of measuring
		key, err := a.openSigner(ctx, vf.sign, vf.passphrase)
		if err != nil {
			return err
		}
		defer key.Close()
		signer, keys = key, []attest.PublicKey{key.PublicKey()}
	}
	locked, err := vf.locked.read(keys)
	if err != nil {
		return err
	}
	if locked != nil {
		if err := vf.locked.bind(ctx, locked, policy, baseline, df, c.Flags().Changed("seed")); err != nil {
			return err
		}
		policy = locked.Policy()
	}
	o, err := a.validation(ctx, baseline, candidate, vf, ef, df)
	if err != nil {
		return err
	}
	if err := af.apply(&o); err != nil {
		return err
	}
	if err := lf.apply(&o, policy); err != nil {
		return err
	}
	o.CacheDir = a.env.cacheDir
	if vf.redactKey, err = vf.redact.newKey(); err != nil {
		return err
	}
	o.Tool.Command = commandLine(c, baseline, candidate)
	o.Margin = margin(policy)
	s := a.spin()
	defer s.finish()
	o.Progress = func(stage string, done, total int64) {
		if total > 0 {
			stage = fmt.Sprintf("%s %d/%d", stage, done, total)
		}
		s.stage(stage)
	}
	r, err := validate.Run(ctx, o)
	s.finish()
	if err != nil {
		return err
	}
	if err := vf.redact.redact(r, vf.redactKey, df.spec, baseline, candidate); err != nil {
		return err
	}
	if err := judge(r, policy, locked); err != nil {
		return err
	}
	a.judged(string(r.Verdict))
	if err := a.deliver(ctx, r, vf, signer, candidate); err != nil {
		return err
	}
	return verdict(r.Verdict, vf.inconclusive)
}

// judge evaluates the gates; under a locked policy only where the report is what
// that is for.
func judge(r *report.Report, policy gate.Policy, locked *gate.Signed) error {
	if locked != nil {
		if err := locked.Covers(r); err != nil {
			return err
		}
		r.Policy = &report.Policy{Locked: locked.Reference()}
	}
	if policy.Empty() {
		policy = gate.Default(r)
	}
	return gate.Apply(r, policy)
}

// validation turns the flags into what to measure.
func (a *app) validation(ctx context.Context, baseline, candidate string, vf validateFlags, ef engineFlags, df *dataFlags) (validate.Options, error) {
	var o validate.Options
	data, err := df.options(nil, nil)
	if err != nil {
		return o, err
	}
	e, err := a.engine(ctx, ef)
	if err != nil {
		return o, err
	}
	ex, err := vf.ex.options(vf.noExplain)
	if err != nil {
		return o, usageError{err}
	}
	return validate.Options{
		Baseline: baseline, Candidate: candidate,
		Open: e.open, Info: e.info, Session: e.options, Machine: e.machine, Choice: e.choice,
		Data: df.spec, Dataset: data, Batch: df.batch,
		Calibration: vf.calibration, AllowOverlap: vf.overlap,
		Accuracy: validate.Accuracy{Off: vf.noAccuracy},
		Latency:  validate.Latency{Off: vf.noLatency, Budget: vf.budget, MaxProcesses: vf.processes},
		Explain:  ex, Notice: func(text string) { a.note("%s", text) },
		Seed: df.seed, IncludeSamples: vf.samples,
		Tool: report.Tool{Name: "lapidary", Version: version(), SHA256: a.ownDigest(ctx)},
	}, nil
}

// ownDigest returns the digest of this program, "" where it cannot be read.
func (a *app) ownDigest(ctx context.Context) string {
	files, err := attest.HashModel(ctx, a.env.self, nil)
	if err != nil {
		return ""
	}
	return files[0].SHA256
}

// commandLine writes the command line as it was given, without folders and
// secrets, for the report.
func commandLine(c *cobra.Command, args ...string) string {
	out := []string{"lapidary", c.Name()}
	for _, a := range args {
		out = append(out, filepath.Base(a))
	}
	return strings.Join(append(out, step(c, "sign", "passphrase-file", "report", "policy", "policy-key", "redact-key", "calibration-data").Options...), " ")
}

// deliver writes, signs and prints the report.
func (a *app) deliver(ctx context.Context, r *report.Report, vf validateFlags, signer attest.Signer, candidate string) error {
	if vf.report != "" {
		atomicfile.CleanStale(vf.report) // of a run that was killed
		if err := removeEvidence(vf.report); err != nil {
			return err
		}
		data, err := report.Write(vf.report, r, vf.options(candidate))
		if err != nil {
			return err
		}
		if vf.redactKey == nil { // it names the data
			if err := vf.locked.copyPolicy(vf.report); err != nil {
				return err
			}
		}
		if signer != nil {
			if err := a.signReport(ctx, vf, data, r, signer, candidate); err != nil {
				return err
			}
		}
	}
	if vf.report != "" {
		a.wrote(reportFiles(vf.report)...)
	}
	if a.json() {
		data, err := r.JSON()
		if err != nil {
			return err
		}
		_, err = a.env.stdout.Write(data)
		return err
	}
	if _, err := a.env.stdout.Write(r.Text()); err != nil {
		return err
	}
	if vf.report != "" {
		fmt.Fprintf(a.env.stdout, "report: %s\n", filepath.Join(vf.report, "report.html"))
	}
	return nil
}

// reportFiles returns what validate writes into the report's folder.
func reportFiles(dir string) []string {
	var out []string
	for _, f := range report.Formats() {
		out = append(out, filepath.Join(dir, f.File))
	}
	return append(out, filepath.Join(dir, policyFile))
}

// signReport signs the bytes of report.json for the candidate's files, which
// must still be what was measured.
func (a *app) signReport(ctx context.Context, vf validateFlags, data []byte, r *report.Report, signer attest.Signer, candidate string) error {
	external, err := validate.ExternalFiles(candidate)
	if err != nil {
		return err
	}
	files, err := attest.HashModel(ctx, candidate, external)
	if err != nil {
		return err
	}
	if !measuredFiles(files, r.Candidate) {
		return fmt.Errorf("%s changed while it was validated; nothing is signed", candidate)
	}
	redactSubjects(vf.redactKey, files)
	signed, err := evidence.Sign(ctx, signer, r, data, files)
	if err != nil {
		return err
	}
	for _, f := range signed {
		a.wrote(filepath.Join(vf.report, f.Name))
	}
	return evidence.Write(vf.report, signed)
}

// measuredFiles reports whether the files are those of the report, by content.
func measuredFiles(files []attest.Subject, m report.Model) bool {
	want := []string{m.SHA256}
	for _, f := range m.External {
		want = append(want, f.SHA256)
	}
	var have []string
	for _, f := range files {
		have = append(have, f.SHA256)
	}
	slices.Sort(want)
	slices.Sort(have)
	return slices.Equal(want, have)
}

// margin returns the loss of accuracy that policy accepts, so that the report
// says how many samples a decision about it takes; 0 where it has no such gate.
func margin(policy gate.Policy) float64 {
	for _, g := range policy.Gates {
		if g.Metric == "accuracy.drop" && g.Threshold > 0 && g.Threshold < 1 {
			return g.Threshold
		}
	}
	return 0
}

// removeEvidence takes evidence and policy of an earlier run out of dir, so that a
// report never lies beside those of another.
func removeEvidence(dir string) error {
	if err := atomicfile.Remove(filepath.Join(dir, policyFile)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("removing an old policy: %w", err)
	}
	return evidence.Remove(dir)
}

// options returns how the report is written; without the candidate's path where names are redacted.
func (f *validateFlags) options(candidate string) report.Options {
	o := reportOptions(candidate, f.strict)
	if f.redactKey != nil {
		o.Path = ""
	}
	return o
}
