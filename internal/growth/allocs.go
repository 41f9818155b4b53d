package growth

import "runtime"

// Allocated is what a function allocated.
type Allocated struct {
	Objects, Bytes uint64
}

// Allocations calls f and returns what it, and what runs beside it, allocated. f is called once: what it needs is to be
// made before.
func Allocations(f func()) Allocated {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return Allocated{after.Mallocs - before.Mallocs, after.TotalAlloc - before.TotalAlloc}
}

// Doubling is how much more of twice the size than twice as much is still linear: maps and slices double their room
// now and then.
const Doubling = 1.3

// slack are allocations that do not depend on the size, such as those of the runtime itself.
const (
	slackObjects = 2_000
	slackBytes   = 256 << 10
)

// Linear reports whether large, allocated for twice the size, is no more than about twice small.
func (small Allocated) Linear(large Allocated) bool {
	return float64(large.Objects) <= 2*Doubling*float64(small.Objects)+slackObjects &&
		float64(large.Bytes) <= 2*Doubling*float64(small.Bytes)+slackBytes
}
