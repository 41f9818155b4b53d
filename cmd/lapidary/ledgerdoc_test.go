package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ledgerIntro stands above the totals in docs/ledger.md.
const ledgerIntro = `# The corpus ledger

Written by ` + "`make ledger`" + `; ` + "`make corpus`" + ` checks all of it and ` + "`make test`" + ` a fixed part. Every graph of the test corpus goes through every command
below, with the options that stand there. What a command writes is run beside the model that it was made of, by the test and not by the
command: with the runtime's optimizations off and on, on the test data that came with the graph and on generated inputs of another seed than
the commands'. A graph whose inputs nobody can make up is given its test data with ` + "`--data`" + `, as the commands ask for.

- **verified**: written, and right. fuse and prune at sparsity 0 may differ by what the element type allows two right implementations
  (` + "`internal/compare`" + `). The others keep types, shapes and finite values, and over all samples of a source at least the SQNR below; zeroed weights are
  the only thing that may differ in a model with weights pruned. These floors find a wrong scale, axis or zero point, not a loss of accuracy.
- **refused**: exit code 1 or 3, a reason, no file. The reasons are in ` + "`cmd/lapidary/testdata/ledger.txt`" + ` with the graphs; a new one fails the test.
- **wrong**, **crashed**: anything else. A model that ends the runtime's process is run again with the runtime apart, as the program has it.

`

// document is docs/ledger.md.
func (l *ledger) document() string {
	var b strings.Builder
	b.WriteString(ledgerIntro)
	fmt.Fprintf(&b, "%d of the corpus' %d graphs:\n\n%s\n", len(l.graphs), l.of, l.table())
	b.WriteString("What was run, IN and OUT being files, and the least SQNR:\n\n| command | line | SQNR |\n|---|---|---|\n")
	for _, c := range ledgerCommands {
		line := "`lapidary " + strings.Join(c.args, " ") + "`"
		if c.args == nil {
			line = "`lapidary diff IN RESULT --format=json`, for every result"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.name, line, c.bound)
	}
	b.WriteString("\nThe reasons of refusals, in all commands:\n\n| refusals | reason |\n|---|---|\n")
	count := map[string]int{}
	for _, e := range l.entries {
		if e.Status == ledgerRefused {
			count[e.Reason]++
		}
	}
	reasons := sortedKeys(count)
	slices.SortStableFunc(reasons, func(a, b string) int { return cmp.Compare(count[b], count[a]) })
	for _, r := range reasons {
		fmt.Fprintf(&b, "| %d | %s |\n", count[r], strings.ReplaceAll(r, "|", `\|`))
	}
	return b.String()
}

func (b ledgerBound) String() string {
	switch {
	case b.none:
		return "nothing is run"
	case b.class != "":
		return "equal as " + b.class
	case b.exact:
		return "equal"
	case b.sqnr < -1000:
		return "finite"
	case b.own:
		return fmt.Sprintf("%v dB on what it was calibrated on, elsewhere finite", b.sqnr)
	}
	return fmt.Sprintf("%v dB", b.sqnr)
}
