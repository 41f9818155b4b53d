package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

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
explanations by the same perturbations, and judges the result by gates.

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
	if vf.sign != "" { // before hours of measuring
		key, err := a.openSigner(ctx, vf.sign, vf.passphrase)
		if err != nil {
			return err
		}
		defer key.Close()
		signer = key
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
	if len(policy.Gates) == 0 {
		policy = gate.Default(r)
	}
	if err := gate.Apply(r, policy); err != nil {
		return err
	}
	if err := a.deliver(ctx, r, vf, signer, candidate); err != nil {
		return err
	}
	return verdict(r.Verdict, vf.inconclusive)
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
	return strings.Join(append(out, step(c, "sign", "passphrase-file", "report").Options...), " ")
}

// deliver writes, signs and prints the report.
func (a *app) deliver(ctx context.Context, r *report.Report, vf validateFlags, signer attest.Signer, candidate string) error {
	if vf.report != "" {
		if err := evidence.Remove(vf.report); err != nil {
			return err
		}
		data, err := report.Write(vf.report, r, reportOptions(candidate, vf.strict))
		if err != nil {
			return err
		}
		if signer != nil {
			if err := signReport(ctx, vf.report, data, r, signer, candidate); err != nil {
				return err
			}
		}
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

// signReport signs the bytes of report.json for the candidate's files, which
// must still be what was measured.
func signReport(ctx context.Context, dir string, data []byte, r *report.Report, signer attest.Signer, candidate string) error {
	var external []string
	for _, f := range r.Candidate.External {
		external = append(external, f.Path)
	}
	files, err := attest.HashModel(ctx, candidate, external)
	if err != nil {
		return err
	}
	if files[0].SHA256 != r.Candidate.SHA256 {
		return fmt.Errorf("%s changed while it was validated; nothing is signed", candidate)
	}
	signed, err := evidence.Sign(ctx, signer, r, data, files)
	if err != nil {
		return err
	}
	return evidence.Write(dir, signed)
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
