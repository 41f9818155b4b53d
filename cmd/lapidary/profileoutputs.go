package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/profile"
	"github.com/spf13/pflag"
)

// profileOutputs are the files that a profile is written to beside stdout.
type profileOutputs struct{ html, trace, bench, prometheus string }

func (o *profileOutputs) register(p *pflag.FlagSet) {
	p.StringVar(&o.html, "html", "", "also write one HTML `FILE` that needs nothing else")
	p.StringVar(&o.trace, "trace", "", "also write a trace `FILE` for ui.perfetto.dev or chrome://tracing")
	p.StringVar(&o.bench, "bench", "", "also write the runs to a `FILE` that benchstat reads")
	p.StringVar(&o.prometheus, "prometheus", "", "also write a `FILE` in Prometheus' text format")
}

// file is one of the outputs.
type profileOutput struct {
	flag, path string
	timed      bool // needs runs
	write      func(*profile.Profile) ([]byte, error)
}

func (o *profileOutputs) list() []profileOutput {
	var out []profileOutput
	for _, f := range []profileOutput{
		{"html", o.html, false, (*profile.Profile).Page},
		{"trace", o.trace, true, (*profile.Profile).TraceJSON},
		{"bench", o.bench, true, (*profile.Profile).Bench},
		{"prometheus", o.prometheus, false, func(p *profile.Profile) ([]byte, error) { return p.Prometheus(), nil }},
	} {
		if f.path != "" {
			out = append(out, f)
		}
	}
	return out
}

// check refuses, before anything runs, files that could not be written.
func (o *profileOutputs) check(static bool) error {
	used := map[string]string{}
	for _, f := range o.list() {
		path, err := filepath.Abs(f.path)
		if err != nil {
			return usagef("--%s %s: %v", f.flag, f.path, err)
		}
		if other := used[path]; other != "" {
			return usagef("--%s and --%s name the same file %s", other, f.flag, f.path)
		}
		used[path] = f.flag
		if f.timed && static {
			return usagef("--%s holds runs, and --static runs nothing", f.flag)
		}
		if a, err := os.Stat(f.path); err == nil && a.IsDir() {
			return usagef("--%s %s is a folder; name a file in it", f.flag, f.path)
		}
		if dir, err := os.Stat(filepath.Dir(f.path)); err != nil || !dir.IsDir() {
			return usagef("--%s %s: there is no folder %s", f.flag, f.path, filepath.Dir(f.path))
		}
	}
	return nil
}

// write writes every file, each at once and in full.
func (o *profileOutputs) write(a *app, p *profile.Profile) error {
	for _, f := range o.list() {
		b, err := f.write(p)
		if err != nil {
			return fmt.Errorf("--%s %s: %w", f.flag, f.path, err)
		}
		if err := atomicfile.WriteFile(f.path, b, 0o644); err != nil {
			return fmt.Errorf("--%s: %w", f.flag, err)
		}
		a.wrote(f.path)
		a.note("wrote %s", f.path)
	}
	return nil
}
