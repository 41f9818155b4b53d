package main

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// app is one invocation of the program.
type app struct {
	env *env

	config      string
	format      string
	progress    string
	quiet       bool
	verbose     bool
	gates       map[string]any // the gates section of the configuration file
	rules       []any          // its rules section
	gatesFrom   string         // the file that both were read from
	auditLog    string         // file of the audit log, "" for none
	scratch     *scratch       // for temporary files; nil where there is none
	record      *record        // of the command that runs, nil where it is not logged
	jsonFailure bool           // the command prints JSON, also where it fails
	engines     map[engineFlags]*engine
}

// run executes one command line and returns its exit code. No panic leaves it.
func run(ctx context.Context, args []string, e *env) int {
	return (&app{env: e}).run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) (status int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(a.env.stderr, "lapidary: error: internal fault: %v; please report it with this trace:\n%s", r, debug.Stack())
			status = exitFailed
		}
	}()
	defer func() { a.scratch.close() }()
	root := a.root()
	root.SetArgs(args)
	err := a.endRecord(ctx, execute(ctx, root))
	if err != nil {
		complain(a, err)
	}
	return exitCode(err)
}

// execute runs the command. A mapped file that is cut off while it is read is an error like any other.
func execute(ctx context.Context, root *cobra.Command) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if err = onnxfile.Fault(r); err == nil {
				panic(r)
			}
		}
	}()
	return root.ExecuteContext(ctx)
}

// What the linker writes into the builds of a release, in which the compiler records no checkout: the version, and the commit, with
// -dirty behind it where files differed.
var released, releasedCommit string

// version returns the program's version as the build recorded it.
func version() string {
	if released != "" {
		return released
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lapidary",
		Short: "Make ONNX models smaller and faster, and prove what that cost",
		Long: `lapidary profiles an ONNX model, rewrites it (fuse, prune, quantize), runs original
and result side by side, and writes a signed report of the differences in
accuracy, latency and explanations.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 a gate failed,
4 the evidence is too weak to decide, 5 evidence rejected.`,
		Version:           version(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.configure,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q; see: lapidary --help", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(a.env.stdout)
	root.SetErr(a.env.stderr)
	root.SetIn(a.env.stdin)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see: %s --help", err, c.CommandPath())
	})
	p := root.PersistentFlags()
	p.StringVar(&a.config, "config", "", "configuration `FILE`; default: lapidary.yaml in the current folder, if there")
	p.StringVar(&a.format, "format", "text", "how to print the result: text or json")
	p.StringVar(&a.progress, "progress", "auto", "progress on stderr: auto (only on a terminal) or never")
	p.StringVar(&a.auditLog, "audit-log", "", "`FILE` to append a line to about every command that writes or judges; see lapidary audit")
	p.BoolVarP(&a.quiet, "quiet", "q", false, "print no messages but errors")
	p.BoolVarP(&a.verbose, "verbose", "v", false, "print more: notices, and the reasons of what was left alone")
	for _, c := range a.commands() {
		if c.Args == nil {
			c.Args = cobra.NoArgs
		}
		c.Args = asUsage(c.Args)
		root.AddCommand(c)
	}
	complete(root)
	return root
}

// commands lists every command.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.profileCommand(),
		a.fuseCommand(),
		a.pruneCommand(),
		a.quantizeCommand(),
		a.validateCommand(),
		a.verifyCommand(),
		a.policyCommand(),
		a.auditCommand(),
		a.signCommand(),
		a.reportCommand(),
		a.keygenCommand(),
		a.diffCommand(),
		a.bisectCommand(),
		a.runtimeCommand(),
		a.doctorCommand(),
		a.versionCommand(),
		a.docsCommand(),
	}
}

// asUsage makes a wrong number of arguments an error of usage.
func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usagef("%s: %w; see: %s --help", c.CommandPath(), err, c.CommandPath())
		}
		return nil
	}
}

// json reports whether the result is to be printed as JSON.
func (a *app) json() bool { return a.format == "json" }

// note prints a message for the user, unless it asked for quiet.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.env.stderr, "lapidary: "+format+"\n", args...)
	}
}

func (a *app) warn(format string, args ...any) { a.note("warning: "+format, args...) }
