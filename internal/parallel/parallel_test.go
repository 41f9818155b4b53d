package parallel

import (
	"strings"
	"sync/atomic"
	"testing"
)

func TestGroup(t *testing.T) {
	var g Group
	var n atomic.Int64
	for range 10 {
		g.Go(func() { n.Add(1) })
	}
	g.Wait()
	if n.Load() != 10 {
		t.Errorf("%d of 10 ran", n.Load())
	}
}

func TestPanic(t *testing.T) {
	defer func() {
		if p, ok := recover().(*Panic); !ok || p.Value != "broken" || !strings.Contains(string(p.Stack), "TestPanic") {
			t.Errorf("Wait panicked with %v, want broken", p)
		}
	}()
	var g Group
	var n atomic.Int64
	g.Go(func() { panic("broken") })
	g.Go(func() { n.Add(1) })
	g.Wait()
	t.Error("Wait returned")
}
