package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// DiffSchemaURI names the JSON Schema of a difference of profiles; the schema
// itself is docs/schemas/profile-diff-v1.json.
const DiffSchemaURI = "https://lapidary-ml.github.io/schemas/profile-diff-v1.json"

// ProfileDiff is what differs between two profiles.
//
// Nodes are matched by the nodes of the model that they stand for: one that the
// engine, or a rewrite, fused from three others stands against these three. Two
// models' nodes are the same where they compute a value of the same name; what
// lies before it, back to values that both have, belongs to it. A group is the
// smallest set of nodes on both sides that belong together.
type ProfileDiff struct {
	Schema    string      `json:"schema"`                          // URI of the JSON Schema of this document
	A         DiffSide    `json:"a"`                               // the first profile
	B         DiffSide    `json:"b"`                               // the second profile
	Facts     []DiffFact  `json:"facts"`                           // counts, times and sizes that both have
	Operators []DiffGroup `json:"operators,omitempty"`             // by operator as the engine ran it, largest change first
	Nodes     []DiffGroup `json:"nodes,omitempty"`                 // groups of nodes, largest change first
	Matched   float64     `json:"matched_share" schema:"fraction"` // share of both sides' node time in groups that are on both sides
	Warnings  []Warning   `json:"warnings,omitempty"`              // what the comparison cannot say
}

// DiffSide is one of the two profiles.
type DiffSide struct {
	Path    string  `json:"path"`                   // of the document
	Model   string  `json:"model,omitempty"`        // file name
	Device  string  `json:"device,omitempty"`       // where it ran
	Threads int     `json:"threads" schema:"count"` // within an operator
	Batch   int     `json:"batch" schema:"count"`   // samples in one run
	NodesMS float64 `json:"nodes_ms,omitempty"`     // sum of the nodes' times; absent where there are none
}

// DiffFact is one quantity on both sides.
type DiffFact struct {
	Name  string      `json:"name"`                                        // what it is
	Unit  string      `json:"unit,omitempty" schema:"ms|bytes|per second"` // absent for a count
	A     float64     `json:"a"`                                           // of the first profile
	B     float64     `json:"b"`                                           // of the second
	ACI95 *[2]float64 `json:"a_ci95,omitempty"`                            // interval of the first, within its own runs
	BCI95 *[2]float64 `json:"b_ci95,omitempty"`                            // interval of the second, within its own runs
}

// DiffGroup is time on both sides that belongs together.
type DiffGroup struct {
	Name   string   `json:"name"`        // of the operator, or of the model's first node in the group
	A      []string `json:"a,omitempty"` // nodes of the first profile, each with its operator; absent where only the second has it
	B      []string `json:"b,omitempty"` // nodes of the second profile
	AMS    float64  `json:"a_ms"`        // their time per inference
	BMS    float64  `json:"b_ms"`        // their time per inference
	Change float64  `json:"change_ms"`   // B less A
	Share  float64  `json:"share"`       // of the change in the time of all nodes; above 1 or below 0 where groups cancel out
}

// diffDocument is what a comparison reads of a profile: other fields, also those
// of later versions, are left alone.
type diffDocument struct {
	Schema        string `json:"schema"`
	SchemaVersion string `json:"schemaVersion"`
	Static        *struct {
		File        *File       `json:"file"`
		NodeCount   int64       `json:"node_count"`
		Weights     Weights     `json:"weights"`
		Work        Work        `json:"work"`
		Activations Activations `json:"activations"`
		Nodes       []diffRow   `json:"nodes"`
	} `json:"static"`
	Timed *struct {
		Device     string      `json:"device"`
		Threads    int         `json:"threads"`
		Batch      int         `json:"batch"`
		Latency    Latency     `json:"latency"`
		Samples    float64     `json:"samples_per_second"`
		Cold       Cold        `json:"cold"`
		Memory     *Memory     `json:"memory"`
		Nodes      []diffNode  `json:"nodes"`
		Operators  []GroupTime `json:"operators"`
		Accounting *struct {
			NodesMS float64 `json:"nodes_ms"`
		} `json:"accounting"`
	} `json:"timed"`
}

// diffRow is a node of the model.
type diffRow struct {
	Name  string   `json:"name"`
	Op    string   `json:"op"`
	Path  string   `json:"path"`
	Reads []string `json:"reads"`
	Gives []string `json:"gives"`
}

// diffNode is a timed node.
type diffNode struct {
	Name     string   `json:"name"`
	Op       string   `json:"op"`
	Original string   `json:"original"`
	Covers   []string `json:"covers"` // all nodes of the model that it stands for, where the profile tells
	Serves   string   `json:"serves"`
	Inside   string   `json:"inside"`
	MS       float64  `json:"ms"`
	Launch   bool     `json:"launch"`
}

// IsProfile reports whether a file begins like a JSON document, which no model does.
func IsProfile(path string) bool {
	f, _, err := readfile.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 64)
	n, _ := f.Read(head)
	return strings.HasPrefix(strings.TrimLeft(string(head[:n]), " \t\r\n\ufeff"), "{")
}

