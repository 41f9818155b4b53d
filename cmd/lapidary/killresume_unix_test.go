//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// resumable is a command that keeps in a file what it has done so far.
type resumable struct {
	name string
	args []string // after the model; they name the files keep and out.onnx of the folder that it runs in
	keep string
	says string // on stdout where something came from the file
}

var resumables = []resumable{
	{"calibration", []string{"--data", "synthetic:700", "--statistics", "keep"}, "keep", "of them from the file of statistics"},
	{"search", []string{"--data", "calib.npz", "--limit", "80", "--calibrate", "minmax", "--min-sqnr", "41", "--checkpoint", "keep"}, "keep", "taken from the checkpoint"},
}

// kills is how often each command is killed before it may end.
const kills = 3

// TestKilledResumes kills quantize with SIGKILL in the middle of a calibration and
// of a search for a budget, several times over, and lets it go on: in the end it
// writes the bytes of a run that nobody killed, and did not begin anew.
func TestKilledResumes(t *testing.T) {
	library := zootest.Library(t)
	for _, r := range resumables {
		t.Run(r.name, func(t *testing.T) {
			whole, cut := r.folder(t), r.folder(t)
			must(t, r.command(whole, library))
			for i := range kills {
				if !r.killed(t, cut, library, i) {
					t.Fatalf("it ended before it could be killed for the %d. time", i+1)
				}
				if _, err := os.Stat(filepath.Join(cut, "out.onnx")); err == nil {
					t.Fatal("a killed run left a model")
				}
			}
			c := r.command(cut, library)
			out, err := c.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %v\n%s", c, err, out)
			}
			if !bytes.Contains(out, []byte(r.says)) {
				t.Errorf("it began anew:\n%s", out)
			}
			for _, name := range []string{"out.onnx", r.keep} {
				if !bytes.Equal(readAll(t, filepath.Join(whole, name)), readAll(t, filepath.Join(cut, name))) {
					t.Errorf("%s differs from that of a run that was not killed", name)
				}
			}
		})
	}
}

// folder is a new one with the model and its data.
func (r resumable) folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for to, from := range map[string]string{"model.onnx": "digits-cnn.onnx", "calib.npz": "digits-calib.npz"} {
		b := readAll(t, filepath.Join("..", "..", "testdata", from))
		if err := os.WriteFile(filepath.Join(dir, to), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// command is that of a user in dir; what depends on measured times is off.
func (r resumable) command(dir, library string) *exec.Cmd {
	c := exec.Command("lapidary", append([]string{"quantize", "model.onnx", "-o", "out.onnx", "--for", "size", "--recover", "none", "--no-verify"}, r.args...)...)
	c.Dir = dir
	c.Env = append(os.Environ(), "LAPIDARY_ORT_LIB="+library)
	return c
}

// killed starts the command and kills it once it has written its file anew, the
// first time as soon as it has, then after a while of more work. It reports
// whether it was killed before it ended.
func (r resumable) killed(t *testing.T, dir, library string, turn int) bool {
	t.Helper()
	file := filepath.Join(dir, r.keep)
	before, _ := os.ReadFile(file)
	c := r.command(dir, library)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for deadline := time.After(time.Minute); ; {
		select {
		case <-ended:
			return false
		case <-deadline:
			c.Process.Kill()
			<-ended
			t.Fatal("nothing was written within a minute")
		case <-time.After(time.Millisecond):
		}
		now, err := os.ReadFile(file)
		if err == nil && !bytes.Equal(now, before) {
			time.Sleep(time.Duration(turn) * 3 * time.Millisecond)
			c.Process.Kill()
			<-ended
			return !c.ProcessState.Success()
		}
	}
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
