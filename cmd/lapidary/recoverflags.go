package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/lapidary-ml/lapidary/quantize"
	"github.com/spf13/pflag"
)

// registerRecover registers the flags of accuracy recovery.
func registerRecover(p *pflag.FlagSet, o *quantize.RecoverOptions) {
	p.StringVar(&o.Recover, "recover", "auto", "static int8: win back accuracy, keeping only what helps on the quarter of the data that is held out: auto, none, or some of "+
		strings.Join(quantize.Recoveries(), ","))
	p.Int64Var(&o.HeldOut, "recover-samples", 0, "most held-out samples to compare on; 0: 32")
}

// printRecovery prints what became of each step.
func printRecovery(w io.Writer, r *quantize.Recovery) {
	if r == nil || len(r.Steps) == 0 {
		return
	}
	fmt.Fprintf(w, "  recovery, judged by the noise of %s on %d samples held out, %d models tried\n", r.Measure, r.Samples, r.Trials)
	for _, s := range r.Steps {
		what := "rolled back"
		switch {
		case s.Kept:
			what = "kept"
		case s.Before == s.After:
			what = "not tried"
		}
		text := fmt.Sprintf("    %-10s %6.2f → %6.2f dB  %s", s.Name, s.Before, s.After, what)
		if n := len(s.Layers); n > 0 {
			text += fmt.Sprintf(" in %d layers", n)
		}
		if s.Note != "" {
			text += ": " + s.Note
		}
		fmt.Fprintln(w, text)
	}
}
