package profile

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// StaticOptions direct [Static]; the zero value is the default.
type StaticOptions struct {
	// Dims gives dimensions a size: by symbol, or by place as "input[axis]"
	// where an input's dimension has no name. Those not given are taken as 1.
	Dims map[string]int64
	// Sparsity counts the zeros among the weights. It reads every weight.
	Sparsity bool
}

// StaticProfile is what a model's file says about its cost.
type StaticProfile struct {
	File        *File         `json:"file,omitempty"`            // the file that was read; absent for a model in memory
	IRVersion   int64         `json:"ir_version"`                // of the file format
	Producer    string        `json:"producer,omitempty"`        // program that exported the model, with its version
	Opsets      []Opset       `json:"opsets"`                    // operator sets that the model imports
	Inputs      []Port        `json:"inputs"`                    // in order, those with defaults left out
	Outputs     []Port        `json:"outputs"`                   // in order
	Dims        []Dim         `json:"dims,omitempty"`            // symbolic dimensions of the inputs and the sizes used for them
	Assumptions []string      `json:"assumptions,omitempty"`     // what the numbers rest on beyond the file, one sentence each
	NodeCount   int64         `json:"node_count" schema:"count"` // nodes, those of bodies included, those of local functions once per call
	Weights     Weights       `json:"weights"`                   // constants
	Work        Work          `json:"work"`                      // of one inference
	Formulas    *Formulas     `json:"formulas,omitempty"`        // the same over open dimensions; absent where all are given, or it depends on more
	Activations Activations   `json:"activations"`               // memory of computed values
	Coverage    Coverage      `json:"coverage"`                  // how many nodes the numbers include
	Arithmetic  []Arithmetic  `json:"arithmetic"`                // per element type computed in, most MACs first
	Operators   []OperatorSum `json:"operators"`                 // per operator, most frequent first
	Types       []TypeSum     `json:"types"`                     // per element type, the values that nodes compute, most bytes first
	Nodes       []Node        `json:"nodes"`                     // in execution order, each before the nodes of its bodies
}

// File is a model file and what lies beside it.
type File struct {
	Name          string `json:"name"`                                    // base name
	Bytes         int64  `json:"bytes" schema:"count"`                    // size of the model file
	ExternalBytes int64  `json:"external_bytes,omitempty" schema:"count"` // bytes of weights in other files
}

// Opset is one operator set import.
type Opset struct {
	Domain  string `json:"domain"`               // "ai.onnx" is the standard one
	Version int64  `json:"version"`              // as imported
	Nodes   int64  `json:"nodes" schema:"count"` // of its operators, those in local functions once per call
}

// Port is an input or output of the model.
type Port struct {
	Name string `json:"name"`           // of the value
	Type string `json:"type"`           // as declared, in the ONNX text form: float[N,3,224,224]
	Used string `json:"used,omitempty"` // with the sizes that the numbers are for, where these differ from the declaration
}

// Dim is a dimension that the model leaves open.
type Dim struct {
	Name    string `json:"name"`                 // the symbol, or "input[axis]" where it has none
	Value   int64  `json:"value" schema:"count"` // the size that the numbers are for
	Assumed bool   `json:"assumed"`              // nobody gave the size
}

// Work is arithmetic and traffic.
type Work struct {
	MACs         int64   `json:"macs" schema:"count"`          // multiply-accumulates of matrix products and convolutions
	FLOPs        int64   `json:"flops" schema:"count"`         // 2 per MAC plus one per elementwise arithmetic step
	BytesRead    int64   `json:"bytes_read" schema:"count"`    // packed size of what nodes read, constants included
	BytesWritten int64   `json:"bytes_written" schema:"count"` // packed size of what nodes write
	Intensity    float64 `json:"intensity"`                    // FLOPs per byte read or written; 0 where there is no traffic
}

