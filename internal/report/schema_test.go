package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/report/schematest"
)

const publishedSchema = "../../docs/schemas/report-v1.json"

// TestSchema compares the published schema with the types and comments of this package.
func TestSchema(t *testing.T) {
	want, err := schematest.Generate(".", "Report", report.SchemaURI)
	if err != nil {
		t.Fatal(err)
	}
	if *report.Update {
		if err := os.MkdirAll(filepath.Dir(publishedSchema), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(publishedSchema, want, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(publishedSchema)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types say; run this test with -update and look at the difference", publishedSchema)
	}
}

// TestEarlierReportsSatisfySchema holds the promise that a reader of the published schema accepts every report of the same major version.
func TestEarlierReportsSatisfySchema(t *testing.T) {
	schema, err := os.ReadFile(publishedSchema)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/report-1.*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no earlier reports: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := schematest.Validate(schema, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestSampleSatisfiesSchema validates the golden report, which sets every field, and then spoils it in ways that the schema must notice.
func TestSampleSatisfiesSchema(t *testing.T) {
	schema, err := os.ReadFile(publishedSchema)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile("testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := schematest.Validate(schema, good); err != nil {
		t.Errorf("the sample report: %v", err)
	}
	for _, spoil := range [][2]string{
		{`"verdict": "fail"`, `"verdict": "passed"`},
		{`"verdict": "fail"`, `"no_verdict": "fail"`},
		{`"seed": "18446744073709551615"`, `"seed": 18446744073709551615`},
		{`"sha256": "`, `"sha256": "X`},
		{`"labelled": true`, `"labelled": null`},
		{`"origin": "files"`, `"origin": "guessed"`},
		{`"pairs": 60`, `"pairs": -60`},
		{`"bytes": 245760`, `"bytes": 9007199254740993`},
		{`"operator": "<="`, `"operator": "=<"`},
		{`"agreement": 0.9765`, `"agreement": 97.65`},
		{`"started": "2026-03-04T05:06:07Z"`, `"started": "yesterday"`},
	} {
		bad := strings.Replace(string(good), spoil[0], spoil[1], 1)
		if bad == string(good) || !json.Valid([]byte(bad)) {
			t.Fatalf("%s does not spoil the sample", spoil[1])
		}
		if schematest.Validate(schema, []byte(bad)) == nil {
			t.Errorf("the schema accepts %s", spoil[1])
		}
	}
}
