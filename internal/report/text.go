package report

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Text returns the report as a table for a terminal, without colours or control characters.
func (r *Report) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s  %s against %s\n%s\n\n", strings.ToUpper(string(r.Verdict)), clean(r.Candidate.Name), clean(r.Baseline.Name), r.headline())
	if len(r.Gates) > 0 {
		rows := [][]string{{"gate", "requires", "observed", "verdict"}}
		for _, g := range r.Gates {
			rows = append(rows, []string{clean(g.Name), g.requirement(), g.observation(), clean(string(g.Verdict))})
		}
		writeColumns(&b, rows)
		for _, g := range r.Gates {
			if g.Verdict != Pass {
				fmt.Fprintf(&b, "  %s: %s\n", clean(g.Name), clean(g.Reason))
			}
		}
		b.WriteByte('\n')
	}
	rows := [][]string{{"", "baseline", "candidate", "change"}}
	for _, row := range r.rows() {
		rows = append(rows, []string{row.Name, row.Baseline, row.Candidate, row.Change})
	}
	writeColumns(&b, rows)
	if a := r.Accuracy; a != nil {
		writeFacts(&b, "accuracy", a.facts())
	}
	if e := r.Explanation; e != nil {
		writeFacts(&b, "explanation", e.facts())
	}
	if l := r.Latency; l != nil && l.SelfTest != nil {
		writeFacts(&b, "self-test", l.SelfTest.facts())
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(&b, "\nskipped: %s: %s", clean(s.Section), clean(s.Reason))
	}
	for _, w := range r.allWarnings() {
		fmt.Fprintf(&b, "\nwarning: %s", clean(w))
	}
	if len(r.Skipped)+len(r.allWarnings()) > 0 {
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// allWarnings returns the report's warnings and those of the noise detectors.
func (r *Report) allWarnings() []string {
	out := r.Warnings
	if r.Latency != nil && r.Latency.Noise != nil {
		out = append(out[:len(out):len(out)], r.Latency.Noise.Warnings...)
	}
	return out
}

func writeFacts(b *bytes.Buffer, title string, facts [][2]string) {
	fmt.Fprintf(b, "\n%s\n", title)
	rows := make([][]string, 0, len(facts))
	for _, f := range facts {
		rows = append(rows, []string{"  " + f[0], f[1]})
	}
	writeColumns(b, rows)
}

// writeColumns aligns cells on the left, two spaces apart.
func writeColumns(b *bytes.Buffer, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
}
