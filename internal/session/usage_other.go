//go:build !linux

package session

// Usage is what the calling process has used.
type Usage struct {
	Resident int64 // bytes resident now; 0: unknown
	Peak     int64 // most bytes resident so far; 0: unknown
	Switches int64 // involuntary context switches
}

// ReadUsage measures the calling process; on this platform nothing is known.
func ReadUsage() Usage { return Usage{} }
