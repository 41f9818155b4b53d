package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestGolden(t *testing.T) {
	for _, f := range Formats() {
		t.Run(f.File, func(t *testing.T) {
			got, err := f.Render(sample(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			golden(t, f.File, got)
		})
	}
	t.Run("text", func(t *testing.T) { golden(t, "report.txt", sample().Text()) })
}

// TestMinimal renders a report in which everything optional is absent.
func TestMinimal(t *testing.T) {
	r := &Report{Schema: SchemaURI, SchemaVersion: SchemaVersion, Verdict: Inconclusive}
	for _, f := range Formats() {
		out, err := f.Render(r, Options{})
		if err != nil {
			t.Errorf("%s: %v", f.File, err)
		}
		for _, bad := range []string{"NaN", "Inf", "<nil>", "%!", "no value"} {
			if bytes.Contains(out, []byte(bad)) {
				t.Errorf("%s contains %q", f.File, bad)
			}
		}
	}
	if !bytes.Contains(r.Text(), []byte("No requirement was stated")) {
		t.Errorf("text: %s", r.Text())
	}
}

// TestHostileStrings renders strings that try to break out of every format, and looks for what would have got out.
func TestHostileStrings(t *testing.T) {
	r := hostile()
	for _, f := range append(Formats(), Format{"text", func(r *Report, _ Options) ([]byte, error) { return r.Text(), nil }}) {
		out, err := f.Render(r, Options{})
		if err != nil {
			t.Errorf("%s: %v", f.File, err)
			continue
		}
		s := string(out)
		if !utf8.ValidString(s) {
			t.Errorf("%s is not UTF-8", f.File)
		}
		if i := strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }); i >= 0 {
			t.Errorf("%s holds the control character %q: %q", f.File, s[i], s[max(i-40, 0):i+10])
		}
		if f.File != "report.json" && strings.ContainsRune(s, '\u202e') {
			t.Errorf("%s holds a character that reverses text", f.File)
		}
		for _, line := range strings.Split(s, "\n") {
			if strings.HasPrefix(line, "::error") || strings.HasPrefix(line, "# h") {
				t.Errorf("%s: a foreign string begins the line %q", f.File, line)
			}
		}
	}
}

// TestMarkdownSaysWhatItLeavesOut cuts every list by whole rows, with a note.
func TestMarkdownSaysWhatItLeavesOut(t *testing.T) {
	r := manyOf(1000)
	out := string(r.Markdown())
	for _, want := range []string{"| … 960 more in report.json |", "- … 980 more in report.json", "| … 991 more in report.json |", "| … 1,013 more in report.json |"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if !strings.Contains(out, "`failing`") {
		t.Error("the gate that failed was cut off")
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "|") && !strings.HasSuffix(line, "|") {
			t.Errorf("a row was cut: %q", line)
		}
	}
	r.Candidate.Name = strings.Repeat("long name ", 20_000)
	out = string(r.Markdown())
	if len(out) >= maxMarkdown || !strings.Contains(out, "too long for a summary") || !strings.HasPrefix(out, "## ❌ Fail") {
		t.Errorf("%d bytes: %.300s", len(out), out)
	}
}

// manyOf returns the sample with n gates, slices, flips, warnings, steps and skipped sections, all but one gate passed.
func manyOf(n int) *Report {
	r := sample()
	r.Gates = nil
	name := func(i int) string { return fmt.Sprintf("a-rather-long-name-of-something/that.nobody-would-cut_%d", i) }
	for i := range n {
		r.Gates = append(r.Gates, Gate{Name: name(i), Metric: "accuracy.drop", Operator: "<=", Threshold: 1, Observed: Num(0.5), Verdict: Pass, Reason: "it is so"})
		r.Accuracy.Slices = append(r.Accuracy.Slices, Slice{Name: name(i), N: 10, Delta: Num(0), CI95: CI(-0.1, 0.1)})
		r.Accuracy.Flips.Samples = append(r.Accuracy.Flips.Samples, Flip{ID: name(i), Label: "a", Baseline: "a", Candidate: "b"})
		r.Accuracy.Confusion = append(r.Accuracy.Confusion, ConfusionChange{Label: name(i), Predicted: "b", Candidate: 1})
		r.Accuracy.Outputs = append(r.Accuracy.Outputs, OutputDistance{Name: name(i)})
		r.Explanation.Flips = append(r.Explanation.Flips, ExplanationFlip{ID: name(i)})
		r.Candidate.History = append(r.Candidate.History, Step{Command: name(i)})
		r.Candidate.External = append(r.Candidate.External, File{Path: name(i)})
		r.Skipped = append(r.Skipped, Skip{Section: name(i), Reason: "none"})
	}
	r.Warnings = nil
	for i := range n - 1 { // the sample's detectors add one
		r.Warnings = append(r.Warnings, name(i))
	}
	r.Gates[n-1].Verdict, r.Gates[n-1].Name, r.Gates[n-1].Reason = Fail, "failing", "it is not so"
	return r
}