func (w *Work) add(x Work, runs int64) {
	w.MACs = plus(w.MACs, times(x.MACs, runs))
	w.FLOPs = plus(w.FLOPs, times(x.FLOPs, runs))
	w.BytesRead = plus(w.BytesRead, times(x.BytesRead, runs))
	w.BytesWritten = plus(w.BytesWritten, times(x.BytesWritten, runs))
	w.Intensity = 0
	if bytes := plus(w.BytesRead, w.BytesWritten); bytes > 0 {
		w.Intensity = float64(w.FLOPs) / float64(bytes)
	}
}

// Arithmetic is what is computed in one element type.
type Arithmetic struct {
	Type  string `json:"type"`                 // in the ONNX text form; intN where integers of at most N bits are multiplied, "" where it is not known
	Nodes int64  `json:"nodes" schema:"count"` // with any arithmetic
	MACs  int64  `json:"macs" schema:"count"`  // of one inference
	FLOPs int64  `json:"flops" schema:"count"` // of one inference, integer operations counted alike
}

// Coverage says how much of a model the numbers include.
type Coverage struct {
	Nodes        int64        `json:"nodes" schema:"count"`   // all nodes
	Counted      int64        `json:"counted" schema:"count"` // nodes whose operator and sizes are known
	Percent      float64      `json:"percent"`                // counted of all, 100 for a model without nodes
	BytesPercent float64      `json:"bytes_percent"`          // traffic of the nodes counted, of all traffic as far as sizes are known; 100 where there is none
	Unknown      []UnknownSum `json:"unknown,omitempty"`      // what is missing, most frequent first
}

// UnknownSum is one operator that could not be counted.
type UnknownSum struct {
	Op     string `json:"op"`                   // with its domain unless that is the standard one
	Reason string `json:"reason"`               // what is not known
	Count  int64  `json:"count" schema:"count"` // nodes
}

// OperatorSum is the nodes of one operator.
type OperatorSum struct {
	Op         string `json:"op"`                        // with its domain unless that is the standard one
	Version    int64  `json:"version,omitempty"`         // of its operator set in which it got the form used; absent for an unknown operator and a local function
	Count      int64  `json:"count" schema:"count"`      // nodes
	MACs       int64  `json:"macs" schema:"count"`       // of one inference
	FLOPs      int64  `json:"flops" schema:"count"`      // of one inference
	Parameters int64  `json:"parameters" schema:"count"` // read by these nodes, shared ones once per reader
	Unknown    int64  `json:"unknown" schema:"count"`    // nodes that could not be counted
}

// TypeSum is tensors of one element type.
type TypeSum struct {
	Type     string `json:"type"`                    // in the ONNX text form
	Tensors  int64  `json:"tensors" schema:"count"`  // how many
	Elements int64  `json:"elements" schema:"count"` // in all of them, as far as sizes are known
	Bytes    int64  `json:"bytes" schema:"count"`    // packed size
}

// Node is one node and its cost per run.
type Node struct {
	Name       string   `json:"name"`                                  // as in the file; may be empty
	Label      string   `json:"label"`                                 // the name, or the operator and the place in the graph where it has none, with the path around it
	Op         string   `json:"op"`                                    // with its domain unless that is the standard one
	Path       string   `json:"path,omitempty"`                        // the nodes and bodies around it, "" in the main graph
	Inputs     []string `json:"inputs"`                                // types in the ONNX text form, "" for omitted ones
	Outputs    []string `json:"outputs"`                               // types in the ONNX text form, "" for omitted ones
	Reads      []string `json:"reads"`                                 // names of the values read, "" for omitted ones
	Gives      []string `json:"gives"`                                 // names of the values computed, "" for omitted ones
	Parameters int64    `json:"parameters" schema:"count"`             // elements of the weights read
	Work       Work     `json:"work"`                                  // of one run, bodies not included
	Arithmetic string   `json:"arithmetic,omitempty"`                  // element type computed in, intN for integers of at most N bits; absent where there is no arithmetic
	Absorbed   bool     `json:"absorbed,omitempty"`                    // a node that computes on integers takes it in: it costs nothing itself
	Nonzero    *int64   `json:"nonzero_macs,omitempty" schema:"count"` // MACs without those by a zero weight; absent unless zeros are counted
	Runs       int64    `json:"runs" schema:"count"`                   // how often it runs per inference: 0 in a branch that is not counted
	LiveBytes  int64    `json:"live_bytes" schema:"count"`             // activations alive while it runs, those around and within its bodies included
	Unknown    string   `json:"unknown,omitempty"`                     // why it is not counted in full; "" where it is
}

