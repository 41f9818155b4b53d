package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// row is what one target has cost and found in all its runs.
type row struct {
	target
	minutes  float64 // of CPU
	execs    int64
	findings int
}

const heading = "| target | what it holds | CPU minutes | executions | findings |\n|---|---|---:|---:|---:|\n"

var rowForm = regexp.MustCompile("^\\| `([^`]+)\\.(Fuzz\\w*)` \\| (.*) \\| ([0-9.]+) \\| ([0-9]+) \\| ([0-9]+) \\|$")

// read parses the ledger at path.
func read(path string) (before string, rows []row, after string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", nil, "", err
	}
	if before, rows, after, err = parse(string(text)); err != nil {
		return "", nil, "", fmt.Errorf("the ledger %s: %w", path, err)
	}
	return before, rows, after, nil
}

// parse splits a ledger into what comes before its table, the rows, and what comes after it.
func parse(text string) (before string, rows []row, after string, err error) {
	before, rest, ok := strings.Cut(text, heading)
	if !ok {
		return "", nil, "", fmt.Errorf("it has no table that begins with %q", heading)
	}
	for strings.HasPrefix(rest, "|") {
		line, next, _ := strings.Cut(rest, "\n")
		m := rowForm.FindStringSubmatch(line)
		if m == nil {
			return "", nil, "", fmt.Errorf("%q is no row of the table", line)
		}
		r := row{target: target{m[1], m[2], m[3]}}
		var err1, err2, err3 error
		r.minutes, err1 = strconv.ParseFloat(m[4], 64)
		r.execs, err2 = strconv.ParseInt(m[5], 10, 64)
		r.findings, err3 = strconv.Atoi(m[6])
		if err1 != nil || err2 != nil || err3 != nil {
			return "", nil, "", fmt.Errorf("%q is no row of the table", line)
		}
		rows, rest = append(rows, r), next
	}
	return before, rows, rest, nil
}

// format is the inverse of parse.
func format(before string, rows []row, after string) string {
	var b strings.Builder
	b.WriteString(before)
	b.WriteString(heading)
	for _, r := range rows {
		fmt.Fprintf(&b, "| `%v` | %s | %.2f | %d | %d |\n", r.target, r.guards, r.minutes, r.execs, r.findings)
	}
	b.WriteString(after)
	return b.String()
}

// settle gives each target its row: what was added up stays, new targets begin at
// nothing, and those that are gone go.
func settle(rows []row, list []target) []row {
	out := make([]row, len(list))
	for i, t := range list {
		if j := slices.IndexFunc(rows, func(r row) bool { return r.dir == t.dir && r.name == t.name }); j >= 0 {
			out[i] = rows[j]
		}
		out[i].target = t
	}
	return out
}

// add enters a run of t into the ledger at path.
func add(path string, list []target, t target, r result) error {
	before, rows, after, err := read(path)
	if err != nil {
		return err
	}
	text := format(before, rows, after)
	rows = settle(rows, list)
	for i := range rows {
		if rows[i].target == t {
			rows[i].minutes += r.cpu.Minutes()
			rows[i].execs += r.execs
			if r.found {
				rows[i].findings++
			}
		}
	}
	next := format(before, rows, after)
	if next == text {
		return nil
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, []byte(next), 0o666); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
