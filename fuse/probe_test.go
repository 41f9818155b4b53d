package fuse_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// TestProbe asks ONNX Runtime's CPU provider for kernels that it is known to
// have, to lack, and to replace by a function's body.
func TestProbe(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "sub", "kernels.json")
	opened := 0
	open := runtimeOpener(t)
	p := &fuse.Prober{Cache: cache, Open: func(ctx context.Context, path string, o session.Options) (session.Session, error) {
		opened++
		return open(ctx, path, o)
	}}
	kernel := p.Kernel(t.Context())
	for _, c := range []struct {
		domain, op string
		version    int64
		elem       onnx.DType
		want       bool
	}{
		{"", "LayerNormalization", 17, onnx.Float, true},
		{"", "Attention", 23, onnx.Float, true},
		{"", "RotaryEmbedding", 23, onnx.Float, true},
		{"", "Mish", 18, onnx.Float, false},      // runs as its function's body
		{"", "Attention", 22, onnx.Float, false}, // came later
		{"com.microsoft", "SkipLayerNormalization", 1, onnx.Float, true},
		{"com.microsoft", "EmbedLayerNormalization", 1, onnx.Float, true},
		{"com.microsoft", "MultiHeadAttention", 1, onnx.Float, true},
		{"com.microsoft", "MultiHeadAttention", 1, onnx.Double, false},
		{"com.microsoft", "GroupQueryAttention", 1, onnx.Float, true},
		{"com.microsoft", "MatMulNBits", 1, onnx.Float, true},
		{"com.microsoft", "MatMulNBits", 1, onnx.Float16, true},
		{"com.microsoft", "MatMulNBits", 1, onnx.Double, false},
		{"com.microsoft", "NhwcConv", 1, onnx.Float, false}, // a GPU's
	} {
		if got := kernel(c.domain, c.op, c.version, c.elem); got != c.want {
			t.Errorf("%s.%s-%d of %v: %v", c.domain, c.op, c.version, c.elem, got)
		}
	}
	asked := opened
	again := (&fuse.Prober{Cache: cache, Open: p.Open}).Kernel(t.Context())
	if !again("com.microsoft", "MultiHeadAttention", 1, onnx.Float) || again("", "Mish", 18, onnx.Float) || opened != asked {
		t.Errorf("the answers were not kept: %d sessions more", opened-asked)
	}
}

// TestProbeEmptyCache: whatever is in the file, answers can be kept.
func TestProbeEmptyCache(t *testing.T) {
	for _, text := range []string{"null", "", "{", "[]"} {
		cache := filepath.Join(t.TempDir(), "kernels.json")
		if err := os.WriteFile(cache, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &fuse.Prober{Cache: cache, Open: func(context.Context, string, session.Options) (session.Session, error) {
			return nil, errors.New("there is no engine")
		}}
		if p.Kernel(t.Context())("", "Gelu", 20, onnx.Float) {
			t.Errorf("with the cache %q: an engine that opens nothing has a kernel", text)
		}
	}
}
