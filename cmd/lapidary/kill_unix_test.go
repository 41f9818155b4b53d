//go:build unix

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// bigModel writes a chain of products with weights of 50 MB, all different.
func bigModel(t *testing.T, path string) {
	t.Helper()
	m := onnx.NewModel(17)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(1, 512)))
	for i := range 50 {
		b := make([]byte, 4*512*512)
		for k := 0; k < len(b); k += 64 {
			b[k], b[k+1] = byte(i), byte(k>>6)
		}
		w, err := onnx.NewTensor(fmt.Sprintf("w%d", i), onnx.Float, []int64{512, 512}, b)
		if err != nil {
			t.Fatal(err)
		}
		n := onnx.NewNode("MatMul", []*onnx.Value{x, m.Graph.AddInitializer(w)}, fmt.Sprintf("y%d", i))
		m.Graph.Append(n)
		x = n.Output(0)
	}
	m.Graph.AddOutput(x)
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// content digests a model with all its constants, wherever they are stored.
func content(path string) (string, error) {
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		return "", err
	}
	defer m.Close()
	h := sha256.New()
	for n := range m.Graph.Nodes() {
		fmt.Fprintln(h, n)
	}
	for _, v := range m.Graph.Initializers() {
		b, err := v.Const.Bytes()
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, v.Name(), len(b))
		h.Write(b)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// TestKilled kills fuse at random times: the target holds the old model or the
// new one, each with its weights, the input is as it was, and the next run
// removes what was left behind.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a model of 50 MB many times")
	}
	for _, external := range []string{"never", "always"} {
		t.Run("external-data "+external, func(t *testing.T) { killed(t, external) })
	}
}

func killed(t *testing.T, external string) {
	dir := t.TempDir()
	src, dst, other := filepath.Join(dir, "big.onnx"), filepath.Join(dir, "out.onnx"), filepath.Join(dir, "other.onnx")
	bigModel(t, src)
	before := mustContent(t, src)
	old := filepath.Join("..", "..", "testdata", "tabular-mlp.onnx")
	fuse := func(in, out string) *exec.Cmd {
		return exec.Command("lapidary", "fuse", in, "-o", out, "--no-verify", "-q", "--external-data", external)
	}
	start := time.Now()
	must(t, fuse(src, other))
	took := time.Since(start)
	result := mustContent(t, other)
	must(t, fuse(old, dst))
	oldResult := mustContent(t, dst)
	survived := 0
	for range 15 {
		if got, err := content(dst); err != nil || got == result {
			must(t, fuse(old, dst))
		}
		c := fuse(src, dst)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(took + took/8))
		c.Process.Kill()
		c.Wait()
		switch got := mustContent(t, dst); got {
		case result:
			survived++
		case oldResult:
		default:
			t.Fatal("the target is neither the old nor the new model")
		}
	}
	t.Logf("%d of 15 runs of %v had finished when they were killed", survived, took)
	if got := mustContent(t, src); got != before {
		t.Error("the input was changed")
	}
	must(t, fuse(src, dst))
	if list, err := filepath.Glob(filepath.Join(dir, atomicfile.TempPrefix+"*")); err != nil || len(list) > 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

func mustContent(t *testing.T, path string) string {
	t.Helper()
	s, err := content(path)
	if err != nil {
		t.Fatalf("the model at the target is not whole: %v", err)
	}
	return s
}

func must(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
}

// TestFullDisk writes to a file system of 1 MB: a clear sentence, exit code 1,
// and the target as it was.
func TestFullDisk(t *testing.T) {
	if out, err := exec.Command("unshare", "-rm", "true").CombinedOutput(); err != nil {
		t.Skipf("no small file system can be mounted here: %v %s", err, out)
	}
	dir := t.TempDir()
	src, mount := filepath.Join(dir, "big.onnx"), filepath.Join(dir, "small")
	bigModel(t, src)
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	script := `mount -t tmpfs -o size=1m tmpfs "$2" || exit 77
echo old > "$2/out.onnx"
lapidary fuse "$1" -o "$2/out.onnx" --no-verify -q
code=$?
cat "$2/out.onnx"; ls -A "$2"
exit $code`
	c := exec.Command("unshare", "-rm", "sh", "-c", script, "sh", src, mount)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	c.Run()
	if c.ProcessState.ExitCode() == 77 {
		t.Skip("tmpfs cannot be mounted here")
	}
	if c.ProcessState.ExitCode() != 1 || stdout.String() != "old\nout.onnx\n" {
		t.Errorf("exit code %d, the folder holds %q", c.ProcessState.ExitCode(), stdout.String())
	}
	if s := stderr.String(); !strings.Contains(s, "out.onnx: no space left on device") || strings.Count(s, "\n") != 1 {
		t.Errorf("stderr: %s", s)
	}
}
