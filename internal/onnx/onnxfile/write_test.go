package onnxfile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// weighty returns a model with one MatMul weight of n×n floats and a small bias.
func weighty(n int64) *onnx.Model {
	m := onnx.NewModel(17)
	g := m.Graph
	x := g.AddInput("x", onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("N"), onnx.Fixed(n)}))
	w := make([]float32, n*n)
	for i := range w {
		w[i] = float32(i)
	}
	node := onnx.NewNode("MatMul", []*onnx.Value{x, g.AddInitializer(onnx.FromFloats("w", []int64{n, n}, w))}, "h")
	g.Append(node)
	add := onnx.NewNode("Add", []*onnx.Value{node.Output(0), g.AddInitializer(onnx.FromFloats("b", []int64{1}, []float32{1}))}, "y")
	g.Append(add)
	g.AddOutput(add.Output(0))
	return m
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out
}

// TestWriteExternal moves weights out, back in, and over an existing pair.
func TestWriteExternal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.onnx")
	want, err := Encode(weighty(64))
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range [][]string{{"m.onnx", "m.onnx.data"}, {"m.onnx", "m.onnx.2.data"}, {"m.onnx", "m.onnx.data"}} {
		wr, err := Write(path, weighty(64), WriteOptions{External: ExternalAlways})
		if err != nil {
			t.Fatal(err)
		}
		if wr.ExternalBytes != 64*64*4 {
			t.Errorf("external bytes = %d, want %d", wr.ExternalBytes, 64*64*4)
		}
		if diff := cmp.Diff(map[string]bool{files[0]: true, files[1]: true}, set(names(t, dir))); diff != "" {
			t.Fatalf("files (-want +got):\n%s", diff)
		}
		m, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if x := m.Graph.Initializers()[0].Const.External; x == nil || x.Offset%externalAlign != 0 {
			t.Errorf("w is stored at %+v, want an aligned external place", x)
		}
		back := filepath.Join(t.TempDir(), "back.onnx")
		if _, err := Write(back, m, WriteOptions{External: ExternalNever}); err != nil {
			t.Fatal(err)
		}
		m.Close()
		got, err := os.ReadFile(back)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("inlined again, the model differs (%v)", err)
		}
	}
}

// TestWriteKeep leaves external data where it is.
func TestWriteKeep(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.onnx"), filepath.Join(dir, "b.onnx")
	if _, err := Write(a, weighty(64), WriteOptions{External: ExternalAlways}); err != nil {
		t.Fatal(err)
	}
	m, err := Open(a, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := Stage(b, m, WriteOptions{External: ExternalKeep})
	if err != nil {
		t.Fatal(err)
	}
	if try, err := Open(s.Path(), Options{}); err != nil {
		t.Errorf("the staged model does not open: %v", err)
	} else {
		try.Close()
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(a)
	got, err := os.ReadFile(b)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy differs (%v)", err)
	}
	if diff := cmp.Diff([]string{"a.onnx", "a.onnx.data", "b.onnx"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func set(list []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range list {
		out[s] = true
	}
	return out
}

// TestStageAbort leaves nothing behind and the target untouched.
func TestStageAbort(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.onnx")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Stage(path, weighty(64), WriteOptions{External: ExternalAlways})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(s.Path(), Options{})
	if err != nil {
		t.Fatalf("the staged model does not open: %v", err)
	}
	m.Close()
	s.Abort()
	if diff := cmp.Diff([]string{"m.onnx"}, names(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if b, _ := os.ReadFile(path); string(b) != "old" {
		t.Errorf("target holds %q, want old", b)
	}
}

// TestExternalContainment refuses every way out of the model's folder.
func TestExternalContainment(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, make([]byte, 64*64*4), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, loc string
		prepare   func(dir string) error
	}{
		{"parent", "../" + filepath.Base(filepath.Dir(secret)) + "/secret", nil},
		{"absolute", secret, nil},
		{"backslash", `..\secret`, nil},
		{"symlink", "link", func(dir string) error { return os.Symlink(secret, filepath.Join(dir, "link")) }},
		{"hard link", "link", func(dir string) error { return os.Link(secret, filepath.Join(dir, "link")) }},
		{"folder link", "sub/secret", func(dir string) error { return os.Symlink(filepath.Dir(secret), filepath.Join(dir, "sub")) }},
		{"directory", "sub", func(dir string) error { return os.Mkdir(filepath.Join(dir, "sub"), 0o700) }},
		{"short", "short", func(dir string) error { return os.WriteFile(filepath.Join(dir, "short"), []byte("x"), 0o600) }},
		{"missing", "missing", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.prepare != nil {
				if err := c.prepare(dir); err != nil {
					t.Skipf("cannot make the link: %v", err)
				}
			}
			m := weighty(64)
			w := m.Graph.Initializers()[0]
			place := func(t *onnx.Tensor) *onnx.ExternalData {
				if t == w.Const {
					return &onnx.ExternalData{Location: c.loc, Length: 64 * 64 * 4}
				}
				return nil
			}
			r, err := (&encoder{place: place}).model(m)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "m.onnx")
			if err := writeFile(path, r, 0o600); err != nil {
				t.Fatal(err)
			}
			if m, err := Open(path, Options{}); err == nil {
				m.Close()
				t.Errorf("opened a model whose data is %q", c.loc)
			} else {
				t.Log(err)
			}
		})
	}
}