// StaticFile is [Static] of the model file at path. Weights are not read, and
// external files need not be there unless sparsity is asked for.
func StaticFile(path string, o StaticOptions) (*StaticProfile, error) {
	m, err := onnxfile.Open(path, onnxfile.Options{MissingExternalData: !o.Sparsity})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	s, err := Static(m, o)
	if err != nil {
		return nil, fmt.Errorf("profiling %s: %w", path, err)
	}
	s.File = &File{Name: filepath.Base(path), ExternalBytes: externalBytes(m)}
	if s.File.Bytes, err = fileSize(path); err != nil {
		return nil, fmt.Errorf("profiling %s: %w", path, err)
	}
	return s, nil
}

// Static counts what m costs; m is not changed. It fails only on options that
// do not fit m, or where sparsity is asked for and a weight cannot be read.
func Static(m *onnx.Model, o StaticOptions) (*StaticProfile, error) {
	s := &StaticProfile{IRVersion: m.IRVersion, Producer: strings.TrimSpace(m.ProducerName + " " + m.ProducerVersion), Opsets: []Opset{},
		Inputs: []Port{}, Outputs: []Port{}, Arithmetic: []Arithmetic{}, Operators: []OperatorSum{}, Types: []TypeSum{}, Nodes: []Node{}}
	for _, x := range m.Opsets {
		domain := x.Domain
		if onnx.NormalDomain(domain) == "" {
			domain = "ai.onnx"
		}
		s.Opsets = append(s.Opsets, Opset{Domain: domain, Version: x.Version})
	}
	if m.Graph == nil {
		s.Coverage.Percent, s.Coverage.BytesPercent = 100, 100
		s.Weights.Types = []TypeSum{}
		s.Assumptions = append(s.Assumptions, "the model has no graph")
		return s, nil
	}
	facts, err := s.resolve(m, o.Dims)
	if err != nil {
		return nil, err
	}
	s.ports(m.Graph, facts)
	w := newWeights(m, facts)
	if s.Weights, err = w.count(o.Sparsity); err != nil {
		return nil, err
	}
	walk := newWalk(m, facts, w)
	walk.graph(m.Graph, place{runs: 1})
	s.Activations = activations(walk, m.Graph)
	s.Nodes = append(s.Nodes, walk.rows...)
	walk.quantized.note(&walk.notes)
	s.Assumptions = append(s.Assumptions, walk.notes.list()...)
	if z := s.Weights.Sparsity; z != nil {
		z.weigh(s.Nodes, walk.nodes, w.nonzero)
	}
	s.sum(walk.versions)
	s.opsets(walk.nodes)
	s.Formulas = s.formulas(m, walk, o.Dims)
	s.Types = w.computed()
	return s, nil
}

// ports lists the model's inputs and outputs.
func (s *StaticProfile) ports(g *onnx.Graph, facts *opset.Facts) {
	list := func(values []*onnx.Value) []Port {
		out := []Port{}
		for _, v := range values {
			if v.IsInput() && v.Const != nil && !slices.Contains(g.Outputs(), v) {
				continue
			}
			p := Port{Name: v.Name(), Type: typeText(v.Type)}
			if used := typeText(facts.Type(v)); used != p.Type {
				p.Used = used
			}
			out = append(out, p)
		}
		return out
	}
	s.Inputs, s.Outputs = list(g.Inputs()), list(g.Outputs())
}

