package schematest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGenerate(t *testing.T) {
	const head = "package p\n\nimport \"time\"\n\n"
	tests := []struct{ name, src, want, err string }{
		{"required and optional", "type T struct {\n A int `json:\"a\"` // an a\n B *string `json:\"b,omitempty\"` // a b\n}", `"required": [
    "a"
  ]`, ""},
		{"enumeration", "type T struct {\n K Kind `json:\"k\"` // its kind\n}\n// Kind is one.\ntype Kind string\nconst X Kind = \"x\"", `"enum": [
        "x"
      ]`, ""},
		{"time", "type T struct {\n W time.Time `json:\"w\"` // when\n}", `"format": "date-time"`, ""},
		{"pair", "type T struct {\n P [2]float64 `json:\"p\"` // both\n}", `"maxItems": 2`, ""},
		{"recursion", "type T struct {\n N *T `json:\"n,omitempty\"` // the next\n}", `"$ref": "#/$defs/T"`, ""},
		{"no comment", "type T struct {\n A int `json:\"a\"`\n}", "", "no comment"},
		{"no tag", "type T struct {\n A int // an a\n}", "", "json tag"},
		{"unknown refinement", "type T struct {\n A int `json:\"a\" schema:\"tiny\"` // an a\n}", "", "not known"},
		{"type of another package", "type T struct {\n A time.Month `json:\"a\"` // an a\n}", "", "no schema"},
		{"unknown type", "type T struct {\n A U `json:\"a\"` // an a\n}", "", "not declared"},
		{"no such root", "type U struct {\n A int `json:\"a\"` // an a\n}", "", "not declared"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(head+tt.src+"\n"), 0o666); err != nil {
				t.Fatal(err)
			}
			got, err := Generate(dir, "T", "https://example.com/t.json")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || !strings.Contains(string(got), tt.want) {
				t.Errorf("%v, want %s in\n%s", err, tt.want, got)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	const schema = `{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["a"]}`
	if err := Validate([]byte(schema), []byte(`{"a": 1}`)); err != nil {
		t.Error(err)
	}
	for _, bad := range [][2]string{{schema, `{}`}, {schema, `{`}, {`{"type": 1}`, `{}`}, {`{`, `{}`}} {
		if Validate([]byte(bad[0]), []byte(bad[1])) == nil {
			t.Errorf("schema %s accepts %s", bad[0], bad[1])
		}
	}
}
