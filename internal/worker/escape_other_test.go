//go:build unix && !linux

package worker

// Nothing confines a worker here; TestSandbox is skipped.

func callsOut(int) []attempt { return nil }

func needs() []attempt { return nil }
