package session

import (
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	kernel32  = windows.NewLazySystemDLL("kernel32.dll")
	counter   = kernel32.NewProc("QueryPerformanceCounter")
	frequency = kernel32.NewProc("QueryPerformanceFrequency")
	perSecond = read(frequency)
)

// Clock reads a clock that only runs forward and is fine enough to time one run of a model: that of package time advances here in steps
// of half a millisecond and more.
func Clock() time.Duration {
	n := read(counter)
	return time.Duration(n/perSecond)*time.Second + time.Duration(n%perSecond)*time.Second/time.Duration(perSecond)
}

// read calls a function that stores one number and cannot fail.
func read(p *windows.LazyProc) (n int64) {
	p.Call(uintptr(unsafe.Pointer(&n)))
	return n
}
