package validate

import (
	"testing"
	"time"
)

// TestClockJumps: a report never ends before it began, and its duration is what passed.
func TestClockJumps(t *testing.T) {
	began := time.Now()
	if got := finished(began, began.Add(3*time.Second)).Sub(began); got != 3*time.Second {
		t.Errorf("it took %v", got)
	}
	wall := began.Round(0) // without the monotonic clock, as an injected clock is
	if got := finished(wall, wall.Add(-time.Hour)); got.Before(wall) {
		t.Errorf("it ended at %v and began at %v", got, wall)
	}
}
