package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/spf13/cobra"
)

// maxPolicy bounds a policy file and a locked policy in bytes.
const maxPolicy = 1 << 20

// policyFile is the name of a locked policy in a report's folder.
const policyFile = "policy.dsse.json"

func (a *app) policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Sign what will be required before anything is measured",
		Long: `policy locks requirements to data and seed, and signs them, before a candidate is
measured, so that nobody can choose the limits after seeing the numbers. validate
--policy measures under a locked policy, and verify --policy accepts only evidence
that was judged by exactly that policy.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return usagef("policy does nothing by itself; use lock, show or verify")
		},
	}
	for _, sub := range []*cobra.Command{a.policyLock(), a.policyShow(), a.policyVerify()} {
		sub.Args = asUsage(sub.Args)
		c.AddCommand(sub)
	}
	return c
}

// lockFlags are the flags of policy lock.
type lockFlags struct {
	key, passphrase, output, baseline, expires string
}

func (a *app) policyLock() *cobra.Command {
	var f lockFlags
	var df dataFlags
	c := &cobra.Command{
		Use:   "lock POLICY.yaml --data DATA --key KEY -o LOCKED",
		Short: "Sign a policy for data and seed",
		Long: `lock reads gates, rules and requirements from POLICY.yaml, digests the data, and
writes them with the seed and the present time as a signed document. With --baseline
the model that candidates are compared with is fixed too, and the data is read as
that model's inputs.

