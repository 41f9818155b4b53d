package session

import (
	"testing"
	"time"
)

// TestClock: it runs forward, as fast as time does, in steps of less than 50 microseconds.
func TestClock(t *testing.T) {
	began, at := time.Now(), Clock()
	finest, last := time.Hour, at
	for time.Since(began) < 50*time.Millisecond {
		now := Clock()
		if now < last {
			t.Fatalf("%v after %v", now, last)
		}
		if step := now - last; step > 0 {
			finest = min(finest, step)
		}
		last = now
	}
	if finest > 50*time.Microsecond {
		t.Errorf("it advances by %v", finest)
	}
	if d := last - at; d < 30*time.Millisecond {
		t.Errorf("50 ms are %v", d)
	}
}
