package fuse

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// ByRuntime returns a [Large] that runs the node alone, as a model of its own,
// with an engine.
func ByRuntime(open session.Opener, o session.Options) Large {
	o.Level = session.LevelOff
	return func(ctx context.Context, n *onnx.Node, version int64, inputs []*onnx.Tensor) ([]*onnx.Tensor, error) {
		dir, err := os.MkdirTemp("", "lapidary-fold-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		m, feed := alone(n, version, inputs)
		path := filepath.Join(dir, "node.onnx")
		if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{Perm: 0o600}); err != nil {
			return nil, err
		}
		s, err := open(ctx, path, o)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		r, err := s.Run(ctx, feed)
		if err != nil {
			return nil, err
		}
		out := make([]*onnx.Tensor, len(n.Outputs()))
		for i := range out {
			out[i] = r.Outputs["out"+strconv.Itoa(i)]
			if v := n.Output(i); out[i] == nil && v != nil {
				return nil, fmt.Errorf("the engine gave no tensor for output %q", v.Name())
			}
		}
		return out, nil
	}
}

// alone returns a model of the single node n and what to feed it.
func alone(n *onnx.Node, version int64, inputs []*onnx.Tensor) (*onnx.Model, map[string]*onnx.Tensor) {
	m := onnx.NewModel(max(version, 1))
	if d := onnx.NormalDomain(n.Domain); d != "" {
		m.Opsets = []onnx.Opset{{Version: 17}, {Domain: d, Version: max(version, 1)}}
	}
	feed := map[string]*onnx.Tensor{}
	in := make([]*onnx.Value, len(inputs))
	for i, t := range inputs {
		if t == nil {
			continue
		}
		name := "in" + strconv.Itoa(i)
		in[i] = m.Graph.AddInput(name, t.Type())
		feed[name] = t.Renamed(name)
	}
	names := make([]string, len(n.Outputs()))
	for i, v := range n.Outputs() {
		if v != nil {
			names[i] = "out" + strconv.Itoa(i)
		}
	}
	c := onnx.CloneNodeInto(n, in, names, nil)
	m.Graph.Append(c)
	for i, v := range c.Outputs() {
		if v != nil {
			if t := n.Output(i).Type; t != nil {
				v.Type = onnx.TensorType(t.Elem, nil)
			}
			m.Graph.AddOutput(v)
		}
	}
	return m, feed
}
