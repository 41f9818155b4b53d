package main

import (
	"errors"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/device"
)

// workerMemory is what --max-worker-memory says: MiB, 0 for no limit, or [autoMemory].
type workerMemory int64

// autoMemory ends the process of a model when hardly any memory is left.
const autoMemory workerMemory = -1

func (m *workerMemory) String() string {
	if *m == autoMemory {
		return "auto"
	}
	return strconv.FormatInt(int64(*m), 10)
}

// Set implements the interface of flags.
func (m *workerMemory) Set(text string) error {
	if text == "auto" {
		*m = autoMemory
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return errors.New("give a number of MiB, 0 for no limit, or auto")
	}
	*m = workerMemory(n)
	return nil
}

// Type implements the interface of flags.
func (m *workerMemory) Type() string { return "MiB" }

// bytes is what the kernel is told to allow the process; 0: any number.
func (m workerMemory) bytes() int64 { return int64(max(m, 0)) << 20 }

// free is what tells how much is left, nil where that does not matter.
func (m workerMemory) free() func() int64 {
	if m != autoMemory {
		return nil
	}
	return func() int64 { return device.FreeMemory(device.Options{}) }
}
