package report

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// textWidth is how many columns a terminal has at least.
const textWidth = 80

// Text returns the report as a table for a terminal of 80 columns, without colours or control characters. The verdict stands
// first and, since a long report scrolls, last.
func (r *Report) Text() []byte {
	var b bytes.Buffer
	writeWrapped(&b, "", fmt.Sprintf("%s  %s against %s", strings.ToUpper(verdictWord(r.Verdict)), clean(r.Candidate.Name), clean(r.Baseline.Name)))
	writeWrapped(&b, "", r.headline())
	b.WriteByte('\n')
	if len(r.Gates) > 0 {
		writeColumns(&b, r.gateRows())
		for _, g := range r.Gates {
			if g.Verdict != Pass {
				writeWrapped(&b, "    ", "  "+clean(g.Name)+": "+clean(g.Reason))
			}
		}
		b.WriteByte('\n')
	}
	rows := [][]string{{"", "baseline", "candidate", "change"}}
	for _, row := range r.rows() {
		rows = append(rows, []string{cut(row.Name, 26), row.Baseline, row.Candidate, row.Change})
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
		b.WriteByte('\n')
		writeWrapped(&b, "  ", "skipped: "+clean(s.Section)+": "+clean(s.Reason))
	}
	for i, w := range r.allWarnings() {
		if i == 0 {
			b.WriteByte('\n')
		}
		writeWrapped(&b, "  ", "warning: "+clean(w))
	}
	fmt.Fprintf(&b, "\nverdict: %s\n", strings.ToLower(verdictWord(r.Verdict)))
	return b.Bytes()
}

// gateRows returns the table of gates. Where it would be too wide, it states limits without the metric, and then names in part.
func (r *Report) gateRows() [][]string {
	table := func(name int, limit func(*Gate) string) [][]string {
		rows := [][]string{{"gate", "requires", "observed", "verdict"}}
		for i := range r.Gates {
			g := &r.Gates[i]
			rows = append(rows, []string{cut(clean(g.Name), name), limit(g), g.observation(), clean(string(g.Verdict))})
		}
		return rows
	}
	rows := table(maxText, (*Gate).requirement)
	if columnsWidth(rows) <= textWidth {
		return rows
	}
	rows = table(maxText, (*Gate).limit)
	if over := columnsWidth(rows) - textWidth; over > 0 {
		longest := 0
		for _, row := range rows {
			longest = max(longest, utf8.RuneCountInString(row[0]))
		}
		rows = table(max(12, longest-over), (*Gate).limit)
	}
	return rows
}

// longestLimit is how much of a condition is shown where the table is too wide; only a rule's expression is longer.
const longestLimit = 28

// limit returns a gate's condition without its metric, such as "≤ 1.00 pt".
func (g *Gate) limit() string {
	return cut(strings.TrimPrefix(g.requirement(), clean(g.Metric)+" "), longestLimit)
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
		rows = append(rows, []string{"  " + cut(f[0], 50), f[1]})
	}
	writeColumns(b, rows)
}

// writeColumns aligns cells on the left, two spaces apart. The last column is wrapped where it would leave the terminal.
func writeColumns(b *bytes.Buffer, rows [][]string) {
	widths := columnWidths(rows)
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row[:len(row)-1] {
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		indent := min(utf8.RuneCountInString(line.String()), textWidth-20)
		writeWrapped(b, strings.Repeat(" ", indent), line.String()+row[len(row)-1])
	}
}

// columnWidths returns the width of each column in characters.
func columnWidths(rows [][]string) []int {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// columnsWidth returns the width of all columns with the gaps between them.
func columnsWidth(rows [][]string) int {
	total := -2
	for _, w := range columnWidths(rows) {
		total += w + 2
	}
	return total
}

// writeWrapped writes one paragraph, broken between words so that it fits; lines after the first begin with indent. Spaces within
// the first line stay, and a word that is longer than a line is broken.
func writeWrapped(b *bytes.Buffer, indent, text string) {
	text = strings.TrimRight(text, " ")
	for utf8.RuneCountInString(text) > textWidth {
		r := []rune(text)
		at := textWidth
		for i := textWidth; i > len(indent) && i > 0; i-- {
			if r[i] == ' ' && strings.TrimSpace(string(r[:i])) != "" {
				at = i
				break
			}
		}
		b.WriteString(strings.TrimRight(string(r[:at]), " "))
		b.WriteByte('\n')
		text = indent + strings.TrimLeft(string(r[at:]), " ")
	}
	b.WriteString(text)
	b.WriteByte('\n')
}
