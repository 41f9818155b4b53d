//go:build unix && !linux

package worker

// Nothing confines a worker here; TestSandbox is skipped.

func fork() error { return nil }

func trace(int) error { return nil }

func limit(int) error { return nil }
