//go:build !linux

package device

import (
	"slices"

	"golang.org/x/sys/cpu"
)

// hostISA asks the processor, or what the operating system lets a program know of it.
func hostISA() []string {
	x, a := cpu.X86, cpu.ARM64
	var out []string
	for _, f := range []struct {
		has  bool
		name string
	}{
		{x.HasAVX2, "avx2"}, {x.HasFMA, "fma"}, {x.HasAVX512F, "avx512f"},
		{x.HasAVX512VNNI, "avx512_vnni"}, {x.HasAVX512BF16, "avx512_bf16"}, {x.HasAVXVNNI, "avx_vnni"},
		{x.HasAVXVNNIInt8, "avx_vnni_int8"}, {x.HasAMXInt8, "amx_int8"}, {x.HasAMXBF16, "amx_bf16"},
		{a.HasASIMD, "neon"}, {a.HasASIMDHP, "fp16"}, {a.HasASIMDDP, "dotprod"}, {a.HasI8MM, "i8mm"},
		{a.HasSVE, "sve"}, {a.HasSVE2, "sve2"},
	} {
		if f.has {
			out = append(out, f.name)
		}
	}
	slices.Sort(out)
	return out
}
