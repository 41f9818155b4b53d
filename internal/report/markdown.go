package report

import (
	"bytes"
	"fmt"
	"strings"
)

// maxMarkdown is the size that a Markdown report stays below, in bytes; it fits beside others into the summary of a CI step,
// which may have 1 MiB.
const maxMarkdown = 64 << 10

// Markdown returns the report in GitHub's Markdown, below 64 KiB: long lists are cut by whole rows and say so.
func (r *Report) Markdown() []byte {
	for _, limit := range []int{20, 10, 5, 2, 1} {
		if out := r.markdown(limit); len(out) < maxMarkdown {
			return out
		}
	}
	return r.markdownHead()
}

// markdownHead returns what is left of a report whose names alone are too long: the verdict and the models.
func (r *Report) markdownHead() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "## %s %s\n\n%s\n\n", verdictMark(r.Verdict), verdictWord(r.Verdict), markText(r.headline()))
	fmt.Fprintf(&b, "Candidate %s (SHA-256 %s) against baseline %s (SHA-256 %s).\n\n", markCode(r.Candidate.Name), markCode(shortDigest(r.Candidate.SHA256)), markCode(r.Baseline.Name), markCode(shortDigest(r.Baseline.SHA256)))
	b.WriteString("Everything else is too long for a summary; see report.html or report.json.\n")
	return b.Bytes()
}

// verdictMark is the sign of a verdict in running text.
func verdictMark(v Verdict) string {
	return map[string]string{string(Pass): "✅", string(Fail): "❌", string(Inconclusive): "❔"}[verdictClass(v)]
}

func (r *Report) markdown(limit int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "## %s %s\n\n%s\n\n", verdictMark(r.Verdict), verdictWord(r.Verdict), markText(r.headline()))
	fmt.Fprintf(&b, "Candidate %s (SHA-256 %s) against baseline %s (SHA-256 %s).\n\n", markCode(r.Candidate.Name), markCode(shortDigest(r.Candidate.SHA256)), markCode(r.Baseline.Name), markCode(shortDigest(r.Baseline.SHA256)))
	gates := [][]string{}
	for _, g := range r.urgentGates(len(r.Gates)) {
		gates = append(gates, []string{markCode(g.Name), markText(g.requirement()), g.observation(), verdictMark(g.Verdict) + " **" + markText(string(g.Verdict)) + "**", markText(g.Reason)})
	}
	writeTable(&b, []string{"Gate", "Requires", "Observed", "Verdict", "Reason"}, gates, 2*limit)
	rows := [][]string{}
	for _, row := range r.rows() {
		rows = append(rows, []string{markText(row.Name), row.Baseline, row.Candidate, row.Change})
	}
	writeTable(&b, []string{"", "Baseline", "Candidate", "Change"}, rows, len(rows))
	var notes []string
	for _, w := range r.allWarnings() {
		notes = append(notes, "⚠️ "+markText(w))
	}
	writeList(&b, notes, limit)
	notes = nil
	for _, s := range r.Skipped {
		notes = append(notes, "skipped "+markText(s.Section)+": "+markText(s.Reason))
	}
	writeList(&b, notes, limit)
	b.WriteByte('\n')
	r.markdownDetails(&b, limit)
	fmt.Fprintf(&b, "\nVerify the signed evidence:\n\n```sh\n%s\n```\n", strings.ReplaceAll(strings.Join(r.commands(), "\n"), "```", "'''"))
	return b.Bytes()
}

