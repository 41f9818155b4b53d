package profile

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Matching says how the nodes that ran belong to those of the model.
type Matching struct {
	Nodes   int      `json:"nodes" schema:"count"`    // of the model, without Constant and the bodies of local functions
	Ran     int      `json:"ran" schema:"count"`      // of them, those that a node that ran stands for
	Idle    int      `json:"idle" schema:"count"`     // those in bodies that did not run
	Folded  int      `json:"folded" schema:"count"`   // those that the engine computed when it loaded the model
	Dropped int      `json:"dropped" schema:"count"`  // the rest: removed as without effect, merged with an equal one, or not found
	Added   int      `json:"added" schema:"count"`    // nodes that ran and stand for none of the model
	By      string   `json:"by" schema:"graph|names"` // whether the engine's own graph or only names told what belongs together
	Silent  string   `json:"silent,omitempty"`        // why there was no graph of the engine
	Lost    []string `json:"lost,omitempty"`          // some of those dropped, at most 20
}

// identify says which nodes of the model n stands for.
func (r *recording) identify(n *ranNode) {
	var rows []int
	if l := r.lineage; l != nil && n.node != nil {
		rows = l.rows[n.node]
		if row, ok := l.serves[n.node]; ok && len(rows) == 0 {
			n.Serves = r.o.rows[row].Label
			return
		}
	}
	if row, ok := r.names[n.Name]; ok && len(rows) == 0 {
		rows = []int{row}
	}
	if len(rows) == 0 {
		return
	}
	lead := r.o.leading(rows, n.Op)
	n.Original, n.Rows = r.o.rows[lead].Label, rows
	if op := r.o.rows[lead].Op; op != n.Op {
		n.OriginalOp = op
	}
	if len(rows) > 1 {
		for _, row := range rows {
			n.Covers = append(n.Covers, r.o.rows[row].Label)
		}
	}
}

// matching counts what became of the nodes of the model; nil where it cannot be read.
func (r *recording) matching(nodes []ranNode) *Matching {
	if r.o == nil {
		return nil
	}
	m := &Matching{By: "names", Silent: r.silent}
	ran, known := map[int]bool{}, map[int]bool{}
	entered := map[*onnx.Graph]bool{}
	for i := range nodes {
		for _, row := range nodes[i].Rows {
			ran[row] = true
			entered[r.o.nodes[row].Graph()] = true
		}
		if len(nodes[i].Rows) == 0 {
			m.Added++
		}
	}
	if r.lineage != nil {
		m.By, known = "graph", r.lineage.taken
	}
	for row, n := range r.o.nodes {
		if n.Is("Constant") || n.Graph().InFunction() {
			continue
		}
		m.Nodes++
		switch {
		case ran[row]:
			m.Ran++
		case r.lineage != nil && r.lineage.folded[row]:
			m.Folded++
		case known[row] || n.Graph().Owner() != nil && !entered[n.Graph()]:
			m.Idle++
		default:
			m.Dropped++
			m.Lost = append(m.Lost, r.o.rows[row].Label)
		}
	}
	m.Lost = slices.Clip(m.Lost[:min(len(m.Lost), 20)])
	return m
}
