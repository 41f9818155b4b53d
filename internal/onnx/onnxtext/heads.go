package onnxtext

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Heads formats nodes with a digest in the place of each body: of all nodes of a
// model in time linear in them, however deep bodies lie in bodies. It is for models
// that do not change meanwhile. The zero value is ready.
type Heads struct {
	digests map[*onnx.Graph]string
}

// Format returns n as [FormatNode] does but for its bodies, of which equal ones
// have equal digests.
func (h *Heads) Format(n *onnx.Node) string {
	var s strings.Builder
	if h.write(&s, func(p *printer) { p.node(n) }) != nil {
		return n.String()
	}
	return s.String()
}

// write prints one thing.
func (h *Heads) write(s *strings.Builder, what func(*printer)) error {
	b := bufio.NewWriterSize(s, 512)
	p := &printer{w: b, max: 8, heads: h}
	what(p)
	if p.err != nil {
		return p.err
	}
	return b.Flush()
}

// digest returns what stands for g.
func (h *Heads) digest(g *onnx.Graph) string {
	if d, ok := h.digests[g]; ok {
		return d
	}
	var s strings.Builder
	text := "unreadable"
	if h.write(&s, func(p *printer) { p.graph(g) }) == nil {
		sum := sha256.Sum256([]byte(s.String()))
		text = hex.EncodeToString(sum[:8])
	}
	if h.digests == nil {
		h.digests = map[*onnx.Graph]string{}
	}
	h.digests[g] = text
	return text
}
