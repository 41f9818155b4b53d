package gate

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/report/schematest"
)

var update = flag.Bool("update", false, "rewrite the published schema")

// TestLockedSchema compares the published schema of a locked policy with the types, and a policy with the schema.
func TestLockedSchema(t *testing.T) {
	const path = "../../docs/schemas/policy-v1.json"
	want, err := schematest.Generate(".", "Locked", LockedSchemaURI)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types say; run this test with -update and look at the difference", path)
	}
	l := Locked{Schema: LockedSchemaURI, SchemaVersion: "1.0", Name: "n", Gates: []Gate{{"g", "accuracy.drop", "<=", 0.01}}, Rules: []Rule{{"r", "report.accuracy.n > 1", ""}},
		Data: DataLock{Digest: candidateDigest, Samples: 10}, Seed: "1", Registered: time.Now()}
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := schematest.Validate(got, document); err != nil {
		t.Error(err)
	}
}
