package profile

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/lapidary-ml/lapidary/internal/device"
)

const (
	streamTime  = 100 * time.Millisecond // of one stream on one footprint
	leastPasses = 16                     // neighbours on a shared machine take their part of most of them
	leastMemory = 64 << 20               // bytes of one array that stands for main memory
	mostMemory  = 512 << 20
)

// measureBandwidth measures the streams on footprints of a core's own cache, of
// a shared one, and of main memory.
func measureBandwidth(ctx context.Context, threads int, m device.Machine) []Bandwidth {
	array := int64(max(leastMemory, min(mostMemory, 4*m.CPU.Cache)))
	if limit := m.Limits.Memory; limit > 0 {
		array = min(array, limit/12)
	}
	var out []Bandwidth
	for _, total := range []int64{256 << 10, 4 << 20, 3 * array} {
		if ctx.Err() != nil {
			break
		}
		b := Bandwidth{Bytes: total, One: streams(1, total)}
		if b.All = b.One; threads > 1 {
			b.All = streams(threads, total)
		}
		out = append(out, b)
	}
	return out
}

// streams measures three arrays of a third of a footprint each, of which every
// thread has its part.
func streams(threads int, total int64) Streams {
	n := int(total / 24 / int64(threads)) // numbers of 8 bytes in one array of one thread
	parts := make([]stream, threads)
	var s Streams
	crew(threads, func(i int) { parts[i] = newStream(n) })
	s.Read = rate(threads, 3*8*n, func(i int) { parts[i].read() })
	s.Copy = rate(threads, 2*8*n, func(i int) { parts[i].copy() })
	s.Triad = rate(threads, 3*8*n, func(i int) { parts[i].triad() })
	return s
}

// crew runs f on threads of their own and waits for all.
func crew(threads int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			f(i)
		})
	}
	wg.Wait()
}

// rate is the best of several passes in 10^9 bytes per second; a pass repeats f
// until it takes long enough that starting the threads does not matter.
func rate(threads, perThread int, f func(i int)) float64 {
	repeat, passes, best := 1, 0, 0.
	for began := time.Now(); time.Since(began) < streamTime || passes < leastPasses; {
		t := time.Now()
		crew(threads, func(i int) {
			for range repeat {
				f(i)
			}
		})
		d := time.Since(t)
		if d < 2*time.Millisecond && repeat < 1<<20 {
			repeat *= 2
			continue
		}
		passes++
		best = max(best, float64(threads)*float64(perThread)*float64(repeat)/d.Seconds()/1e9)
	}
	return best
}

// stream is one thread's part of three arrays in one piece of memory.
type stream struct{ all, a, b, c []float64 }

func newStream(n int) stream {
	all := make([]float64, 3*n)
	for i := range all {
		all[i] = 1 // touched where it will be used
	}
	return stream{all, all[:n:n], all[n : 2*n : 2*n], all[2*n:]}
}

// read looks for a byte that is not there, which the library does in the widest
// registers. The arrays hold 1 and, after a triad, 4: bytes 00, 10, 3f, 40, f0.
func (s stream) read() {
	if len(s.all) > 0 && bytes.IndexByte(unsafe.Slice((*byte)(unsafe.Pointer(&s.all[0])), 8*len(s.all)), 0xaa) >= 0 {
		panic("profile: a byte that was never written")
	}
}

func (s stream) copy() { copy(s.a, s.b) }

// triad takes eight numbers at a time: one by one, the loop's own instructions
// and not the memory would bound it.
func (s stream) triad() {
	a, b, c := s.a, s.b, s.c
	for len(a) >= 8 && len(b) >= 8 && len(c) >= 8 {
		x, y, z := (*[8]float64)(a), (*[8]float64)(b), (*[8]float64)(c)
		x[0], x[1], x[2], x[3] = y[0]+3*z[0], y[1]+3*z[1], y[2]+3*z[2], y[3]+3*z[3]
		x[4], x[5], x[6], x[7] = y[4]+3*z[4], y[5]+3*z[5], y[6]+3*z[6], y[7]+3*z[7]
		a, b, c = a[8:], b[8:], c[8:]
	}
	for i := range a {
		a[i] = b[i] + 3*c[i]
	}
}

// clockGHz is the frequency of a busy core: additions and exclusive ors that
// each wait for the one before take one cycle each. 0 where the result is not that of a processor
// we know.
func clockGHz() float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const rounds = 1 << 12
	best := 0.
	for began := time.Now(); time.Since(began) < 50*time.Millisecond; {
		t := time.Now()
		spun = chain(spun, rounds)
		best = max(best, chainLength*rounds/float64(max(1, time.Since(t).Nanoseconds())))
	}
	if best < 0.2 || best > 8 {
		return 0
	}
	return best
}

// spun keeps the chain's result alive.
var spun uint64

// chainLength is the number of operations in one round of a chain.
const chainLength = 16

//go:noinline
func chain(x uint64, rounds int) uint64 {
	y := x | 1
	for range rounds {
		x += y
		x ^= y
		x += y
		x ^= y
		x += y
		x ^= y
		x += y
		x ^= y
		x += y
		x ^= y
		x += y
		x ^= y
		x += y
		x ^= y
		x += y
		x ^= y
	}
	return x
}
