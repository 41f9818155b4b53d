package onnx

import (
	"strconv"
	"strings"
)

// Model is a whole ONNX model. Fields may be set freely; graphs are changed
// through the methods of [Graph] and [Node].
type Model struct {
	IRVersion       int64
	Opsets          []Opset
	ProducerName    string
	ProducerVersion string
	Domain          string
	ModelVersion    int64
	Doc             string
	Meta            []Entry // metadata_props, in file order
	Graph           *Graph
	Functions       []*Function

	Training      [][]byte // encoded TrainingInfoProto messages, passed through
	Configuration [][]byte // encoded DeviceConfigurationProto messages, passed through
	Unknown       []byte   // fields this package does not know, as encoded

	closer    func() error
	functions *functionIndex // nil: none was added
	names     map[string]struct{}
	next      map[string]int
	edits     int
}

// Opset is one opset import; Domain "" is the standard ONNX domain.
type Opset struct {
	Domain  string
	Version int64
	Unknown []byte
}

// Function is a model-local function. Its body's inputs and outputs are the
// function's formal parameters and carry no types of their own.
type Function struct {
	Name         string
	Domain       string
	Overload     string
	Doc          string
	Attrs        []string // required attributes
	AttrDefaults []*Attr  // attributes with defaults
	Opsets       []Opset
	Body         *Graph
	Meta         []Entry
	Unknown      []byte
}

// NewModel returns an empty model of IR version 8 that imports the standard
// opset at the given version.
func NewModel(opset int64) *Model {
	m := &Model{IRVersion: 8, Opsets: []Opset{{Version: opset}}}
	m.Graph = NewGraph("main")
	m.Graph.model = m
	return m
}

// NormalDomain returns "" for either spelling of the standard domain, "" and "ai.onnx".
func NormalDomain(d string) string {
	if d == "ai.onnx" {
		return ""
	}
	return d
}

// OpsetVersion returns the version that m imports of a domain, 0 if it does not.
func (m *Model) OpsetVersion(domain string) int64 { return opsetVersion(m.Opsets, domain) }

// OpsetVersion returns the version that f imports of a domain, 0 if it does not.
func (f *Function) OpsetVersion(domain string) int64 { return opsetVersion(f.Opsets, domain) }

func opsetVersion(opsets []Opset, domain string) int64 {
	domain = NormalDomain(domain)
	for _, o := range opsets {
		if NormalDomain(o.Domain) == domain {
			return o.Version
		}
	}
	return 0
}

// ImportOpset makes m import domain at no less than version.
func (m *Model) ImportOpset(domain string, version int64) {
	for i, o := range m.Opsets {
		if NormalDomain(o.Domain) == NormalDomain(domain) {
			m.Opsets[i].Version = max(o.Version, version)
			return
		}
	}
	m.Opsets = append(m.Opsets, Opset{Domain: domain, Version: version})
}

// FindFunction returns the local function that n calls, or nil.
func (m *Model) FindFunction(n *Node) *Function {
	if len(m.Functions) > fewFunctions && m.functions != nil {
		return m.functions.find(m.Functions, n)
	}
	for _, f := range m.Functions {
		if f.Name == n.Op && NormalDomain(f.Domain) == NormalDomain(n.Domain) && f.Overload == n.Overload {
			return f
		}
	}
	return nil
}

// MetaValue returns the metadata_props entry under key.
func (m *Model) MetaValue(key string) (string, bool) {
	for _, e := range m.Meta {
		if e.Key == key {
			return e.Value, true
		}
	}
	return "", false
}

// SetMeta sets the metadata_props entry under key.
func (m *Model) SetMeta(key, value string) {
	for i, e := range m.Meta {
		if e.Key == key {
			m.Meta[i].Value = value
			return
		}
	}
	m.Meta = append(m.Meta, Entry{key, value})
}

// Graphs returns every graph of the model: the main graph, the function
// bodies, and all subgraphs below them, each before its subgraphs.
func (m *Model) Graphs() []*Graph {
	var out []*Graph
	if m.Graph != nil {
		out = append(out, m.Graph)
	}
	for _, f := range m.Functions {
		if f.Body != nil {
			out = append(out, f.Body)
		}
	}
	for i := 0; i < len(out); i++ {
		for n := out[i].first; n != nil; n = n.next {
			for _, a := range n.Attrs {
				out = append(out, a.Subgraphs()...)
			}
		}
	}
	return out
}

// Edits returns a number that grows with every change of m's graphs by a
// method of this package.
func (m *Model) Edits() int { return m.edits }

// touch counts a change of g.
func (g *Graph) touch() {
	if g != nil && g.model != nil {
		g.model.edits++
	}
}

// OnClose registers what releases the storage behind the model's tensors.
func (m *Model) OnClose(f func() error) { m.closer = f }

// Close releases the storage behind the model's tensors (mapped files). No
// tensor content may be used afterwards.
func (m *Model) Close() error {
	if m == nil || m.closer == nil {
		return nil
	}
	f := m.closer
	m.closer = nil
	return f()
}

// Fresh returns a value name based on hint that no graph of the model uses,
// and reserves it. The same calls on equal models give the same names.
func (m *Model) Fresh(hint string) string {
	m.collectNames()
	if hint == "" {
		hint = "v"
	}
	base := strings.TrimRight(hint, "0123456789")
	if base == "" || !strings.HasSuffix(base, "_") || base == hint {
		base = hint + "_"
	}
	if _, taken := m.names[hint]; !taken {
		m.names[hint] = struct{}{}
		return hint
	}
	for {
		m.next[base]++
		name := base + strconv.Itoa(m.next[base])
		if _, taken := m.names[name]; !taken {
			m.names[name] = struct{}{}
			return name
		}
	}
}

// collectNames gathers the names in use, once.
func (m *Model) collectNames() {
	if m.names != nil {
		return
	}
	m.names, m.next = map[string]struct{}{}, map[string]int{}
	for _, g := range m.Graphs() {
		for v := range g.Values() {
			m.names[v.name] = struct{}{}
		}
		for _, v := range g.orphans {
			m.names[v.name] = struct{}{}
		}
	}
}
