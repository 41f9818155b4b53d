package session

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// Usage is what the calling process has used.
type Usage struct {
	Resident int64 // bytes resident now; 0: unknown
	Peak     int64 // most bytes resident so far; 0: unknown
	Switches int64 // involuntary context switches
}

// ReadUsage measures the calling process.
func ReadUsage() Usage {
	var u Usage
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		u.Resident, u.Peak = statusKiB(b, "VmRSS:"), statusKiB(b, "VmHWM:")
	}
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.Switches = int64(r.Nivcsw)
	}
	return u
}

// statusKiB returns a line of proc_pid_status(5) that is given in KiB, in bytes.
func statusKiB(status []byte, key string) int64 {
	_, rest, ok := bytes.Cut(status, []byte("\n"+key))
	if !ok {
		return 0
	}
	f := bytes.Fields(rest)
	if len(f) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(f[0]), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}
