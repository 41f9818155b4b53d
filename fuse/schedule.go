package fuse

import (
	"container/heap"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// task is a node to schedule.
type task struct {
	node  *onnx.Node
	at    int     // in the present order
	after []*task // what must come before it
	next  []*task // what must come after it
	reads []*span
	makes int64 // bytes of outputs

	waits int   // tasks that must be scheduled first
	grows int64 // bytes more that are alive once it is scheduled
	slot  int   // in the heap; -1 outside
}

// span is a value with its readers.
type span struct {
	bytes   int64
	readers map[*task]bool // forward: those that have not run
	kept    bool           // a graph output: alive at the end
	live    bool           // backward: something later reads it
}

// forward schedules from the beginning, the earliest in the file among equals.
func forward(facts *opset.Facts, g *onnx.Graph) []*onnx.Node {
	ready := &tasks{sign: 1}
	list := tasksOf(facts, g)
	for _, t := range list {
		t.waits, t.grows = len(t.after), t.makes
		for _, s := range t.reads {
			if len(s.readers) == 1 && !s.kept {
				t.grows -= s.bytes
			}
		}
	}
	return ready.run(list, func(t *task) []*task {
		for _, s := range t.reads {
			delete(s.readers, t)
			if len(s.readers) != 1 || s.kept {
				continue
			}
			for last := range s.readers { // running it now frees the value
				ready.grow(last, -s.bytes)
			}
		}
		return t.next
	})
}

// backward schedules from the end, the latest in the file among equals.
func backward(facts *opset.Facts, g *onnx.Graph) []*onnx.Node {
	ready := &tasks{sign: -1}
	list := tasksOf(facts, g)
	for _, t := range list {
		t.waits, t.grows = len(t.next), -t.makes
		for _, s := range t.reads {
			if s.live = s.kept; !s.live {
				t.grows += s.bytes
			}
		}
	}
	out := ready.run(list, func(t *task) []*task {
		for _, s := range t.reads {
			if s.live {
				continue
			}
			s.live = true
			for r := range s.readers {
				ready.grow(r, -s.bytes)
			}
		}
		return t.after
	})
	slices.Reverse(out)
	return out
}

// tasksOf describes the nodes of g, in their present order.
func tasksOf(facts *opset.Facts, g *onnx.Graph) []*task {
	byNode := make(map[*onnx.Node]*task, g.Len())
	var list []*task
	for n := range g.Nodes() {
		t := &task{node: n, at: len(list), slot: -1}
		list, byNode[n] = append(list, t), t
	}
	for _, t := range list {
		seen := map[*task]bool{}
		for _, p := range t.node.Needs() {
			if before := byNode[p]; !seen[before] {
				seen[before] = true
				before.next, t.after = append(before.next, t), append(t.after, before)
			}
		}
	}
	for made, spans := range facts.Liveness(nil).Spans(g, true, true) {
		for _, s := range spans {
			track(s, made, g, list, byNode)
		}
	}
	return list
}

// track adds the value of s, made at a position as [opset.Liveness.Spans] counts.
func track(s opset.Span, made int, g *onnx.Graph, list []*task, byNode map[*onnx.Node]*task) {
	v := &span{bytes: s.Bytes, readers: map[*task]bool{}, kept: s.Last >= len(list)}
	for _, u := range s.Value.Uses() {
		n := u.Node
		for n.Graph() != g {
			n = n.Graph().Owner()
		}
		v.readers[byNode[n]] = true
	}
	if s.Last < len(list) && s.Last >= made && !v.readers[list[s.Last]] {
		v.readers[list[s.Last]] = true // a body there hands it out
	}
	if made > 0 && (v.kept || len(v.readers) > 0) {
		list[made-1].makes += s.Bytes
	}
	for t := range v.readers {
		t.reads = append(t.reads, v)
	}
}

// tasks is a heap of those that may come next: the one that grows least is first,
// among equals the first in the file, or with sign -1 the last.
type tasks struct {
	list []*task
	sign int
}

// run schedules all: done is told each task and returns those that waited for it.
func (h *tasks) run(all []*task, done func(*task) []*task) []*onnx.Node {
	for _, t := range all {
		if t.waits == 0 {
			heap.Push(h, t)
		}
	}
	out := make([]*onnx.Node, 0, len(all))
	for h.Len() > 0 {
		t := heap.Pop(h).(*task)
		out = append(out, t.node)
		for _, n := range done(t) {
			if n.waits--; n.waits == 0 {
				heap.Push(h, n)
			}
		}
	}
	return out
}

// grow changes what t adds.
func (h *tasks) grow(t *task, bytes int64) {
	t.grows += bytes
	if t.slot >= 0 {
		heap.Fix(h, t.slot)
	}
}

func (h *tasks) Len() int { return len(h.list) }
func (h *tasks) Less(i, j int) bool {
	a, b := h.list[i], h.list[j]
	if a.grows != b.grows {
		return a.grows < b.grows
	}
	return a.at*h.sign < b.at*h.sign
}
func (h *tasks) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].slot, h.list[j].slot = i, j
}
func (h *tasks) Push(x any) {
	t := x.(*task)
	t.slot = len(h.list)
	h.list = append(h.list, t)
}
func (h *tasks) Pop() any {
	last := len(h.list) - 1
	t := h.list[last]
	t.slot = -1
	h.list = h.list[:last]
	return t
}
