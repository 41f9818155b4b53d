//go:build cgo

package signer

import (
	"bytes"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPINStaysInMemory: a process that is asked for a PIN leaves no core file from
// then on, and others of the same user cannot read its memory.
func TestPINStaysInMemory(t *testing.T) {
	if uri := os.Getenv("LAPIDARY_TEST_TOKEN"); uri != "" {
		_, err := Open(t.Context(), uri, Options{Secret: func(string) ([]byte, error) {
			dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
			var core unix.Rlimit
			if err == nil {
				err = unix.Getrlimit(unix.RLIMIT_CORE, &core)
			}
			if err == nil && dumpable == 0 && core.Max == 0 {
				err = errors.New("it is guarded")
			}
			return nil, err
		}})
		t.Log(err)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestPINStaysInMemory$", "-test.v")
	uri := "pkcs11:token=release;id=%01?module-path=" + url.PathEscape(newTokens(t)) // sets the library's environment
	cmd.Env = append(os.Environ(), "LAPIDARY_TEST_TOKEN="+uri)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("it is guarded")) {
		t.Errorf("%v\n%s", err, out)
	}
}
