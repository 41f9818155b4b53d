package linalg

import (
	"runtime"
	"sync"
)

// stripe is how many columns are worked on at once.
const stripe = 128

// Stripes calls do for columns c0 to c1 until all n are done, on all processors.
// It is for columns that do not depend on each other.
func Stripes(n int, do func(c0, c1 int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(runtime.GOMAXPROCS(0), (n+stripe-1)/stripe) {
		wg.Go(func() {
			for c := range next {
				do(c, min(c+stripe, n))
			}
		})
	}
	for c := 0; c < n; c += stripe {
		next <- c
	}
	close(next)
	wg.Wait()
}
