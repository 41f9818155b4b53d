package attest

import "golang.org/x/sys/unix"

// GuardMemory keeps what this process holds in memory from other processes of the same user, and out of core files: also of such as the
// kernel hands to a program, for which a limit of 0 on their size does not count. It cannot be taken back, and fails nowhere that matters.
func GuardMemory() {
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}
