package fuse

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/kernels"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Prober asks an engine which operators it computes itself. It loads a model of
// one node with the engine's optimizations off and looks at what the engine made
// of it: an operator that is refused, put on another device, or replaced by its
// function body has no kernel. Answers are kept.
type Prober struct {
	Open    session.Opener
	Session session.Options
	// Cache is a file that keeps answers between processes, "" for none. Answers
	// hold for one library and one device, so its name must tell them apart.
	Cache string

	known map[string]bool
}

// Kernel reports whether the engine has a kernel of an operator for element
// type d, in the form that [Target.Kernel] asks for.
func (p *Prober) Kernel(ctx context.Context) func(domain, op string, version int64, d onnx.DType) bool {
	p.load()
	return func(domain, op string, version int64, d onnx.DType) bool {
		key := onnx.NormalDomain(domain) + "." + op + " " + strconv.FormatInt(version, 10) + " " + d.String()
		has, ok := p.known[key]
		if !ok {
			has = p.probe(ctx, domain, op, version, d)
			if ctx.Err() == nil {
				p.known[key] = has
				p.save()
			}
		}
		return has
	}
}

// load reads the answers of earlier processes; a cache that cannot be read is an empty one.
func (p *Prober) load() {
	p.known = map[string]bool{}
	if b, err := readfile.All(p.Cache, 16<<20); err == nil && json.Unmarshal(b, &p.known) != nil || p.known == nil {
		p.known = map[string]bool{}
	}
}

// save is a convenience: what cannot be kept is asked again.
func (p *Prober) save() {
	if p.Cache == "" || os.MkdirAll(filepath.Dir(p.Cache), 0o755) != nil {
		return
	}
	if b, err := json.MarshalIndent(p.known, "", " "); err == nil {
		_ = atomicfile.WriteFile(p.Cache, b, 0o644)
	}
}

// probe loads the operator alone and looks for it in the graph that is to run.
func (p *Prober) probe(ctx context.Context, domain, op string, version int64, d onnx.DType) bool {
	m, err := specimen(domain, op, version, d)
	if err != nil {
		return false
	}
	o := p.Session
	o.Strict = true
	ops, _ := kernels.Loaded(ctx, p.Open, o, m)
	return slices.Contains(ops, kernels.Op{Domain: onnx.NormalDomain(domain), Name: op})
}

// specimen returns a model of one node: the operator with its required inputs,
// of element type d where the operator does not fix another, and its required
// attributes. Shapes are left unknown, since kernels are chosen by type.
func specimen(domain, op string, version int64, d onnx.DType) (*onnx.Model, error) {
	row := opset.Lookup(domain, op, version)
	if row == nil {
		return nil, fmt.Errorf("there is no operator %s at version %d", op, version)
	}
	m := onnx.NewModel(version)
	if dom := onnx.NormalDomain(domain); dom != "" {
		m.Opsets = []onnx.Opset{{Version: 17}, {Domain: dom, Version: max(version, 1)}}
	}
	var in []*onnx.Value
	for i, s := range row.Inputs {
		if s.Optional {
			in = append(in, nil)
			continue
		}
		elem := slotType(s.Name, d)
		switch {
		case op == "MatMulNBits" && s.Name == "B":
			elem = onnx.Uint8 // of packed codes
		case op == "GroupNorm" && i > 0:
			elem = onnx.Float // of its parameters, whatever it normalizes
		}
		in = append(in, m.Graph.AddInput("in"+strconv.Itoa(i), onnx.TensorType(elem, nil)))
	}
	outputs := []string{"out"}
	if op == "EmbedLayerNormalization" {
		outputs = append(outputs, "index") // its type inference wants it, optional or not
	}
	n := onnx.NewNode(op, in, outputs...)
	n.TrimInputs()
	n.Domain = domain
	for _, a := range row.Attrs {
		if a.Required {
			n.Attrs = append(n.Attrs, sampleAttr(a))
		}
	}
	m.Graph.Append(n)
	n.Output(0).Type = onnx.TensorType(d, nil)
	m.Graph.AddOutput(n.Output(0))
	return m, nil
}

// slotType is the element type of the input that operators call name.
func slotType(name string, d onnx.DType) onnx.DType {
	switch name {
	case "input_ids", "segment_ids", "mask", "mask_index", "seqlens_k", "total_sequence_length":
		return onnx.Int32
	case "position_ids", "nonpad_kv_seqlen":
		return onnx.Int64
	}
	return d
}

// sampleAttr is a value that every operator accepts for a required attribute.
func sampleAttr(a opset.AttrSpec) *onnx.Attr {
	switch a.Type {
	case onnx.AttrString:
		return onnx.StringAttr(a.Name, "Relu")
	case onnx.AttrFloat:
		return onnx.FloatAttr(a.Name, 1)
	case onnx.AttrInts:
		return onnx.IntsAttr(a.Name, 1)
	}
	if a.Name == "block_size" || a.Name == "K" {
		return onnx.IntAttr(a.Name, 32)
	}
	return onnx.IntAttr(a.Name, 1)
}
