package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestBOM reads the bill of materials as another program would.
func TestBOM(t *testing.T) {
	r := sample()
	data, err := r.BOM()
	if err != nil {
		t.Fatal(err)
	}
	var b cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&b); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := cdx.NewBOMEncoder(&again, cdx.BOMFileFormatJSON).SetPretty(true).Encode(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(data), again.String()); diff != "" {
		t.Errorf("read and written again (-first +second):\n%s", diff)
	}
	c := b.Metadata.Component
	ancestors := *c.Pedigree.Ancestors
	if c.Type != cdx.ComponentTypeMachineLearningModel || (*c.Hashes)[0].Value != r.Candidate.SHA256 ||
		len(ancestors) != 1 || (*ancestors[0].Hashes)[0].Value != r.Baseline.SHA256 {
		t.Errorf("component %+v, ancestors %+v", c, ancestors)
	}
	metrics := map[string]cdx.MLPerformanceMetric{}
	for _, m := range *c.ModelCard.QuantitativeAnalysis.PerformanceMetrics {
		metrics[m.Type+"/"+m.Slice] = m
	}
	if got := metrics["latency_ratio/"]; got.ConfidenceInterval == nil || got.Value == "" {
		t.Errorf("ratio %+v, want it with its interval", got)
	}
	s := r.Accuracy.Slices[0]
	if got := metrics[r.Accuracy.Metric+"_difference/"+s.Name]; got.ConfidenceInterval == nil {
		t.Errorf("slice %s: %+v, want a difference with its interval", s.Name, got)
	}
	if !strings.Contains(strings.Join(*c.ModelCard.Considerations.TechnicalLimitations, "\n"), r.Warnings[0]) {
		t.Error("a warning of the report is missing")
	}
	if n := len(*c.ModelCard.Considerations.PerformanceTradeoffs); n != len(r.Gates) {
		t.Errorf("%d gates, want %d", n, len(r.Gates))
	}
}

// TestBOMNotMeasured holds that what was not measured is no metric.
func TestBOMNotMeasured(t *testing.T) {
	r := sample()
	r.Latency, r.Explanation, r.Accuracy.Delta = nil, nil, nil
	data, err := r.BOM()
	if err != nil {
		t.Fatal(err)
	}
	var b cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(data), cdx.BOMFileFormatJSON).Decode(&b); err != nil {
		t.Fatal(err)
	}
	for _, m := range *b.Metadata.Component.ModelCard.QuantitativeAnalysis.PerformanceMetrics {
		if strings.HasPrefix(m.Type, "latency") || strings.HasPrefix(m.Type, "explanation") || m.Slice == "" && m.Type == r.Accuracy.Metric+"_difference" {
			t.Errorf("there is a metric %+v", m)
		}
	}
}

// bomSchemas is where "make interop" puts CycloneDX's own JSON schemas, below the user's cache.
const bomSchemas = "lapidary/cyclonedx-schemas"

// TestBOMSchema validates bills of materials against the official schema.
func TestBOMSchema(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("no cache of the user that CycloneDX's schemas could be in: %v", err)
	}
	dir := filepath.Join(cache, bomSchemas)
	compiler := jsonschema.NewCompiler()
	for uri, file := range map[string]string{
		"http://cyclonedx.org/schema/bom-1.6.schema.json":           "bom-1.6.SNAPSHOT.schema.json",
		"http://cyclonedx.org/schema/spdx.SNAPSHOT.schema.json":     "spdx.SNAPSHOT.schema.json",
		"http://cyclonedx.org/schema/jsf-0.82.SNAPSHOT.schema.json": "jsf-0.82.SNAPSHOT.schema.json",
	} {
		f, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			t.Skipf("no schema of CycloneDX at %s; \"make interop\" puts it there (network): %v", dir, err)
		}
		defer f.Close()
		doc, err := jsonschema.UnmarshalJSON(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(uri, doc); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	validate := func(data []byte) error {
		var doc any
		if err := json.Unmarshal(data, &doc); err != nil {
			return err
		}
		return schema.Validate(doc)
	}
	for name, r := range map[string]*Report{"sample": sample(), "hostile": hostile(), "empty": {Verdict: Inconclusive}} {
		data, err := r.BOM()
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	good, err := sample().BOM()
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range [][2]string{{`"machine-learning-model"`, `"model"`}, {`"SHA-256"`, `"SHA256"`}, {`"performanceMetrics"`, `"metrics"`}, {`"urn:uuid:`, `"uuid:`}} {
		bad := bytes.Replace(good, []byte(spoil[0]), []byte(spoil[1]), 1)
		if bytes.Equal(bad, good) || validate(bad) == nil {
			t.Errorf("the schema accepts %s", spoil[1])
		}
	}
}
