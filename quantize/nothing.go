package quantize

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Nothing is the error of a model that has nothing to quantize: a copy of the
// original is no answer to the wish for a smaller or faster one.
type Nothing struct {
	Scheme string
	Reason string // why most of the nodes that came into question stay as they are; "" if none did
	Nodes  int    // how many of them
}

func (e *Nothing) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("not written, since it has no node that %s applies to", e.Scheme)
	}
	return fmt.Sprintf("not written, since nothing in it can be quantized by %s; of %d nodes: %s", e.Scheme, e.Nodes, e.Reason)
}

// nothingOf returns the error with the most frequent reason of a log.
func nothingOf(scheme string, l *rewrite.Log) *Nothing {
	e := &Nothing{Scheme: scheme}
	for _, r := range l.Summary() {
		if len(r.Reasons) > 0 && r.Reasons[0].Count > e.Nodes {
			e.Reason, e.Nodes = r.Reasons[0].Reason, r.Reasons[0].Count
		}
	}
	return e
}