// sum adds up the nodes, whose operators got their form in versions.
func (s *StaticProfile) sum(versions []int64) {
	ops, types := map[string]*OperatorSum{}, map[string]*Arithmetic{}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		s.Work.add(n.Work, n.Runs)
		op := ops[n.Op]
		if op == nil {
			op = &OperatorSum{Op: n.Op, Version: versions[i]}
			ops[n.Op] = op
		}
		macs, flops := times(n.Work.MACs, n.Runs), times(n.Work.FLOPs, n.Runs)
		op.Count++
		op.MACs, op.FLOPs = plus(op.MACs, macs), plus(op.FLOPs, flops)
		op.Parameters = plus(op.Parameters, n.Parameters)
		if n.Unknown != "" {
			op.Unknown++
		}
		if n.Work.FLOPs == 0 {
			continue
		}
		a := types[n.Arithmetic]
		if a == nil {
			a = &Arithmetic{Type: n.Arithmetic}
			types[n.Arithmetic] = a
		}
		a.Nodes++
		a.MACs, a.FLOPs = plus(a.MACs, macs), plus(a.FLOPs, flops)
	}
	s.NodeCount = int64(len(s.Nodes))
	s.Coverage = coverageOf(s.Nodes)
	for _, op := range ops {
		s.Operators = append(s.Operators, *op)
	}
	slices.SortFunc(s.Operators, func(a, b OperatorSum) int { return first(int(b.Count-a.Count), strings.Compare(a.Op, b.Op)) })
	for _, a := range types {
		s.Arithmetic = append(s.Arithmetic, *a)
	}
	slices.SortFunc(s.Arithmetic, func(a, b Arithmetic) int {
		return first(cmp.Compare(b.MACs, a.MACs), cmp.Compare(b.FLOPs, a.FLOPs), strings.Compare(a.Type, b.Type))
	})
}

// coverageOf says how many of the nodes are counted, and of how much traffic.
func coverageOf(nodes []Node) Coverage {
	type missing struct{ op, reason string }
	unknown := map[missing]int64{}
	c := Coverage{Nodes: int64(len(nodes)), Counted: int64(len(nodes)), Percent: 100, BytesPercent: 100}
	var known, all int64
	for i := range nodes {
		n := &nodes[i]
		bytes := plus(n.Work.BytesRead, n.Work.BytesWritten)
		all = plus(all, bytes)
		if n.Unknown == "" {
			known = plus(known, bytes)
			continue
		}
		unknown[missing{n.Op, n.Unknown}]++
		c.Counted--
	}
	for k, n := range unknown {
		c.Unknown = append(c.Unknown, UnknownSum{Op: k.op, Reason: k.reason, Count: n})
	}
	slices.SortFunc(c.Unknown, func(a, b UnknownSum) int {
		return first(int(b.Count-a.Count), strings.Compare(a.Op, b.Op), strings.Compare(a.Reason, b.Reason))
	})
	if c.Nodes > 0 {
		c.Percent = 100 * float64(c.Counted) / float64(c.Nodes)
	}
	if all > 0 {
		c.BytesPercent = 100 * float64(known) / float64(all)
	}
	return c
}

// opsets counts the nodes of each operator set that is imported.
func (s *StaticProfile) opsets(nodes []*onnx.Node) {
	for _, n := range nodes {
		for i := range s.Opsets {
			if onnx.NormalDomain(s.Opsets[i].Domain) == onnx.NormalDomain(n.Domain) {
				s.Opsets[i].Nodes++
				break
			}
		}
	}
}

// first returns the first result of a comparison that is not 0.
func first(order ...int) int {
	for _, c := range order {
		if c != 0 {
			return c
		}
	}
	return 0
}

// typeText returns t in the ONNX text form; "" where nothing is known.
func typeText(t *onnx.Type) string {
	if t == nil || t.Kind == onnx.KindUnknown {
		return ""
	}
	return t.String()
}

// opText returns n's operator, with its domain unless that is the standard one.
func opText(n *onnx.Node) string {
	if d := onnx.NormalDomain(n.Domain); d != "" {
		return d + "." + n.Op
	}
	return n.Op
}
