package rewrite

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Firing is one rewrite that was done.
type Firing struct {
	Rule  string `json:"rule"`
	Node  string `json:"node"`           // the node that matched, or the input or "the model", as messages name it
	Graph string `json:"graph"`          // the graph it was in
	Key   string `json:"key"`            // names this firing in [Options].Skip
	Gone  int    `json:"removed"`        // nodes that nobody reads any more
	New   int    `json:"added"`          // nodes added
	Note  string `json:"note,omitempty"` // what a pass wants to say about it

	// What a rule took away and put in its place; absent for passes, which tell in Note.
	Took   []string `json:"removed_nodes,omitempty"` // as messages name nodes
	Gave   []string `json:"added_nodes,omitempty"`
	Before *Work    `json:"before,omitempty"` // of the nodes taken away; absent where a size is not known
	After  *Work    `json:"after,omitempty"`  // of the nodes added
}

// Work is what nodes cost in one run.
type Work struct {
	FLOPs int64 `json:"flops"`
	Bytes int64 `json:"bytes"` // read and written, constants included
}

// Refusal is a place where a rule matched and did not fire.
type Refusal struct {
	Rule   string `json:"rule"`
	Node   string `json:"node"`
	Graph  string `json:"graph"`
	Reason string `json:"reason"`
}

// Log records what rules did and why others did not.
type Log struct {
	Fired    []Firing  `json:"fired"`
	Declined []Refusal `json:"declined"` // from the last time each rule looked at each node
	Notices  []string  `json:"notices,omitempty"`

	keys keys
	last map[declineKey]int
}

type declineKey struct {
	rule string
	node *onnx.Node
}

// NewLog returns an empty log.
func NewLog() *Log {
	return &Log{keys: keys{map[string][]string{}, map[string]int{}}, last: map[declineKey]int{}}
}

func (l *Log) fired(f Firing, n *onnx.Node, match string) {
	l.keys.fired[match]++
	l.Fired = append(l.Fired, f)
	delete(l.last, declineKey{f.Rule, n})
}

func (l *Log) declined(rule string, n *onnx.Node, reason string) {
	r := Refusal{Rule: rule, Node: n.String(), Reason: reason}
	if g := n.Graph(); g != nil {
		r.Graph = g.Name
	}
	k := declineKey{rule, n}
	if i, ok := l.last[k]; ok {
		l.Declined[i] = r
		return
	}
	l.last[k] = len(l.Declined)
	l.Declined = append(l.Declined, r)
}

// settle drops refusals at nodes that are no longer in a graph.
func (l *Log) settle() {
	gone := map[int]bool{}
	for k, i := range l.last {
		if k.node.Graph() == nil {
			gone[i] = true
		}
	}
	kept := l.Declined[:0:0]
	for i, r := range l.Declined {
		if !gone[i] {
			kept = append(kept, r)
		}
	}
	l.Declined = kept
	l.last = map[declineKey]int{}
}

// Notice records something that concerns the whole model.
func (l *Log) Notice(format string, args ...any) {
	l.Notices = append(l.Notices, fmt.Sprintf(format, args...))
}
