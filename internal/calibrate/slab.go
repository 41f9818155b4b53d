package calibrate

import (
	"sync"

	"github.com/lapidary-ml/lapidary/internal/session"
)

// slab is memory that the outputs of one run are written into.
type slab struct {
	parts [][]byte
	next  int
}

// alloc is for [session.Placer].
func (s *slab) alloc(n int) ([]byte, error) {
	if s.next == len(s.parts) {
		s.parts = append(s.parts, nil)
	}
	if cap(s.parts[s.next]) < n {
		s.parts[s.next] = make([]byte, n)
	}
	s.next++
	return s.parts[s.next-1][:n], nil
}

// slabs are those that no run needs any more. Without them, each run would take new
// memory for all activations, which costs time, and as much again until it is collected.
type slabs struct {
	mu   sync.Mutex
	free []*slab
}

// place has the next run of s write into a slab, which the caller puts back once it
// has read the outputs; nil where s cannot.
func (p *slabs) place(s session.Session) *slab {
	placer, ok := s.(session.Placer)
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := &slab{}
	if n := len(p.free); n > 0 {
		out, p.free = p.free[n-1], p.free[:n-1]
	}
	out.next = 0
	placer.Place(out.alloc)
	return out
}

func (p *slabs) put(s *slab) {
	if s == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, s)
}
