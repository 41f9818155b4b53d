//go:build unix && !linux

package attest

import "golang.org/x/sys/unix"

// guardMemory keeps what this process holds in memory out of core files.
func guardMemory() { unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
