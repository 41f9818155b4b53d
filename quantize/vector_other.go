//go:build !amd64

package quantize

// vectors says that there are no vector functions here; none of those below is called.
var vectors = false

func extentSame8(*byte, int, *[8]int32, *[8]uint32)            {}
func extentEach8(*byte, int, *uint32, *[8]int32, *[8]uint32)   {}
func codesSame8(_, _ *byte, _ int, _, _ float32)               {}
func nearest8(*byte, *float32, int, float32, float32, float32) {}
func codesEach8(_, _ *byte, _ int, _ *float32, _ float32)      {}
