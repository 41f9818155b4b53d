//go:build unix && !linux

package attest

import "golang.org/x/sys/unix"

// GuardMemory keeps what this process holds in memory out of core files.
func GuardMemory() { unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
