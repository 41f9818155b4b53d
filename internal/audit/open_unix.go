//go:build unix

package audit

import "syscall"

// openFlags open a pipe without waiting for its reader, so that it can be refused.
const openFlags = syscall.O_NONBLOCK
