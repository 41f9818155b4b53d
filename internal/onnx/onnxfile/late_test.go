package onnxfile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// counted is content that is computed when it is read: byte i is that of i·7.
type counted int64

func (c counted) Len() int64 { return int64(c) }

func (c counted) Bytes() ([]byte, error) {
	b := make([]byte, c)
	_, err := c.ReadAt(b, 0)
	return b, err
}

func (c counted) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(c) {
		return 0, io.ErrUnexpectedEOF
	}
	for i := range p {
		p[i] = byte((off + int64(i)) * 7)
	}
	return len(p), nil
}

// failing is content that cannot be computed.
type failing struct{ counted }

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("it is gone") }

// staged writes a model with computed and plain content, and metadata.
func staged(t *testing.T, meta string, big onnx.Data, o WriteOptions) (string, *Written, error) {
	t.Helper()
	m := weighty(64)
	for i, d := range []onnx.Data{big, make(onnx.Raw, 3*pieceSize/2), counted(5000)} {
		x, err := onnx.NewTensor(fmt.Sprintf("c%d", i), onnx.Uint8, []int64{d.Len()}, nil)
		if err != nil {
			x = &onnx.Tensor{Name: fmt.Sprintf("c%d", i), DType: onnx.Uint8, Shape: []int64{d.Len()}}
		}
		x.Data = d
		m.Graph.AddInitializer(x)
	}
	m.SetMeta("key", "before "+meta+" after")
	path := filepath.Join(t.TempDir(), "m.onnx")
	w, err := Write(path, m, o)
	return path, w, err
}

// TestLate: a text that comes while the content is written is where another stood
// for it, with the bytes and the digest that the file has if it is known before,
// whether or not content is computed.
func TestLate(t *testing.T) {
	const stands, text = "to-be-known-later-on", "known-by-now-at-last"
	for name, big := range map[string]onnx.Data{"computed": counted(3*pieceSize + 17), "plain": make(onnx.Raw, 2*pieceSize)} {
		t.Run(name, func(t *testing.T) {
			known, _, err := staged(t, text, big, WriteOptions{})
			if err != nil {
				t.Fatal(err)
			}
			late := &Late{Stands: stands, Text: func() (string, error) { return text, nil }}
			path, w, err := staged(t, stands, big, WriteOptions{Late: late, Digest: true})
			if err != nil {
				t.Fatal(err)
			}
			want, err1 := os.ReadFile(known)
			got, err2 := os.ReadFile(path)
			if err := errors.Join(err1, err2); err != nil || !bytes.Equal(want, got) {
				t.Errorf("%d bytes differ from the %d of the text known before (%v)", len(got), len(want), err)
			}
			if sum := fmt.Sprintf("%x", sha256.Sum256(got)); w.SHA256 != sum || w.Bytes != int64(len(got)) {
				t.Errorf("digest %s of %d bytes, want %s of %d", w.SHA256, w.Bytes, sum, len(got))
			}
			m, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			b, err := m.Graph.Initializers()[2].Const.Bytes()
			if all, _ := big.Bytes(); err != nil || !bytes.Equal(b, all) {
				t.Errorf("content differs (%v)", err)
			}
		})
	}
	for _, c := range []struct {
		meta, want string
		big        onnx.Data
		text       func() (string, error)
	}{
		{"nothing", "no place of its own", counted(5000), nil},
		{stands + stands, "no place of its own", counted(5000), nil},
		{stands, "never", counted(5000), func() (string, error) { return "", errors.New("never known") }},
		{stands, "5 bytes came", counted(5000), func() (string, error) { return "short", nil }},
		{stands, "it is gone", failing{3 * pieceSize}, func() (string, error) { return text, nil }},
	} {
		path, _, err := staged(t, c.meta, c.big, WriteOptions{Late: &Late{Stands: stands, Text: c.text}, Digest: true})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.meta, err, c.want)
		}
		if list := names(t, filepath.Dir(path)); len(list) > 0 {
			t.Errorf("%s: left behind: %v", c.meta, list)
		}
	}
}

// TestScratch: what is written replaces what is there, and who has that open keeps it.
func TestScratch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.onnx")
	if err := Scratch(path, weighty(32)); err != nil {
		t.Fatal(err)
	}
	old, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := Scratch(path, weighty(64)); err != nil {
		t.Fatal(err)
	}
	if b, err := old.Graph.Initializers()[0].Const.Bytes(); err != nil || len(b) != 4*32*32 {
		t.Errorf("%d bytes of the model that was replaced (%v)", len(b), err)
	}
	want, err := Encode(weighty(64))
	got, err2 := os.ReadFile(path)
	if err := errors.Join(err, err2); err != nil || !bytes.Equal(want, got) {
		t.Errorf("the model differs (%v)", err)
	}
	if err := Scratch(filepath.Join(path, "m.onnx"), weighty(4)); err == nil {
		t.Error("a path below a file was written")
	}
}
