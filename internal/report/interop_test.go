package report

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// foreign returns the path of a schema of other people's, which "make interop" puts below the user's cache, or skips the test.
func foreign(t *testing.T, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("no cache of the user that %s could be in: %v", name, err)
	}
	path := filepath.Join(cache, "lapidary", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no schema %s; \"make interop\" puts it there (network)", path)
	}
	return path
}

// interopReports are reports with everything, with hostile words, with nothing, and with long lists.
func interopReports() map[string]*Report {
	return map[string]*Report{"sample": sample(), "hostile": hostile(), "empty": {Verdict: Inconclusive}, "many": manyOf(1000), "passed": passed()}
}

// TestSARIFSchema validates SARIF logs against the schema of OASIS, formats included.
func TestSARIFSchema(t *testing.T) {
	text, err := os.ReadFile(foreign(t, "sarif-2.1.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	const uri = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(uri, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(uri)
	if err != nil {
		t.Fatal(err)
	}
	validate := func(data []byte) error {
		var log any
		if err := json.Unmarshal(data, &log); err != nil {
			return err
		}
		return schema.Validate(log)
	}
	for name, r := range interopReports() {
		for _, path := range []string{"", "models/a b%é.onnx"} {
			log, err := r.SARIF(Options{Path: path})
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(log); err != nil {
				t.Errorf("%s at %q: %v", name, path, err)
			}
		}
	}
	good, err := sample().SARIF(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range [][2]string{
		{`"version": "2.1.0"`, `"version": "2.0.0"`}, {`"level": "error"`, `"level": "fatal"`}, {`"ruleIndex": `, `"ruleindex": `}, {`"startLine": 1`, `"startLine": 0`},
		{`"startTimeUtc": "2026`, `"startTimeUtc": "26`}, {`"kind": "fail"`, `"kind": "failed"`},
	} {
		bad := bytes.Replace(good, []byte(spoil[0]), []byte(spoil[1]), 1)
		if bytes.Equal(bad, good) || validate(bad) == nil {
			t.Errorf("the schema accepts %s", spoil[1])
		}
	}
}

// TestJUnitSchema validates JUnit reports against what Jenkins reads.
func TestJUnitSchema(t *testing.T) {
	schema := foreign(t, "junit-10.xsd")
	xmllint, err := exec.LookPath("xmllint")
	if err != nil {
		t.Skip("no xmllint, a system package: libxml2-utils")
	}
	validate := func(data []byte) ([]byte, error) {
		c := exec.CommandContext(t.Context(), xmllint, "--nonet", "--noout", "--schema", schema, "-")
		c.Stdin = bytes.NewReader(data)
		return c.CombinedOutput()
	}
	for name, r := range interopReports() {
		for _, strict := range []bool{false, true} {
			data, err := r.JUnit(Options{Strict: strict})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := validate(data); err != nil {
				t.Errorf("%s, strict %v: %v: %.2000s", name, strict, err, out)
			}
		}
	}
	good, err := sample().JUnit(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range [][2]string{{"<testsuites ", `<testsuites skipped="1" `}, {`tests="1"`, ""}, {"<failure ", "<fail "}, {`time="`, `time="about `}} {
		bad := bytes.Replace(good, []byte(spoil[0]), []byte(spoil[1]), 1)
		if _, err := validate(bad); bytes.Equal(bad, good) || err == nil {
			t.Errorf("the schema accepts %s", spoil[1])
		}
	}
}
