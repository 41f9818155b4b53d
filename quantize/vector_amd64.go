package quantize

import "golang.org/x/sys/cpu"

// vectors says whether the processor has AVX2, which the functions below take.
// Each handles n elements, of which there are a multiple of eight and not none.
var vectors = cpu.X86.HasAVX2

//go:noescape
func extentSame8(src *byte, n int, hi *[8]int32, lo *[8]uint32)

//go:noescape
func extentEach8(src *byte, n int, peak *uint32, hi *[8]int32, lo *[8]uint32)

//go:noescape
func codesSame8(dst, src *byte, n int, scale, limit float32)

//go:noescape
func nearest8(dst *byte, w *float32, n int, inverse, zero, top float32)

//go:noescape
func codesEach8(dst, src *byte, n int, scales *float32, limit float32)
