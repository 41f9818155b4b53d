package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/bisect"
)

// bisected is the JSON document of bisect.
type bisected struct {
	Schema     string             `json:"schema"`
	Model      string             `json:"model"`
	Command    string             `json:"command,omitempty"`
	Against    string             `json:"against,omitempty"`
	OK         bool               `json:"ok"` // nothing is wrong
	Finding    *bisect.Finding    `json:"finding,omitempty"`
	Comparison *bisect.Comparison `json:"comparison,omitempty"`
	Culprit    *bisect.Culprit    `json:"culprit,omitempty"`
	Reduced    *reduced           `json:"reduced,omitempty"`
}

// reduced is a model that shows the fault.
type reduced struct {
	Files  []string `json:"files"`
	Nodes  int      `json:"nodes"`
	Trials int      `json:"trials"` // models that were run to find it
	Cut    bool     `json:"stopped_early,omitempty"`
}

// saveCase writes the case.
func saveCase(c *bisect.Case, path string) (*reduced, error) {
	files, err := c.Save(path)
	if err != nil {
		return nil, err
	}
	return &reduced{Files: files, Nodes: c.Model.Graph.Len(), Trials: c.Trials, Cut: c.Cut}, nil
}

// printBisected prints what was found; the error carries exit code 3 where
// something is wrong.
func (a *app) printBisected(d bisected, wrong bool) error {
	d.Schema, d.OK = schemaURI("bisect-v1"), !wrong
	if a.json() {
		if err := writeJSON(a.env.stdout, d); err != nil {
			return err
		}
	} else {
		d.print(a.env.stdout)
	}
	if wrong {
		return failVerdict()
	}
	return nil
}

func (d *bisected) print(w io.Writer) {
	switch {
	case d.Finding != nil:
		printFinding(w, d)
	case d.Comparison != nil:
		printComparison(w, d)
	case d.Culprit != nil:
		fmt.Fprintf(w, "%s does not %s: %s\n", d.Model, d.Culprit.Fault.Kind, d.Culprit.Fault.Reason)
		if len(d.Culprit.Nodes) == 0 {
			fmt.Fprintln(w, "  it is not in the nodes: written back, repaired, the model does not show it")
		} else {
			printNodes(w, "  the fewest nodes that show it:", d.Culprit.Nodes)
		}
	default:
		fmt.Fprintf(w, "%s loads and runs\n", d.Model)
	}
	if r := d.Reduced; r != nil {
		fmt.Fprintf(w, "  reduced to %d nodes after %d models: %s\n", r.Nodes, r.Trials, strings.Join(r.Files, ", "))
		if r.Cut {
			fmt.Fprintf(w, "  the search was stopped; more could be left out\n")
		}
	}
}

func printFinding(w io.Writer, d *bisected) {
	f := d.Finding
	if f.First == nil {
		fmt.Fprintf(w, "nothing is wrong: %s does %d rewrites on %s, and the result agrees on %d %s samples\n",
			d.Command, f.Rewrites, d.Model, f.Samples, f.Inputs)
		return
	}
	x := f.First
	if x.Number == 0 {
		fmt.Fprintf(w, "%s on %s is wrong before its first rewrite: %s\n", d.Command, d.Model, x.Fault.Reason)
		return
	}
	fmt.Fprintf(w, "rewrite %d of %d is wrong: %s at %s (found in %d trials)\n", x.Number, f.Rewrites, x.Firing.Rule, x.Firing.Node, f.Trials)
	fmt.Fprintf(w, "  %s\n", x.Fault.Reason)
	printNodes(w, "  before:", x.Before)
	printNodes(w, "  after:", x.After)
	if b := x.Broken; b != nil {
		fmt.Fprintf(w, "  first wrong value: %s\n", brokenText(b))
	}
	if x.Others == "" {
		fmt.Fprintf(w, "  without it the result is right: --disable %s\n", x.Firing.Rule)
	} else {
		fmt.Fprintf(w, "  without it another is wrong: %s\n", x.Others)
	}
}

func printComparison(w io.Writer, d *bisected) {
	c := d.Comparison
	switch {
	case c.First != nil:
		fmt.Fprintf(w, "the first node of %s that differs from %s: %s\n", d.Model, d.Against, c.First.Node)
		if c.First.Reference != "" && c.First.Reference != c.First.Node {
			fmt.Fprintf(w, "  there it is: %s\n", c.First.Reference)
		}
		fmt.Fprintf(w, "  %s\n", brokenText(c.First))
		if c.Fault == nil {
			fmt.Fprintln(w, "  the outputs agree all the same")
		}
	case c.Fault != nil && c.Fault.Kind == bisect.Wrong:
		fmt.Fprintf(w, "%d values agree node by node, and yet: %s\n", c.Values, c.Fault.Reason)
		fmt.Fprintln(w, "  rounding that adds up, or the engine's own optimizations; compare with a looser --tolerance")
	case c.Fault != nil:
		fmt.Fprintf(w, "%s does not %s: %s\n", d.Model, c.Fault.Kind, c.Fault.Reason)
	default:
		fmt.Fprintf(w, "nothing is wrong: the outputs and %d inner values agree on %d %s samples\n", c.Values, c.Samples, c.Inputs)
	}
}

func brokenText(b *bisect.Broken) string {
	text := fmt.Sprintf("%q on sample %s: %s", b.Value, b.Sample, b.Reason)
	if b.MaxAbs != nil {
		text += fmt.Sprintf(", off by up to %.3g", *b.MaxAbs)
	}
	if b.SQNR != nil {
		text += fmt.Sprintf(", SQNR %.1f dB", *b.SQNR)
	}
	return text
}

// maxPrinted bounds the nodes printed; the JSON document has all.
const maxPrinted = 12

func printNodes(w io.Writer, title string, nodes []string) {
	fmt.Fprintln(w, title)
	for i, n := range nodes {
		if i == maxPrinted {
			fmt.Fprintf(w, "    and %d more (--format json prints all)\n", len(nodes)-i)
			return
		}
		fmt.Fprintf(w, "    %s\n", n)
	}
}