POLICY.yaml has the keys name, gates and rules (as in lapidary.yaml), requires
(min-samples, min-pairs, devices, engines) and expires.`,
		Example: "  lapidary policy lock policy.yaml --data holdout.npz --seed 7 --key owner.key -o locked.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case df.spec == "":
				return usagef("no data to lock the policy to; name it with --data")
			case f.key == "":
				return usagef("no key to sign with; name the private key with --key")
			case f.output == "":
				return usagef("no output; name one with -o")
			}
			return a.lockPolicy(c.Context(), args[0], f, &df)
		},
	}
	p := c.Flags()
	p.StringVar(&f.key, "key", "", "sign the policy with "+signHelp)
	p.StringVar(&f.passphrase, "passphrase-file", "", "`FILE` whose first line is the passphrase of --key")
	p.StringVarP(&f.output, "output", "o", "", "`FILE` for the locked policy")
	p.StringVar(&f.baseline, "baseline", "", "model `FILE` that candidates must be compared with; default: any")
	p.StringVar(&f.expires, "expires", "", "day or time after which the policy is not to be used, as 2026-12-31; default: that of the file")
	df.register(c, "data that must be validated on")
	return c
}

func (a *app) lockPolicy(ctx context.Context, path string, f lockFlags, df *dataFlags) error {
	text, err := readfile.All(path, maxPolicy)
	if err != nil {
		return err
	}
	file, policy, err := gate.ParseFile(path, text)
	if err != nil {
		return usageError{err}
	}
	key, err := a.openSigner(ctx, f.key, f.passphrase)
	if err != nil {
		return err
	}
	defer key.Close()
	locked := &gate.Locked{
		Schema: gate.LockedSchemaURI, SchemaVersion: gate.LockedVersion, Name: file.Name, Gates: policy.Gates, Rules: policy.Rules,
		Seed: strconv.FormatUint(df.seed, 10), Requires: file.Requirements(),
		Registered: time.Now().UTC().Truncate(time.Millisecond), Tool: "lapidary " + version(),
	}
	if locked.Gates == nil {
		locked.Gates = []gate.Gate{}
	}
	if f.expires == "" {
		f.expires = file.Expires
	}
	if f.expires != "" {
		t, err := gate.ParseExpiry(f.expires)
		if err != nil {
			return usagef("the expiry of the policy: %w", err)
		}
		locked.Expires = &t
	}
	if locked.Data, err = lockData(ctx, df, f.baseline); err != nil {
		return err
	}
	if f.baseline != "" {
		files, err := attest.HashModel(ctx, f.baseline, nil)
		if err != nil {
			return err
		}
		locked.Baseline = &gate.ModelLock{Name: files[0].Name, SHA256: files[0].SHA256}
	}
	return a.writeLocked(ctx, locked, key, f.output)
}

// writeLocked signs, writes and prints the policy.
func (a *app) writeLocked(ctx context.Context, locked *gate.Locked, key attest.Signer, output string) error {
	statement, err := locked.Statement()
	if err != nil {
		return usageError{err}
	}
	evidence, err := attest.Sign(ctx, key, statement)
	if err != nil {
		return err
	}
	v, err := attest.Verify(evidence.Envelope, []attest.PublicKey{key.PublicKey()})
	if err != nil {
		return err
	}
	signed, err := gate.ReadLocked(v)
	if err != nil {
		return err
	}
	atomicfile.CleanStale(filepath.Dir(output)) // of a run that was killed
	if err := atomicfile.WriteFile(output, evidence.Envelope, 0o644); err != nil {
		return err
	}
	a.wrote(output)
	return a.printPolicy(output, signed)
}

// lockData digests the data as a report does: as the inputs of model, or by its
// own names and types where model is "".
func lockData(ctx context.Context, df *dataFlags, model string) (gate.DataLock, error) {
	var in, out []dataset.Port
	if model != "" {
		var err error
		if in, out, err = modelPorts(model); err != nil {
			return gate.DataLock{}, err
		}
	}
	o, err := df.options(in, out)
	if err != nil {
		return gate.DataLock{}, err
	}
	if kind, _, _ := strings.Cut(df.spec, ":"); kind == "synthetic" {
		return gate.DataLock{}, usagef("a policy is for data of your own; generated inputs say nothing about a candidate's quality")
	}
	set, err := dataset.Open(df.spec, o)
	if err != nil {
		return gate.DataLock{}, fmt.Errorf("--data %s: %w", df.spec, err)
	}
	defer set.Close()
	digest, err := set.Digest(ctx)
	if err != nil {
		return gate.DataLock{}, fmt.Errorf("--data %s: %w", df.spec, err)
	}
	name := filepath.Base(df.spec)
	if strings.Contains(df.spec, ",") {
		name = "a list of files"
	}
	return gate.DataLock{Name: name, Digest: digest, Samples: int(set.Len())}, nil
}

func (a *app) policyShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show LOCKED",
		Short: "Print what a locked policy says, without checking who signed it",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			signed, err := readUnverifiedPolicy(args[0])
			if err != nil {
				return err
			}
			a.warn("nobody's signature was checked; see policy verify")
			return a.printPolicy(args[0], signed)
		},
	}
}

func (a *app) policyVerify() *cobra.Command {
	var keys []string
	c := &cobra.Command{
		Use:     "verify LOCKED --key PUB",
		Short:   "Check who signed a policy, and that it can be used now",
		Example: "  lapidary policy verify locked.json --key owner.pub",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(keys) == 0 {
				return usagef("no key to trust; name the public key with --key")
			}
			trusted, err := publicKeys(keys)
			if err != nil {
				return err
			}
			signed, err := readPolicy(args[0], trusted)
			if err != nil {
				return err
			}
			return a.printPolicy(args[0], signed)
		},
	}
	c.Flags().StringSliceVar(&keys, "key", nil, "public key `FILE` that may have signed; repeat for several")
	return c
}

// publicKeys reads public keys.
func publicKeys(files []string) ([]attest.PublicKey, error) {
	var keys []attest.PublicKey
	for _, f := range files {
		k, err := attest.LoadPublicKey(f)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// readPolicy reads a locked policy that one of the keys signed and that can be
// used now.
func readPolicy(path string, keys []attest.PublicKey) (*gate.Signed, error) {
	data, err := readfile.All(path, maxPolicy)
	if err != nil {
		return nil, err
	}
	v, err := attest.Verify(data, keys)
	if err != nil {
		var rejected *attest.RejectedError
		if errors.As(err, &rejected) && rejected.Reason == attest.ReasonParse && filepath.Ext(path) != ".json" {
			return nil, fmt.Errorf("%s: %w; lock a policy file first, with lapidary policy lock", path, err)
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	signed, err := gate.ReadLocked(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := signed.Valid(time.Now()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signed, nil
}

// policyShown is the JSON document of the policy commands.
type policyShown struct {
	Schema string      `json:"schema"`
	File   string      `json:"file"`
	SHA256 string      `json:"sha256"`        // of the signed policy
	Key    string      `json:"key,omitempty"` // fingerprint of the key that signed; absent where nobody's signature was checked
	Policy gate.Locked `json:"policy"`
}

func (a *app) printPolicy(path string, s *gate.Signed) error {
	if a.json() {
		return writeJSON(a.env.stdout, policyShown{schemaURI("policy-shown-v1"), path, s.SHA256, s.Key, s.Locked})
	}
	w := a.env.stdout
	fmt.Fprintf(w, "%s: policy %s\n", path, s.Name)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("sha256", "%s", s.SHA256)
	if s.Key != "" {
		line("signed by", "%s", s.Key)
	}
	line("registered", "%s", s.Registered.Format(time.RFC3339))
	if s.Expires != nil {
		line("expires", "%s", s.Expires.Format(time.RFC3339))
	}
	line("data", "%s, %d samples, sha256:%s", s.Data.Name, s.Data.Samples, s.Data.Digest)
	line("seed", "%s", s.Seed)
	if s.Baseline != nil {
		line("baseline", "%s sha256:%s", s.Baseline.Name, s.Baseline.SHA256)
	}
	for _, text := range s.Requires.Texts() {
		line("requires", "%s", text)
	}
	for _, g := range s.Gates {
		line("gate", "%s: %s", g.Name, g)
	}
	for _, r := range s.Rules {
		line("rule", "%s: %s", r.Name, strings.Join(strings.Fields(r.CEL), " "))
	}
	return nil
}

// readUnverifiedPolicy reads a locked policy whoever signed it.
func readUnverifiedPolicy(path string) (*gate.Signed, error) {
	data, err := readfile.All(path, maxPolicy)
	if err != nil {
		return nil, err
	}
	statement, err := attest.Inspect(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	signed, err := gate.Unverified(statement)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signed, nil
}

// policyFlags name the locked policy that something is held against.
type policyFlags struct {
	file string
	keys []string
}

func (f *policyFlags) register(c *cobra.Command, usage, keyDefault string) {
	c.Flags().StringVar(&f.file, "policy", "", usage)
	c.Flags().StringSliceVar(&f.keys, "policy-key", nil, "public key `FILE` that may have signed the policy; default: "+keyDefault)
}

// read returns the locked policy; nil where none was named. The keys are those to
// trust where --policy-key names none.
func (f *policyFlags) read(keys []attest.PublicKey) (*gate.Signed, error) {
	if f.file == "" {
		if len(f.keys) > 0 {
			return nil, usagef("--policy-key is for --policy, which was not given")
		}
		return nil, nil
	}
	if len(f.keys) > 0 {
		var err error
		if keys, err = publicKeys(f.keys); err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return nil, usagef("no key to trust for %s; name the public key that signed it with --policy-key", f.file)
	}
	return readPolicy(f.file, keys)
}

// bind holds a validation against a locked policy before anything is measured:
// gates and seed that were asked for, the baseline, the data.
func (f *policyFlags) bind(ctx context.Context, s *gate.Signed, own gate.Policy, baseline string, df *dataFlags, seedGiven bool) error {
	if err := s.Asks(own); err != nil {
		return usageError{err}
	}
	seed, err := strconv.ParseUint(s.Seed, 10, 64)
	if err != nil {
		return err
	}
	if (seedGiven || df.seed != defaultSeed) && df.seed != seed {
		return usagef("--seed %d: the policy %q is locked with the seed %s; leave the flag out", df.seed, s.Name, s.Seed)
	}
	df.seed = seed
	if s.Baseline != nil {
		files, err := attest.HashModel(ctx, baseline, nil)
		if err != nil {
			return err
		}
		if files[0].SHA256 != s.Baseline.SHA256 {
			return gate.Refuse("the policy %q is for the baseline %s (sha256 %s), and %s has the SHA-256 %s", s.Name, s.Baseline.Name, s.Baseline.SHA256, baseline, files[0].SHA256)
		}
	}
	data, err := lockData(ctx, df, baseline)
	if err != nil {
		return err
	}
	if data.Digest != s.Data.Digest {
		return gate.Refuse("the policy %q is for the data %s (%d samples, sha256 %s), and --data %s has %d samples and the SHA-256 %s",
			s.Name, s.Data.Name, s.Data.Samples, s.Data.Digest, df.spec, data.Samples, data.Digest)
	}
	return nil
}

// copyPolicy puts the locked policy beside the report that it judged.
func (f *policyFlags) copyPolicy(dir string) error {
	if f.file == "" {
		return nil
	}
	data, err := readfile.All(f.file, maxPolicy)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir, policyFile), data, 0o666)
}
