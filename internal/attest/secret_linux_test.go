package attest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKeysStayInMemory: a process that made or read a private key leaves no core file, and others of the same user cannot read its memory.
func TestKeysStayInMemory(t *testing.T) {
	if way := os.Getenv("LAPIDARY_TEST_KEY"); way != "" {
		holdKey(t, way)
		return
	}
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(t.TempDir(), "k")
	if err := k.WriteFiles(prefix, KeyOptions{Unencrypted: true}); err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"made", prefix + ".key"} {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKeysStayInMemory$", "-test.v")
		cmd.Env = append(os.Environ(), "LAPIDARY_TEST_KEY="+way)
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("guarded")) {
			t.Errorf("%s: %v\n%s", way, err, out)
		}
	}
}

func holdKey(t *testing.T, way string) {
	var err error
	if way == "made" {
		_, err = GenerateKey()
	} else {
		_, err = LoadPrivateKey(way, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	var core unix.Rlimit
	if err == nil {
		err = unix.Getrlimit(unix.RLIMIT_CORE, &core)
	}
	if err != nil || dumpable != 0 || core.Max != 0 {
		t.Fatalf("dumpable %d, core files of %d bytes (%v)", dumpable, core.Max, err)
	}
	t.Log("guarded")
}