// markdownDetails writes the sections that a reader unfolds.
func (r *Report) markdownDetails(b *bytes.Buffer, limit int) {
	section := func(title string, body func()) {
		fmt.Fprintf(b, "<details><summary>%s</summary>\n\n", title)
		body()
		b.WriteString("</details>\n")
	}
	facts := func(pairs [][2]string) {
		rows := [][]string{}
		for _, p := range pairs {
			rows = append(rows, []string{markText(p[0]), markText(p[1])})
		}
		writeTable(b, []string{"", ""}, rows, len(rows))
	}
	if a := r.Accuracy; a != nil {
		section("Accuracy", func() { facts(a.facts()); a.markdownLists(b, limit) })
	}
	if l := r.Latency; l != nil {
		section("Latency", func() { facts(append(l.deltas(), l.facts()...)) })
	}
	if e := r.Explanation; e != nil {
		section("Explanations", func() { facts(e.facts()) })
	}
	if d := r.Data; d != nil {
		section("Data", func() { facts(d.facts()) })
	}
	section("Environment", func() { facts(r.Environment.facts()) })
	for _, c := range r.chains() {
		if len(c.Model.History) == 0 {
			continue
		}
		section("Chain of custody of the "+strings.ToLower(c.Role), func() {
			for i, s := range c.Model.History {
				if i == limit {
					fmt.Fprintf(b, "%d. … %s more\n", i+1, FormatCount(len(c.Model.History)-i))
					break
				}
				fmt.Fprintf(b, "%d. %s by %s, %s, read %s\n", i+1, markCode(cut(strings.Join(append([]string{s.Command}, s.Options...), " "), maxText)), markCode(s.Tool), verifiedWord(s.Verified), markCode(shortDigest(s.InputSHA256)))
			}
			b.WriteByte('\n')
		})
	}
}

func (a *Accuracy) markdownLists(b *bytes.Buffer, limit int) {
	unit, diff := a.units()
	rows := [][]string{}
	for _, s := range a.worstFirst() {
		rows = append(rows, []string{markCode(s.Name), FormatCount(s.N), value(unit, s.Baseline), value(unit, s.Candidate), signed(diff, s.Delta, s.CI95)})
	}
	writeTable(b, []string{"Slice, the largest loss first", "Samples", "Baseline", "Candidate", "Change"}, rows, limit)
	rows = nil
	if a.Flips != nil {
		for _, f := range a.Flips.sorted() {
			rows = append(rows, []string{markCode(f.ID), f.kind(), markCode(f.Label), markCode(f.Baseline), markCode(f.Candidate)})
		}
		writeTable(b, []string{"Changed sample", "What happened", "Label", "Baseline", "Candidate"}, rows, limit)
	}
}

// writeList writes at most limit points, and how many are left out.
func writeList(b *bytes.Buffer, points []string, limit int) {
	for i, p := range points {
		if i == limit {
			fmt.Fprintf(b, "- … %s more in report.json\n", FormatCount(len(points)-i))
			return
		}
		fmt.Fprintf(b, "- %s\n", p)
	}
}

// writeTable writes at most limit rows, and how many are left out.
func writeTable(b *bytes.Buffer, head []string, rows [][]string, limit int) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat(" --- |", len(head)))
	for i, row := range rows {
		if i == limit {
			fmt.Fprintf(b, "| … %s more in report.json |%s\n", FormatCount(len(rows)-i), strings.Repeat(" |", len(head)-1))
			break
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
	b.WriteByte('\n')
}

func verifiedWord(ok bool) string {
	if ok {
		return "checked by execution"
	}
	return "not checked by execution"
}

// markCode returns a string of unknown origin as a code span that is safe inside a table.
func markCode(s string) string {
	s = strings.TrimSpace(cut(clean(s), 120))
	if s == "" {
		return ""
	}
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	pad := ""
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		pad = " "
	}
	return fence + pad + strings.ReplaceAll(s, "|", `\|`) + pad + fence
}

// markText returns a sentence that may contain foreign words as plain text: no markup, no HTML, no link, no mention.
func markText(s string) string {
	var b strings.Builder
	// A word joiner breaks mentions and URLs without being seen.
	for _, r := range strings.NewReplacer("@", "@\u2060", "://", ":\u2060//").Replace(clean(s)) {
		switch {
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '&':
			b.WriteString("&amp;")
		case strings.ContainsRune("\\`*_{}[]#|~!", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