// DiffFiles compares two profiles, as "lapidary profile --format json" writes them.
func DiffFiles(pathA, pathB string) (*ProfileDiff, error) {
	a, err := readProfile(pathA)
	if err != nil {
		return nil, err
	}
	b, err := readProfile(pathB)
	if err != nil {
		return nil, err
	}
	d := &ProfileDiff{Schema: DiffSchemaURI, A: a.side(pathA), B: b.side(pathB), Facts: []DiffFact{}}
	if a.Static != nil && b.Static != nil {
		d.static(a, b)
	}
	if a.Timed != nil && b.Timed != nil {
		d.timed(a, b)
	}
	if len(d.Facts) == 0 {
		return nil, fmt.Errorf("comparing %s and %s: they have no part in common", pathA, pathB)
	}
	return d, nil
}

// maxProfile bounds a profile that is read, in bytes: about a kilobyte for each of 500,000 nodes.
const maxProfile = 512 << 20

func readProfile(path string) (*diffDocument, error) {
	b, err := readfile.All(path, maxProfile)
	if err != nil {
		return nil, err
	}
	var d diffDocument
	if err := json.Unmarshal(bytes.TrimPrefix(b, []byte("\ufeff")), &d); err != nil {
		return nil, fmt.Errorf("reading %s: not a profile: %v; write one with: lapidary profile MODEL --format json", path, err)
	}
	major, _, _ := strings.Cut(d.SchemaVersion, ".")
	if d.Schema != SchemaURI || major != "1" {
		return nil, fmt.Errorf("reading %s: its schema is %q, version %q, not a profile of version 1; write one with: lapidary profile MODEL --format json", path, d.Schema, d.SchemaVersion)
	}
	return &d, nil
}

func (d *diffDocument) side(path string) DiffSide {
	s := DiffSide{Path: path}
	if d.Static != nil && d.Static.File != nil {
		s.Model = d.Static.File.Name
	}
	if t := d.Timed; t != nil {
		s.Device, s.Threads, s.Batch = t.Device, t.Threads, max(1, t.Batch)
		for _, n := range t.Nodes {
			s.NodesMS += n.MS
		}
	}
	return s
}

func (d *ProfileDiff) fact(name, unit string, a, b float64) {
	d.Facts = append(d.Facts, DiffFact{Name: name, Unit: unit, A: a, B: b})
}

func (d *ProfileDiff) static(a, b *diffDocument) {
	x, y := a.Static, b.Static
	d.fact("parameters", "", float64(x.Weights.Parameters), float64(y.Weights.Parameters))
	d.fact("nodes", "", float64(x.NodeCount), float64(y.NodeCount))
	d.fact("MACs", "", float64(x.Work.MACs), float64(y.Work.MACs))
	d.fact("FLOPs", "", float64(x.Work.FLOPs), float64(y.Work.FLOPs))
	d.fact("weights", "bytes", float64(x.Weights.Bytes), float64(y.Weights.Bytes))
	d.fact("activations", "bytes", float64(x.Activations.PeakBytes), float64(y.Activations.PeakBytes))
}

func (d *ProfileDiff) timed(a, b *diffDocument) {
	x, y := a.Timed, b.Timed
	for _, q := range []struct {
		name string
		a, b *Quantile
	}{{"p50", x.Latency.P50, y.Latency.P50}, {"p90", x.Latency.P90, y.Latency.P90}, {"p95", x.Latency.P95, y.Latency.P95}, {"p99", x.Latency.P99, y.Latency.P99}} {
		if q.a != nil && q.b != nil {
			d.Facts = append(d.Facts, DiffFact{Name: "latency " + q.name, Unit: "ms", A: q.a.MS, B: q.b.MS, ACI95: &q.a.CI95, BCI95: &q.b.CI95})
		}
	}
	if x.Samples > 0 && y.Samples > 0 {
		d.fact("samples", "per second", x.Samples, y.Samples)
	}
	d.fact("open", "ms", x.Cold.OpenMS, y.Cold.OpenMS)
	d.fact("first run", "ms", x.Cold.FirstRunMS, y.Cold.FirstRunMS)
	if x.Memory != nil && y.Memory != nil {
		d.fact("peak memory", "bytes", float64(x.Memory.PeakBytes), float64(y.Memory.PeakBytes))
	}
	warn := func(code, format string, args ...any) {
		d.Warnings = append(d.Warnings, Warning{Code: code, Severity: "warn", Message: fmt.Sprintf(format, args...)})
	}
	warn("taken-apart", "the two were measured at different times: a difference may be the machine's; lapidary validate A B times both in turn")
	if d.A.Device != d.B.Device || d.A.Threads != d.B.Threads || d.A.Batch != d.B.Batch {
		warn("other-settings", "they ran under other settings: device %s against %s, %d threads against %d, batch %d against %d",
			orCPU(d.A.Device), orCPU(d.B.Device), d.A.Threads, d.B.Threads, d.A.Batch, d.B.Batch)
	}
	if slices.ContainsFunc(slices.Concat(x.Nodes, y.Nodes), func(n diffNode) bool { return n.Launch }) {
		warn("launch-times", "times of nodes on another device are those of launching them")
	}
	if len(x.Nodes) > 0 && len(y.Nodes) > 0 {
		d.Operators = operatorGroups(x.Operators, y.Operators)
		d.Nodes, d.Matched = nodeGroups(a, b)
		total := d.B.NodesMS - d.A.NodesMS
		for _, list := range [][]DiffGroup{d.Operators, d.Nodes} {
			finish(list, total)
		}
	}
}

func orCPU(device string) string {
	if device == "" {
		return "cpu"
	}
	return device
}
