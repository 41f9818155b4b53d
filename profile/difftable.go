package profile

import (
	"fmt"
	"io"
	"strings"
)

// Table writes the difference for people, in lines no wider than asked. A has
// the first profile's numbers, B the second's.
func (d *ProfileDiff) Table(w io.Writer, o TableOptions) error {
	t := newTable(o)
	for _, side := range []struct {
		name string
		s    *DiffSide
	}{{"A", &d.A}, {"B", &d.B}} {
		text := side.s.Path
		if side.s.Model != "" {
			text += ": " + side.s.Model
		}
		if side.s.Batch > 0 {
			text += fmt.Sprintf(", on %s, %d threads, batch %d", orCPU(side.s.Device), side.s.Threads, side.s.Batch)
		}
		t.fact(side.name, "%s", text)
	}
	t.line("")
	var rows [][]string
	for _, f := range d.Facts {
		rows = append(rows, []string{f.Name, f.text(f.A, f.ACI95), f.text(f.B, f.BCI95), ratioText(f.A, f.B)})
	}
	t.grid([]column{{"", false}, {"A", true}, {"B", true}, {"B/A", true}}, rows)
	t.diffGroups("operator as run", d.Operators, func(g *DiffGroup) string { return g.Name })
	t.diffGroups("nodes", d.Nodes, (*DiffGroup).label)
	if len(d.Nodes) > 0 {
		t.line("")
		t.fact("matched", "%.1f %% of the nodes' time is in groups that both have", 100*d.Matched)
	}
	for _, x := range d.Warnings {
		t.fact(x.Severity, "%s", x.Message)
	}
	_, err := w.Write(t.b.Bytes())
	return err
}

// diffGroups writes groups, the largest change first.
func (t *table) diffGroups(title string, list []DiffGroup, name func(*DiffGroup) string) {
	var rows [][]string
	most := 0.0
	for _, g := range list {
		most = max(most, g.Change, -g.Change)
	}
	for i := range list {
		g := &list[i]
		if i == t.rows {
			rows = append(rows, []string{fmt.Sprintf("and %d more", len(list)-i), "", "", "", "", ""})
			break
		}
		sign := "+"
		if g.Change < 0 {
			sign = ""
		}
		rows = append(rows, []string{name(g), duration(g.AMS), duration(g.BMS), sign + duration(g.Change), ratioText(g.AMS, g.BMS), changeBar(g.Change, most, 8)})
	}
	if len(rows) > 0 {
		t.line("")
		t.grid([]column{{title, false}, {"A", true}, {"B", true}, {"change", true}, {"B/A", true}, {"faster | slower", false}}, rows)
	}
}

// label names a group of nodes, and how many there are of each side where it is not one of each.
func (g *DiffGroup) label() string {
	switch {
	case len(g.A) == 0:
		return g.Name + " (only in B)"
	case len(g.B) == 0:
		return g.Name + " (only in A)"
	case len(g.A) == 1 && len(g.B) == 1:
		return g.Name
	}
	return fmt.Sprintf("%s (%d > %d)", g.Name, len(g.A), len(g.B))
}

// changeBar draws a change to the left of a mark where it is less, to the right where it is more.
func changeBar(change, most float64, width int) string {
	if most <= 0 {
		return ""
	}
	b := bar(max(change, -change)/most, width)
	if change < 0 {
		return strings.Repeat(" ", width-len(b)) + b + "|"
	}
	return strings.Repeat(" ", width) + "|" + b
}

func ratioText(a, b float64) string {
	if a <= 0 || b <= 0 {
		return ""
	}
	return significant(b / a)
}

// text writes one side of a fact.
func (f *DiffFact) text(v float64, ci *[2]float64) string {
	switch f.Unit {
	case "ms":
		if ci != nil {
			return fmt.Sprintf("%s [%s, %s]", duration(v), duration(ci[0]), duration(ci[1]))
		}
		return duration(v)
	case "bytes":
		return bytesText(int64(v))
	case "per second":
		return significant(v) + "/s"
	}
	return count(int64(v))
}
