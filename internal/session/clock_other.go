//go:build !windows

package session

import "time"

var started = time.Now()

// Clock reads a clock that only runs forward and is fine enough to time one run of a model.
func Clock() time.Duration { return time.Since(started) }
