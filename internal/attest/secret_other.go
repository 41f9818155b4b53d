//go:build !unix

package attest

// GuardMemory does nothing where no core files are written.
func GuardMemory() {}
