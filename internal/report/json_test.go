package report

import (
	"encoding/json"
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

func TestJSONRoundTrip(t *testing.T) {
	want := sample()
	data, err := want.JSON()
	if err != nil {
		t.Fatal(err)
	}
	got := new(Report)
	if err := json.Unmarshal(data, got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("after a round trip (-want +got):\n%s", d)
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
	set["Noise.Severe"] = true       // contradicts the intervals
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

func TestCheckSchema(t *testing.T) {
	tests := []struct {
		schema, version string
		ok              bool
	}{
		{SchemaURI, "1.0", true},
		{SchemaURI, "1.7", true},
		{SchemaURI, "2.0", false},
		{SchemaURI, "", false},
		{"https://example.com/report-v1.json", "1.0", false},
	}
	for _, tt := range tests {
		if err := (&Report{Schema: tt.schema, SchemaVersion: tt.version}).CheckSchema(); (err == nil) != tt.ok {
			t.Errorf("%q %q: %v", tt.schema, tt.version, err)
		}
	}
}

func TestJSONOfNoGates(t *testing.T) {
	out, err := (&Report{}).JSON()
	if err != nil || !strings.Contains(string(out), `"gates": []`) {
		t.Errorf("%v\n%s", err, out)
	}
}
