package main

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
	"github.com/spf13/cobra"
)

func (a *app) runtimeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "runtime",
		Short: "Find, install and verify the ONNX Runtime library",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return usagef("runtime does nothing by itself; use list, which, install or verify")
		},
	}
	for _, sub := range []*cobra.Command{a.runtimeList(), a.runtimeWhich(), a.runtimeInstall(), a.runtimeVerify()} {
		sub.Args = asUsage(sub.Args)
		c.AddCommand(sub)
	}
	return c
}

// libraryFlag adds --ort-lib.
func libraryFlag(c *cobra.Command) *string {
	return c.Flags().String("ort-lib", "", "ONNX Runtime shared library to use (also LAPIDARY_ORT_LIB)")
}

func (a *app) runtimeList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List every library found, in the order of preference", Args: cobra.NoArgs}
	lib := libraryFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		found, err := ortlib.List(c.Context(), a.search(*lib))
		if err != nil {
			return err
		}
		if a.json() {
			return writeJSON(a.env.stdout, struct {
				Schema     string             `json:"schema"`
				Candidates []ortlib.Candidate `json:"candidates"`
			}{schemaURI("runtime-list-v1"), found})
		}
		for _, f := range found {
			mark := " "
			if f.Usable {
				mark = "*"
			}
			fmt.Fprintf(a.env.stdout, "%s %s\n", mark, f)
		}
		return nil
	}
	return c
}

func (a *app) runtimeWhich() *cobra.Command {
	c := &cobra.Command{Use: "which", Short: "Print the library that would be used, and why", Args: cobra.NoArgs}
	lib := libraryFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		choice, err := ortlib.Which(c.Context(), a.search(*lib))
		if err != nil {
			return err
		}
		if a.json() {
			return writeJSON(a.env.stdout, struct {
				Schema string `json:"schema"`
				*ortlib.Choice
			}{schemaURI("runtime-which-v1"), choice})
		}
		fmt.Fprintln(a.env.stdout, choice.Candidate)
		if a.verbose {
			for _, p := range choice.Passed {
				fmt.Fprintf(a.env.stdout, "  passed over %s\n", p)
			}
		}
		return nil
	}
	return c
}

func (a *app) runtimeInstall() *cobra.Command {
	o := ortlib.Options{}
	var channel string
	c := &cobra.Command{
		Use:   "install",
		Short: "Put ONNX Runtime " + ortlib.Version + " into the user's cache",
		Long: `install obtains ONNX Runtime through the npm or pip client of this machine,
whichever is there, or from an archive that you name with its digest. What is
installed has a SHA-256 that is pinned here or given by you.`,
		Example: "  lapidary runtime install\n  lapidary runtime install --from onnxruntime-linux-x64-gpu.tgz --sha256 3f…",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Channel = ortlib.Channel(channel)
			return a.install(c.Context(), o)
		},
	}
	p := c.Flags()
	p.StringVar(&channel, "channel", "", "npm, pip or module; default: the first that works")
	p.StringVar(&o.From, "from", "", "archive or library to install: a `FILE` or URL; needs --sha256")
	p.StringVar(&o.SHA256, "sha256", "", "digest of --from, or of the library where none is pinned")
	p.StringVar(&o.Version, "version", "", "version to install; default: "+ortlib.Version)
	p.StringVar(&o.Variant, "variant", "", "name of the build, such as cuda12; default: the CPU build")
	p.BoolVar(&o.Force, "force", false, "install again where it is there already")
	return c
}

func (a *app) install(ctx context.Context, o ortlib.Options) error {
	s := a.spin()
	defer s.finish()
	o.Env = a.libraryEnv()
	o.Progress = func(p ortlib.Progress) { s.stage("installing ONNX Runtime: " + p.Stage) }
	r, err := ortlib.Install(ctx, o)
	s.finish()
	if err != nil {
		return err
	}
	for _, n := range r.Notes {
		a.note("%s", n)
	}
	if a.json() {
		return writeJSON(a.env.stdout, struct {
			Schema string `json:"schema"`
			*ortlib.Result
		}{schemaURI("runtime-install-v1"), r})
	}
	what := "installed"
	if r.Already {
		what = "already installed, and verified"
	}
	fmt.Fprintf(a.env.stdout, "%s: %s\n", what, r.Library)
	return nil
}

func (a *app) runtimeVerify() *cobra.Command {
	c := &cobra.Command{Use: "verify", Short: "Hash the library again and compare it with what was installed and pinned", Args: cobra.NoArgs}
	lib := libraryFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		choice, err := ortlib.Which(c.Context(), a.search(*lib))
		if err != nil {
			return err
		}
		v, err := ortlib.Verify(c.Context(), choice.Path)
		if err != nil {
			return err
		}
		if a.json() {
			err = writeJSON(a.env.stdout, struct {
				Schema string `json:"schema"`
				*ortlib.Verification
			}{schemaURI("runtime-verify-v1"), v})
		} else {
			fmt.Fprintf(a.env.stdout, "%s\n", choice.Candidate)
			for _, p := range v.Problems {
				fmt.Fprintf(a.env.stdout, "  %s\n", p)
			}
			if v.OK() {
				fmt.Fprintln(a.env.stdout, "  verified")
			}
		}
		if err == nil && !v.OK() {
			err = fmt.Errorf("%s does not verify; install it again with --force", choice.Path)
		}
		return err
	}
	return c
}
