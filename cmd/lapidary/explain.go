package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// explainAll is what --explain means without a word; a configuration file says true.
const explainAll = "true"

// explained reports whether the log is to be printed.
func (f *rewriteFlags) explained() bool { return f.explain != "" && f.explain != "false" }

// printRules prints how often each rule fired, and why it left the few other
// places that it matched.
func printRules(w io.Writer, l *rewrite.Log) {
	near := map[string]rewrite.RuleSummary{}
	for _, r := range l.NearMisses() {
		near[r.Rule] = r
	}
	for _, r := range l.Summary() {
		if r.Fired == 0 {
			continue
		}
		fmt.Fprintf(w, "  %-24s %6d ×", r.Rule, r.Fired)
		if n, ok := near[r.Rule]; ok {
			fmt.Fprintf(w, " of %d; the other: %s", n.Fired+n.Declined, reasonText(n.Reasons[0]))
			if len(n.Reasons) > 1 {
				fmt.Fprintf(w, ", and %d other reasons", len(n.Reasons)-1)
			}
		}
		fmt.Fprintln(w)
	}
}

func reasonText(c rewrite.ReasonCount) string {
	text := fmt.Sprintf("%s at %s", c.Reason, strings.Join(c.Nodes, ", "))
	if c.Count > len(c.Nodes) {
		text += fmt.Sprintf(" and %d more", c.Count-len(c.Nodes))
	}
	return text
}

// maxExplained bounds the firings printed of one rule where no word is given.
const maxExplained = 8

// printExplained prints the log by rule: every firing, and the refusals by
// reason. A word keeps the rules and nodes that have it in their name.
func printExplained(w io.Writer, l *rewrite.Log, word string) {
	l = filterLog(l, word)
	if len(l.Fired)+len(l.Declined) == 0 {
		fmt.Fprintf(w, "  no rule matched%s\n", forWord(word))
		return
	}
	fired, graphs := map[string][]rewrite.Firing{}, map[string]bool{}
	for _, f := range l.Fired {
		fired[f.Rule] = append(fired[f.Rule], f)
		graphs[f.Graph] = true
	}
	for _, r := range l.Summary() {
		fmt.Fprintf(w, "%s: %d of %d\n", r.Rule, r.Fired, r.Fired+r.Declined)
		for i, f := range fired[r.Rule] {
			if i == maxExplained && word == explainAll {
				fmt.Fprintf(w, "  and at %d more places (--explain=%s prints all)\n", r.Fired-i, r.Rule)
				break
			}
			fmt.Fprintf(w, "  at %s%s: %s\n", f.Node, inGraph(f.Graph, len(graphs)), firingText(f))
		}
		for _, c := range r.Reasons {
			times := ""
			if c.Count > 1 {
				times = fmt.Sprintf(" %d ×", c.Count)
			}
			fmt.Fprintf(w, "  declined%s: %s\n", times, reasonText(c))
		}
	}
}

func forWord(word string) string {
	if word == explainAll {
		return ""
	}
	return fmt.Sprintf(" with %q in the name of the rule or node", word)
}

// inGraph names the graph of a node, where there are several.
func inGraph(name string, graphs int) string {
	if graphs < 2 {
		return ""
	}
	return fmt.Sprintf(" in graph %q", name)
}

func firingText(f rewrite.Firing) string {
	parts := []string{fmt.Sprintf("−%d +%d nodes", f.Gone, f.New)}
	if f.Gone+f.New == 0 && f.Note != "" {
		return f.Note
	}
	if f.Before != nil && f.After != nil {
		parts = append(parts, fmt.Sprintf("%s → %s FLOPs", siText(f.Before.FLOPs), siText(f.After.FLOPs)),
			fmt.Sprintf("%s → %s moved", bytesText(f.Before.Bytes), bytesText(f.After.Bytes)))
	}
	if f.Note != "" {
		parts = append(parts, f.Note)
	}
	return strings.Join(parts, ", ")
}

// siText writes a count for people: 1.2 k, 3.4 M, 5.6 G.
func siText(n int64) string {
	for _, u := range []struct {
		unit int64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if n >= u.unit {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.unit), u.name)
		}
	}
	return fmt.Sprint(n)
}

// filterLog returns the entries of l with word in the name of rule or node.
func filterLog(l *rewrite.Log, word string) *rewrite.Log {
	if word == explainAll {
		return l
	}
	out := rewrite.NewLog()
	for _, f := range l.Fired {
		if strings.Contains(f.Rule, word) || strings.Contains(f.Node, word) || strings.Contains(f.Key, word) {
			out.Fired = append(out.Fired, f)
		}
	}
	for _, d := range l.Declined {
		if strings.Contains(d.Rule, word) || strings.Contains(d.Node, word) {
			out.Declined = append(out.Declined, d)
		}
	}
	return out
}
