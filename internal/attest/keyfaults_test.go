package attest

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// TestKeyFaults lets each operation of writing a key pair fail: there are both keys,
// whole, or neither, and no file is begun under its name.
func TestKeyFaults(t *testing.T) {
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { atomicfile.Hook = nil })
	for n := 1; ; n++ {
		prefix := filepath.Join(t.TempDir(), "k")
		seen := 0
		atomicfile.Hook = func(op atomicfile.Op, path string) error {
			if info, err := os.Lstat(prefix + ".key"); err == nil && info.Size() == 0 {
				t.Errorf("%s of %s: a part of the private key has its name", op, path)
			}
			if seen++; seen == n {
				return syscall.EIO
			}
			return nil
		}
		err := key.WriteFiles(prefix, KeyOptions{Unencrypted: true})
		atomicfile.Hook = nil
		if err != nil {
			for _, path := range []string{prefix + ".key", prefix + ".pub"} {
				if _, statErr := os.Lstat(path); statErr == nil {
					t.Errorf("operation %d: %s is left after: %v", n, path, err)
				}
			}
			if !strings.Contains(err.Error(), prefix) {
				t.Errorf("operation %d: the error does not name the file: %v", n, err)
			}
			continue
		}
		if _, err := LoadPrivateKey(prefix+".key", nil); err != nil {
			t.Errorf("operation %d: %v", n, err)
		}
		if _, err := LoadPublicKey(prefix + ".pub"); err != nil {
			t.Errorf("operation %d: %v", n, err)
		}
		if seen < n {
			if n < 10 {
				t.Errorf("only %d operations", seen)
			}
			return
		}
	}
}
