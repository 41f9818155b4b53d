package onnx

import "sync"

// fewFunctions is up to how many local functions are looked through one by one.
const fewFunctions = 16

// functionIndex finds local functions by what a call names. It is made again when
// the list of functions is another one. It is safe for concurrent use.
type functionIndex struct {
	mu    sync.Mutex
	first **Function
	len   int
	by    map[functionKey]*Function
}

type functionKey struct{ domain, name, overload string }

func (x *functionIndex) find(list []*Function, n *Node) *Function {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.first != &list[0] || x.len != len(list) {
		x.first, x.len, x.by = &list[0], len(list), make(map[functionKey]*Function, len(list))
		for _, f := range list {
			key := functionKey{NormalDomain(f.Domain), f.Name, f.Overload}
			if x.by[key] == nil { // the first one holds
				x.by[key] = f
			}
		}
	}
	return x.by[functionKey{NormalDomain(n.Domain), n.Op, n.Overload}]
}
