// Package parallel runs functions side by side without losing a panic: what goes
// wrong in a goroutine reaches who waits for it, where it can still be told to a
// user. Reading a mapped file that was cut off meanwhile goes wrong that way.
package parallel

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// Panic is what [Group.Wait] panics with.
type Panic struct {
	Value any    // what a function panicked with
	Stack []byte // where
}

func (p *Panic) Error() string { return fmt.Sprintf("%v\n%s", p.Value, p.Stack) }

// Group is a sync.WaitGroup whose Wait panics where one of its functions did; the
// first one counts. The zero value is ready.
type Group struct {
	wg     sync.WaitGroup
	once   sync.Once
	caught *Panic
}

// Go runs f in a goroutine. A fault of memory in it is a panic, not the end of the process.
func (g *Group) Go(f func()) {
	g.wg.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				g.once.Do(func() { g.caught = &Panic{r, debug.Stack()} })
			}
		}()
		debug.SetPanicOnFault(true)
		f()
	})
}

// Wait returns when all functions have.
func (g *Group) Wait() {
	g.wg.Wait()
	if g.caught != nil {
		panic(g.caught)
	}
}
