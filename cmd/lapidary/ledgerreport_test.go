package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// ledgerFile is the golden list of refusals.
var ledgerFile = filepath.Join("testdata", "ledger.txt")

// ledger is what became of all graphs in all commands.
type ledger struct {
	graphs  []string
	of      int // graphs of the corpus
	entries []ledgerEntry
}

func newLedger(graphs []ledgerTask, of int, entries []ledgerEntry) *ledger {
	l := &ledger{entries: entries, of: of}
	for _, g := range graphs {
		l.graphs = append(l.graphs, g.Graph)
	}
	slices.SortFunc(l.entries, func(a, b ledgerEntry) int {
		return cmp.Or(cmp.Compare(a.Graph, b.Graph), cmp.Compare(a.Command, b.Command))
	})
	return l
}

// table counts the entries, a line for each command.
func (l *ledger) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| command | verified equal | refused | wrong | crashed |\n|---|---|---|---|---|\n")
	var sum [4]int
	for _, c := range ledgerCommands {
		var n [4]int
		for _, e := range l.entries {
			if e.Command == c.name {
				n[slices.Index([]string{ledgerEqual, ledgerRefused, ledgerWrong, ledgerCrashed}, e.Status)]++
			}
		}
		for i := range n {
			sum[i] += n[i]
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", c.name, n[0], n[1], n[2], n[3])
	}
	fmt.Fprintf(&b, "| **all** | %d | %d | %d | %d |\n", sum[0], sum[1], sum[2], sum[3])
	return b.String()
}

// refusals are the reasons by graph and command.
type refusals map[string]map[string]string

func (r refusals) add(graph, command, reason string) {
	if r[graph] == nil {
		r[graph] = map[string]string{}
	}
	r[graph][command] = reason
}

func (l *ledger) refusals() refusals {
	r := refusals{}
	for _, e := range l.entries {
		if e.Status == ledgerRefused {
			r.add(e.Graph, e.Command, e.Reason)
		}
	}
	return r
}

// format writes the refusals by reason and the commands that have it, the
// graphs below.
func (r refusals) format() []byte {
	groups := map[string][]string{}
	for graph, commands := range r {
		byReason := map[string][]string{}
		for _, c := range ledgerCommands {
			if reason, ok := commands[c.name]; ok {
				byReason[reason] = append(byReason[reason], c.name)
			}
		}
		for reason, list := range byReason {
			head := reason + "\n  in " + strings.Join(list, "; ")
			groups[head] = append(groups[head], graph)
		}
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, "What the commands refuse of the corpus, and why: the reason, the commands, the graphs.")
	fmt.Fprintln(&b, "Written by TestCorpusLedger with LAPIDARY_CORPUS=all and -update. It is to shrink.")
	for _, head := range sortedKeys(groups) {
		slices.Sort(groups[head])
		fmt.Fprintf(&b, "\n%s\n", head)
		for _, g := range groups[head] {
			fmt.Fprintf(&b, "    %s\n", g)
		}
	}
	return b.Bytes()
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// parseRefusals reads what format wrote.
func parseRefusals(b []byte) refusals {
	r := refusals{}
	reason, commands := "", []string(nil)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "    "):
			for _, c := range commands {
				r.add(line[4:], c, reason)
			}
		case strings.HasPrefix(line, "  in "):
			commands = strings.Split(line[5:], "; ")
		default:
			reason = line
		}
	}
	return r
}

// hold checks the refusals against the golden list. With -update it writes
// those of the graphs that were run into it, and what there is of all into docs/ledger.md.
func (l *ledger) hold(t *testing.T) {
	now, golden := l.refusals(), refusals{}
	b, err := os.ReadFile(ledgerFile)
	switch {
	case err == nil:
		golden = parseRefusals(b)
	case !*update:
		t.Fatal(err)
	}
	if *update {
		l.write(t, now, golden)
		return
	}
	for _, graph := range l.graphs {
		for _, c := range ledgerCommands {
			was, is := golden[graph][c.name], now[graph][c.name]
			switch {
			case was == is:
			case was == "":
				t.Errorf("%s of %s is refused, and was not: %s", c.name, graph, is)
			case is == "":
				t.Errorf("%s of %s is no longer refused (%s): take it off the list with -update", c.name, graph, was)
			default:
				t.Errorf("%s of %s is refused for another reason: %s; it was: %s", c.name, graph, is, was)
			}
		}
	}
}

func (l *ledger) write(t *testing.T, now, golden refusals) {
	if t.Failed() {
		t.Fatal("nothing is written while something is wrong")
	}
	for _, graph := range l.graphs {
		delete(golden, graph)
	}
	maps.Copy(golden, now)
	if err := os.WriteFile(ledgerFile, golden.format(), 0o644); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(docs, "ledger.md")
	if exists(page) && !zootest.All() {
		return // the totals of all graphs stay
	}
	if err := os.WriteFile(page, []byte(l.document()), 0o644); err != nil {
		t.Fatal(err)
	}
}
