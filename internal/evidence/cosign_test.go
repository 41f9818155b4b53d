package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// TestCosign has cosign 3 verify every bundle against the model, offline, and refuse
// each under another type.
func TestCosign(t *testing.T) {
	cosign, err := exec.LookPath("cosign")
	if err != nil {
		cache, _ := os.UserCacheDir()
		cosign = filepath.Join(cache, "lapidary", "cosign-v3.1.3", "cosign")
		if _, err := os.Stat(cosign); err != nil {
			t.Skipf("no cosign on the PATH or at %s; \"make interop\" puts it there (minutes, network)", cosign)
		}
	}
	dir := t.TempDir()
	put := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, model := newKey(t), []byte("model")
	sum := sha256.Sum256(model)
	put("key.pub", key.PublicKey().PEM())
	put("model.onnx", model)
	r := measured()
	r.Candidate.SHA256 = hex.EncodeToString(sum[:])
	list, err := Sign(context.Background(), key, r, []byte(`{"report": 1}`), []attest.Subject{{Name: "model.onnx", SHA256: r.Candidate.SHA256}})
	if err != nil {
		t.Fatal(err)
	}
	verify := func(bundle, kind string) (string, error) {
		c := exec.Command(cosign, "verify-blob-attestation", "--key", "key.pub", "--bundle", bundle, "--type", kind, "--insecure-ignore-tlog", "model.onnx")
		c.Dir = dir
		c.Env = append(os.Environ(), "HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1", "TUF_ROOT="+filepath.Join(dir, "tuf"))
		out, err := c.CombinedOutput()
		return string(out), err
	}
	kinds := map[string]string{BundleFile: report.PredicateType, TestResultFile: TestResultType, ProvenanceFile: ProvenanceType}
	for _, f := range list {
		kind, ok := kinds[f.Name]
		if !ok {
			continue
		}
		put(f.Name, f.Data)
		if out, err := verify(f.Name, kind); err != nil {
			t.Errorf("%s: cosign refuses it: %v\n%s", f.Name, err, out)
		}
		for other, kind := range kinds {
			if other == f.Name {
				continue
			}
			if out, err := verify(f.Name, kind); err == nil || !strings.Contains(out, "predicate") {
				t.Errorf("%s passes for a %s: %v\n%s", f.Name, kind, err, out)
			}
		}
	}
}
