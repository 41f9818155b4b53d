package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/evidence"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// linesExt is the extension of files with one bundle a line.
const linesExt = ".jsonl"

// verifiedLines is the JSON document of verify for such a file.
type verifiedLines struct {
	Schema     string            `json:"schema"`
	Accepted   bool              `json:"accepted"`
	Verdict    report.Verdict    `json:"verdict"`    // the worst
	Statements []json.RawMessage `json:"statements"` // the documents of verify for each line
}

// verifyLines verifies each line with one, which takes what is verified as it would be
// alone. One of them must be a report, and all must be about the same files.
func (a *app) verifyLines(path string, data []byte, keys []attest.PublicKey, inconclusive string, one func(a *app, name string, line []byte) error) error {
	out := verifiedLines{Schema: schemaURI("verify-lines-v1"), Accepted: true, Verdict: report.Pass}
	reject := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w", path, &attest.RejectedError{Reason: attest.ReasonSchema, Detail: fmt.Sprintf(format, args...)})
	}
	var text bytes.Buffer
	var about []string
	reports := 0
	for i, line := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		name := fmt.Sprintf("%s, line %d", path, i+1)
		v, err := attest.Verify(line, keys)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if files := digests(v.Files()); i == 0 {
			about = files
		} else if !slices.Equal(files, about) {
			return reject("line %d is about other files than line 1", i+1)
		}
		var doc bytes.Buffer
		var found verdictError
		switch err := one(a.writingTo(&doc), name, line); {
		case errors.As(err, &found):
			out.Verdict = worse(out.Verdict, found.verdict)
		case err != nil:
			return err
		}
		if v.PredicateType() == report.PredicateType {
			reports++
		}
		out.Statements = append(out.Statements, json.RawMessage(bytes.TrimSpace(doc.Bytes())))
		fmt.Fprintf(&text, "  line %d: %s%s\n", i+1, nameOfType(v.PredicateType()), verdictOf(found))
	}
	if reports != 1 {
		return reject("%d of its lines are reports, want one", reports)
	}
	if a.json() {
		if err := writeJSON(a.env.stdout, out); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.env.stdout, "%s: %s, every signature good\n%sverdict: %s\nverify %s for the numbers\n",
			path, plural(len(out.Statements), "statement", "statements"), text.Bytes(), out.Verdict, evidence.BundleFile)
	}
	return verdict(out.Verdict, inconclusive)
}

// digests returns what identifies files whatever they are called.
func digests(files []attest.Subject) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.SHA256)
	}
	slices.Sort(out)
	return out
}

func verdictOf(v verdictError) string {
	if v.verdict == "" {
		return ""
	}
	return ", " + string(v.verdict)
}

// worse returns the verdict that weighs more.
func worse(a, b report.Verdict) report.Verdict {
	rank := map[report.Verdict]int{report.Pass: 0, report.Inconclusive: 1}
	ra, ok := rank[a]
	if !ok {
		return a
	}
	if rb, ok := rank[b]; ok && rb <= ra {
		return a
	}
	return b
}

// writingTo returns an app like a whose results go to w.
func (a *app) writingTo(w io.Writer) *app {
	sub, e := *a, *a.env
	e.stdout = w
	sub.env = &e
	return &sub
}