func TestMarkdownStaysSmall(t *testing.T) {
	r := hostile()
	long := strings.Repeat("`|<@", 5000)
	for range 2000 {
		r.Warnings = append(r.Warnings, long)
		r.Gates = append(r.Gates, Gate{Name: long, Metric: long, Reason: long, Verdict: Fail})
		r.Accuracy.Slices = append(r.Accuracy.Slices, Slice{Name: long})
		r.Candidate.History = append(r.Candidate.History, Step{Command: long, Options: []string{long}})
	}
	out := r.Markdown()
	if len(out) >= 64<<10 {
		t.Errorf("%d bytes", len(out))
	}
	if !bytes.Contains(out, []byte("cosign verify-blob-attestation")) {
		t.Error("the commands were cut off")
	}
}

func TestMarkCode(t *testing.T) {
	for in, want := range map[string]string{
		"a":       "`a`",
		"a`b":     "``a`b``",
		"`a":      "`` `a ``",
		"a|b":     `` + "`a\\|b`",
		" \n ":    "",
		"a\nb":    "`a b`",
		"x\x00`y": "``x\ufffd`y``",
	} {
		if got := markCode(in); got != want {
			t.Errorf("markCode(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestJUnitIsReadBack(t *testing.T) {
	for _, tt := range []struct {
		strict            bool
		failures, skipped int
	}{{false, 1, 1}, {true, 2, 0}} {
		out, err := hostile().JUnit(Options{Strict: tt.strict})
		if err != nil {
			t.Fatal(err)
		}
		var s junitSuites
		if err := xml.Unmarshal(out, &s); err != nil {
			t.Fatal(err)
		}
		skipped := 0
		for _, suite := range s.Suites {
			skipped += suite.Skipped
		}
		if s.Tests != 5 || s.Failures != tt.failures || skipped != tt.skipped || len(s.Suites) != 5 {
			t.Errorf("strict %v: %d tests, %d failures, %d skipped, %d suites", tt.strict, s.Tests, s.Failures, skipped, len(s.Suites))
		}
	}
}

func TestSARIFIsReadBack(t *testing.T) {
	out, err := sample().SARIF(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var log sarifLog
	if err := json.Unmarshal(out, &log); err != nil {
		t.Fatal(err)
	}
	rules := map[string]bool{}
	for _, rule := range log.Runs[0].Tool.Driver.Rules {
		rules[rule.ID] = true
	}
	var levels []string
	for _, res := range log.Runs[0].Results {
		levels = append(levels, res.Level)
		if !rules[res.RuleID] {
			t.Errorf("a result names the unknown rule %q", res.RuleID)
		}
	}
	if got := strings.Join(levels, " "); got != "error warning note note" {
		t.Errorf("levels are %s", got)
	}
	again, err := sample().SARIF(Options{})
	if err != nil || !bytes.Equal(out, again) {
		t.Error("the fingerprints are not stable")
	}
}

// TestSARIFPaths holds that a location stays within the repository, and that fingerprints follow the file and not the numbers.
func TestSARIFPaths(t *testing.T) {
	prints := func(r *Report, path string) (string, string) {
		out, err := r.SARIF(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		var log sarifLog
		if err := json.Unmarshal(out, &log); err != nil {
			t.Fatal(err)
		}
		res := log.Runs[0].Results[0]
		return res.Locations[0].Physical.Artifact.URI, res.Fingerprints["primaryLocationLineHash"]
	}
	for in, want := range map[string]string{
		"models/m 1.onnx": "models/m%201.onnx", "./a//b.onnx": "a/b.onnx", "../up.onnx": "mobilenet.int8.onnx", "/etc/passwd": "mobilenet.int8.onnx", "": "mobilenet.int8.onnx", "a/../..": "mobilenet.int8.onnx",
	} {
		if got, _ := prints(sample(), in); got != want {
			t.Errorf("%q is at %q, want %q", in, got, want)
		}
	}
	other := sample()
	other.Gates[2].Observed, other.Gates[2].CI95 = Num(0.5), CI(0.4, 0.6)
	_, a := prints(sample(), "m.onnx")
	_, b := prints(other, "m.onnx")
	_, c := prints(sample(), "n.onnx")
	if a != b || a == c {
		t.Errorf("fingerprints %s, with other numbers %s, of another file %s", a, b, c)
	}
}

// TestBenchSyntax holds every line to the Go benchmark format: configuration, unit or result.
func TestBenchSyntax(t *testing.T) {
	line := regexp.MustCompile(`^([a-z][^\sA-Z]*: .*|Unit \S+( \S+=\S+)+|Benchmark[A-Z]\S* [0-9]+( [0-9.]+ \S+)+|)$`)
	for _, r := range []*Report{sample(), hostile(), {}} {
		results := 0
		for _, l := range strings.Split(string(r.Bench()), "\n") {
			if !line.MatchString(l) {
				t.Errorf("not a line of the format: %q", l)
			}
			if strings.HasPrefix(l, "Benchmark") {
				results++
			}
		}
		if r.Latency != nil && results != 2*len(r.Latency.Series.BaselineMS) {
			t.Errorf("%d results, want %d", results, 2*len(r.Latency.Series.BaselineMS))
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"m.onnx": "m.onnx", "a b": "'a b'", "$(id)": "'$(id)'", "a'b": `'a'\''b'`, "": "''"} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", in, got, want)
		}
	}
	r := Report{Candidate: Model{Name: "-rf", Bytes: 5 << 30}}
	cosign := r.commands()[1]
	if !strings.HasSuffix(cosign, " ./-rf") || !strings.HasPrefix(cosign, "COSIGN_MAX_ATTACHMENT_SIZE=6GB ") {
		t.Errorf("cosign command: %s", cosign)
	}
}

func TestFormatValue(t *testing.T) {
	tests := []struct {
		unit string
		v    float64
		want string
	}{
		{UnitFraction, 0.9125, "91.25 %"},
		{UnitDifference, -0.00001, "0.00 pt"},
		{UnitRatio, 0.6144, "0.614×"},
		{UnitRatio, 12.345, "12.3×"},
		{UnitMS, 4.2131, "4.213 ms"},
		{UnitBytes, 14265248, "13.6 MiB"},
		{UnitBytes, 12, "12 B"},
		{UnitDecibel, 24.66, "24.7 dB"},
		{UnitNats, 0.01214, "0.0121 nats"},
		{UnitNone, 0, "0"},
		{UnitNone, 1e-9, "1e-09"},
	}
	for _, tt := range tests {
		if got := FormatValue(tt.unit, tt.v); got != tt.want {
			t.Errorf("FormatValue(%q, %v) = %q, want %q", tt.unit, tt.v, got, tt.want)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	predicate, err := Write(dir, sample(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(Formats()) {
		t.Errorf("%d files, want %d", len(entries), len(Formats()))
	}
	got, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil || !bytes.Equal(got, predicate) {
		t.Errorf("report.json differs from what Write returns: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(file, sample(), Options{}); err == nil {
		t.Error("a file was taken for a folder")
	}
}

func TestMarkText(t *testing.T) {
	for in, want := range map[string]string{
		"a: b":              "a: b",
		"@all":              "@\u2060all",
		"https://x.example": "https:\u2060//x.example",
		"<b>|*_`[x](y)":     `&lt;b&gt;\|\*\_` + "\\`" + `\[x\](y)`,
		"one\ntwo\x1b[31m":  "one two\ufffd\\[31m",
		"&amp;":             "&amp;amp;",
	} {
		if got := markText(in); got != want {
			t.Errorf("markText(%q) = %q, want %q", in, got, want)
		}
	}
}
