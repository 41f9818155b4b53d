//go:build unix

package main

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// zeros is an endless source of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// npyHead is the header of an array of float32.
func npyHead(shape string) []byte {
	text := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", shape)
	text += strings.Repeat(" ", 63-(10+len(text))%64) + "\n"
	return append(append([]byte("\x93NUMPY\x01\x00"), byte(len(text)), byte(len(text)>>8)), text...)
}

// npz is an archive of one array x with that header and so many bytes of zeros.
func npz1(t *testing.T, head []byte, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("x.npy")
	if err == nil {
		_, err = w.Write(head)
	}
	if err == nil {
		_, err = io.CopyN(w, zeros{}, size)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pngHead is a PNG file that claims a size and has no picture.
func pngHead(width, height uint32) []byte {
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("IHDR"), width), height)
	head = append(head, 8, 2, 0, 0, 0)
	out := binary.BigEndian.AppendUint32([]byte("\x89PNG\r\n\x1a\n"), 13)
	out = append(out, head...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(head))
}

// TestDataBombs gives commands data that is more than it looks like.
func TestDataBombs(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	jpeg := []byte{0xff, 0xd8, 0xff, 0xc0, 0, 17, 8, 0xff, 0xff, 0xff, 0xff, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1}
	gif := append([]byte("GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00"), 2, 1, 0)
	bmp := append([]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00"), binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 100_000), 100_000)...)
	bmp = append(append(bmp, 1, 0, 24, 0), make([]byte, 24)...)
	files := map[string][]byte{
		"bomb.npz":      npz1(t, npyHead("16384, 4096"), 256<<20), // zeros, in a quarter of a megabyte
		"row.npz":       npz1(t, npyHead("1, 67108864"), 256<<20),
		"claims.npz":    npz1(t, npyHead("4611686018427387903, 2"), 8),
		"overflow.npy":  npyHead("4294967296, 4294967296, 4"),
		"elements.npy":  npyHead("4611686018427387904"),
		"negative.npy":  npyHead("-1, 2"),
		"line.csv":      []byte("a,b\n" + strings.Repeat("1", 40<<20)),
		"columns.csv":   []byte(strings.Repeat("a,", 1<<20)),
		"line.jsonl":    []byte(`{"x": [` + strings.Repeat("1,", 10<<20)),
		"deep.jsonl":    []byte(`{"x": ` + strings.Repeat("[", 1<<20)),
		"deep.json":     []byte(`{"images": ` + strings.Repeat("[", 1<<20)),
		"nothing.jsonl": []byte(strings.Repeat("\n", 1<<20)),
	}
	for name, data := range files {
		path := b.write(t, name, data)
		b.endure(t, []int{0, 1, 2}, path, "policy", "lock", b.policy, "--data", path, "--key", b.key, "-o", b.path("l.json"))
		b.endure(t, []int{1, 2}, path, "profile", b.model, "--data", path)
	}
	pictures := map[string][]byte{
		"a.png": pngHead(100_000, 100_000), "b.png": pngHead(math.MaxInt32, math.MaxInt32), "c.jpg": jpeg, "d.gif": gif, "e.bmp": bmp,
	}
	for name, data := range pictures {
		dir := b.path(name + ".folder")
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
		b.endure(t, []int{1, 2}, filepath.Join(dir, name), "policy", "lock", b.policy, "--data", dir, "--key", b.key, "-o", b.path("l.json"))
	}
}

// TestGrowing reads a log and a table while something goes on writing to them: what
// was there is read, or an error comes, and no command goes on for ever.
func TestGrowing(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	for _, name := range []string{"grows.csv", "grows.jsonl", "grows.yaml", "grows.onnx"} {
		path := b.write(t, name, []byte("a,b\n1,2\n"))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			line := bytes.Repeat([]byte("3,4\n"), 1000)
			for written := 0; written < 512<<20; written += len(line) {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := f.Write(line); err != nil {
					return
				}
			}
		}()
		b.run(t, "policy", "lock", b.policy, "--data", path, "--key", b.key, "-o", b.path("l.json"))
		b.run(t, "policy", "lock", path, "--data", b.data, "--key", b.key, "-o", b.path("l.json"))
		b.run(t, "profile", path, "--static")
		close(stop)
		<-done
		f.Close()
		os.Remove(path)
	}
}

// TestTruncated cuts the weights of a model off while a command reads them: the
// command says so, and writes nothing.
func TestTruncated(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what a process has mapped is known on Linux only")
	}
	b := newBench(t, zootest.Library(t))
	for try := 0; ; try++ {
		model, weights := b.large(t, fmt.Sprintf("m%d.onnx", try))
		code, text := b.truncating(t, weights, "prune", model, "-o", b.path("out.onnx"), "--sparsity", "0.5", "--no-verify")
		if code == 0 && try < 5 { // it was too fast
			os.Remove(b.path("out.onnx"))
			continue
		}
		if code != 1 || !strings.Contains(text, filepath.Base(weights)) || !strings.Contains(text, "became shorter") {
			t.Errorf("exit code %d: %.500s", code, text)
		}
		if left, err := filepath.Glob(b.path(".lapidary*")); err != nil || len(left) > 0 || exists(b.path("out.onnx")) {
			t.Errorf("there is an output, or %v is left", left)
		}
		return
	}
}

// truncating runs the program and cuts path off once the program has it mapped.
func (b *bench) truncating(t *testing.T, path string, args ...string) (int, string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for end := time.Now().Add(hostileWait); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
			if mapped(path) {
				_ = os.Truncate(path, 4096)
				return
			}
		}
	}()
	code, text := b.run(t, args...)
	<-done
	return code, text
}

// mapped reports whether another process has the file mapped.
func mapped(path string) bool {
	maps, _ := filepath.Glob("/proc/[0-9]*/maps")
	for _, m := range maps {
		if text, err := os.ReadFile(m); err == nil && bytes.Contains(text, []byte(path)) {
			return true
		}
	}
	return false
}

// large writes a model with 64 MiB of weights in a file beside it.
func (b *bench) large(t *testing.T, name string) (model, weights string) {
	t.Helper()
	const n = 16 << 20
	weights = b.path(name + ".data")
	f, err := os.Create(weights)
	if err == nil {
		_, err = io.CopyN(f, strings.NewReader(strings.Repeat("\x00\x00\x80\x3f\x00\x00\x00\x40", n/2)), 4*n)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	tensor := pbExternal("w", name+".data", n)
	shaped := append(pbInt(1, 4096), bytes.Replace(tensor, pbInt(1, n), pbInt(1, n/4096), 1)...)
	graph := pbGraph([][]byte{pbNode("MatMul", []string{"x", "w"}, []string{"y"})}, [][]byte{shaped}, [][]byte{pbValue("x", 1, 1, 4096)}, [][]byte{pbValue("y", 1, 1, n/4096)})
	return b.write(t, name, pbModel(graph)), weights
}
