package report

import (
	"bytes"
	"fmt"
	"strings"
)

// maxMarkdown is the size that a Markdown report stays below, in bytes; it fits beside others into the summary of a CI step.
const maxMarkdown = 64 << 10

// Markdown returns the report in GitHub's Markdown, below 64 KiB: long lists are cut and say so.
func (r *Report) Markdown() []byte {
	for limit := 20; ; limit /= 2 {
		if out := r.markdown(limit); len(out) < maxMarkdown || limit == 0 {
			return out[:min(len(out), maxMarkdown-1)]
		}
	}
}

func (r *Report) markdown(limit int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "## %s %s\n\n%s\n\n", map[Verdict]string{Pass: "✅", Fail: "❌"}[r.Verdict], titleCase(string(r.Verdict)), markText(r.headline()))
	fmt.Fprintf(&b, "Candidate %s (SHA-256 %s) against baseline %s (SHA-256 %s).\n\n", markCode(r.Candidate.Name), markCode(shortDigest(r.Candidate.SHA256)), markCode(r.Baseline.Name), markCode(shortDigest(r.Baseline.SHA256)))
	gates := [][]string{}
	for i, g := range r.Gates {
		if i == max(limit, 1)*2 {
			gates = append(gates, []string{fmt.Sprintf("… %d more", len(r.Gates)-i), "", "", "", ""})
			break
		}
		gates = append(gates, []string{markCode(g.Name), markText(g.requirement()), g.observation(), "**" + markText(string(g.Verdict)) + "**", markText(g.Reason)})
	}
	writeTable(&b, []string{"Gate", "Requires", "Observed", "Verdict", "Reason"}, gates)
	rows := [][]string{}
	for _, row := range r.rows() {
		rows = append(rows, []string{markText(row.Name), row.Baseline, row.Candidate, row.Change})
	}
	writeTable(&b, []string{"", "Baseline", "Candidate", "Change"}, rows)
	for i, w := range r.allWarnings() {
		if i == limit {
			fmt.Fprintf(&b, "- … %d more warnings\n", len(r.allWarnings())-i)
			break
		}
		fmt.Fprintf(&b, "- ⚠️ %s\n", markText(w))
	}
	for i, s := range r.Skipped {
		if i == limit {
			break
		}
		fmt.Fprintf(&b, "- skipped %s: %s\n", markText(s.Section), markText(s.Reason))
	}
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
		writeTable(b, []string{"", ""}, rows)
	}
	if a := r.Accuracy; a != nil {
		section("Accuracy", func() { facts(a.facts()); a.markdownLists(b, limit) })
	}
	if l := r.Latency; l != nil {
		section("Latency", func() { facts(l.facts()) })
	}
	if e := r.Explanation; e != nil {
		section("Explanations", func() { facts(e.facts()) })
	}
	if d := r.Data; d != nil {
		section("Data", func() { facts(d.facts()) })
	}
	section("Environment", func() { facts(r.Environment.facts()) })
	if len(r.Candidate.History) > 0 {
		section("Chain of custody", func() {
			for i, s := range r.Candidate.History {
				if i == max(limit, 1) {
					fmt.Fprintf(b, "%d. … %d more\n", i+1, len(r.Candidate.History)-i)
					break
				}
				fmt.Fprintf(b, "%d. %s by %s, %s\n", i+1, markCode(cut(strings.Join(append([]string{s.Command}, s.Options...), " "), maxText)), markCode(s.Tool), verifiedWord(s.Verified))
			}
			b.WriteByte('\n')
		})
	}
}

func (a *Accuracy) markdownLists(b *bytes.Buffer, limit int) {
	unit, diff := a.units()
	rows := [][]string{}
	for _, s := range a.Slices[:min(limit, len(a.Slices))] {
		rows = append(rows, []string{markCode(s.Name), FormatCount(s.N), value(unit, s.Baseline), value(unit, s.Candidate), signed(diff, s.Delta, s.CI95)})
	}
	writeTable(b, []string{"Slice", "Samples", "Baseline", "Candidate", "Change"}, rows)
	rows = nil
	if a.Flips != nil {
		for _, f := range a.Flips.Samples[:min(limit, len(a.Flips.Samples))] {
			rows = append(rows, []string{markCode(f.ID), markCode(f.Label), markCode(f.Baseline), markCode(f.Candidate)})
		}
		writeTable(b, []string{"Changed sample", "Label", "Baseline", "Candidate"}, rows)
	}
}

func writeTable(b *bytes.Buffer, head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat(" --- |", len(head)))
	for _, row := range rows {
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

func titleCase(s string) string {
	if s = clean(s); s == "" {
		return "No verdict"
	}
	return strings.ToUpper(s[:1]) + s[1:]
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
