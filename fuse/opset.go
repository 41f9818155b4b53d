package fuse

import (
	"context"
	"fmt"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/upgrade"
)

// raise brings the model to a later opset, where more operators exist that
// arithmetic can be recognised as.
type raise struct {
	to     int64 // 0: leave it
	target *Target
}

func (raise) Name() string { return "opset" }

// Doc says what the pass does.
func (raise) Doc() string { return "raises the standard opset, on request" }

// Run raises the opset, once; a second run finds it raised. It is one firing:
// operators of two opsets cannot stand in one graph, so that no part of it can be
// left out.
func (r raise) Run(_ context.Context, m *onnx.Model, e *rewrite.Env) error {
	if !e.AllowPart("opset", "the model") {
		return nil
	}
	if most := r.target.runtime().opset; most > 0 && r.to > most {
		return fmt.Errorf("the target %s reads opsets up to %d, as documented; give --opset %d or less", r.target.name(), most, most)
	}
	site, before := e.AtPart("opset", "the model", "the model"), size(m)
	notices, err := upgrade.To(m, r.to)
	if err != nil || len(notices) == 0 {
		return err
	}
	e.Log.Notices = append(e.Log.Notices, notices...)
	return e.Fired("opset", site, 0, size(m)-before, strings.Join(notices, "; "))
}

// size returns the number of nodes of m, those of subgraphs and functions included.
func size(m *onnx.Model) int {
	n := 0
	for _, g := range m.Graphs() {
		n += g.Len()
	}
	return n
}
