package report

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name, or rewrites it under -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run with -update to write it)", err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, d)
	}
}

func TestJSONGolden(t *testing.T) {
	got, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", got)
}

func TestDecodeRestoresTheReport(t *testing.T) {
	want := sample()
	data, err := want.JSON()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Decode(JSON) (-want +got):\n%s", d)
	}
}

// TestSampleSetsEveryField keeps the sample, and with it every test that uses it, complete when a field is added.
func TestSampleSetsEveryField(t *testing.T) {
	set := map[string]bool{}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				f := v.Type().Field(i)
				if !f.IsExported() {
					continue
				}
				name := v.Type().Name() + "." + f.Name
				set[name] = set[name] || !v.Field(i).IsZero()
				if f.Type.PkgPath() != "time" {
					walk(v.Field(i))
				}
			}
		}
	}
	walk(reflect.ValueOf(sample()))
	set["Accuracy.Identical"] = true // contradicts the distances that the sample holds
	for name, ok := range set {
		if !ok {
			t.Errorf("sample leaves %s at its zero value", name)
		}
	}
	if len(set) < 150 {
		t.Errorf("only %d fields were visited", len(set))
	}
}

func TestJSONRefusesWhatIsNotFinite(t *testing.T) {
	r := sample()
	r.Gates[0].Threshold = math.Inf(1)
	if _, err := r.JSON(); err == nil {
		t.Error("an infinite threshold was encoded")
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("the sample does not contain %s", old)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	tests := []struct{ name, in, want string }{
		{"duplicate key", replace(`"verdict": "fail"`, `"verdict": "fail", "verdict": "pass"`), "given twice"},
		{"duplicate by case", replace(`"verdict": "fail"`, `"verdict": "fail", "Verdict": "pass"`), "given twice"},
		{"duplicate by long s", replace(`"seed":`, `"ſeed": "1", "seed":`), `must be written "seed"`},
		{"case variant", replace(`"verdict": "fail"`, `"Verdict": "fail"`), `must be written "verdict"`},
		{"Kelvin sign", replace(`"throttled"`, `"baseline_pea`+"\u212a"+`_bytes"`), "must be written"},
		{"trailing document", string(good) + "{}", "after the end"},
		{"other schema", replace(SchemaURI, "https://example.com/"), "schema is"},
		{"later major", replace(`"schemaVersion": "1.0"`, `"schemaVersion": "2.0"`), "schema version"},
		{"wrong type", replace(`"labelled": true`, `"labelled": 1`), "labelled"},
		{"deep", strings.Repeat("[", 1<<20), "nested"},
		{"cut short", string(good[:len(good)/2]), "EOF"},
		{"empty", "", "EOF"},
		{"number too large", replace(`"threshold": 0.01`, `"threshold": 1e999`), "threshold"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode([]byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Decode: %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestDecodeIgnoresLaterFields(t *testing.T) {
	good, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	later := strings.Replace(string(good), `"schemaVersion": "1.0"`, `"schemaVersion": "1.7", "invented_later": {"a": [1]}`, 1)
	if _, err := Decode([]byte(later)); err != nil {
		t.Errorf("Decode of a later minor version: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	good, err := sample().JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		again, err := r.JSON()
		if err != nil {
			t.Fatalf("a decoded report cannot be encoded: %v", err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("an encoded report cannot be decoded: %v", err)
		}
	})
}
