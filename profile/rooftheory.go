package profile

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/device"
)

// unit is what the cores of an instruction set do in a cycle, as their makers
// document it: operations, 2 per multiply-accumulate.
type unit struct {
	isa  string // of device.CPU.ISA
	ops  float64
	text string
}

// floatUnits and int8Units begin with the widest.
var floatUnits = []unit{
	{"avx512f", 64, "two 512-bit multiply-adds per cycle and core"},
	{"fma", 32, "two 256-bit multiply-adds per cycle and core"},
	{"sve", 32, "two 256-bit multiply-adds per cycle and core"},
	{"neon", 16, "two 128-bit multiply-adds per cycle and core"},
}

var int8Units = []unit{
	{"amx_int8", 2048, "1024 8-bit multiply-adds per cycle and core in tiles"},
	{"avx512_vnni", 256, "two 512-bit dot products per cycle and core"},
	{"avx_vnni", 128, "two 256-bit dot products per cycle and core"},
	{"avx2", 42, "three instructions for 32 8-bit multiply-adds, two a cycle and core"},
	{"i8mm", 128, "two 128-bit matrix products per cycle and core"},
	{"dotprod", 64, "two 128-bit dot products per cycle and core"},
}

// theory fills in what cores of this instruction set do at the measured clock.
// It is an upper bound where a processor has fewer units than the best of its kind.
func theory(p *Peaks, c device.CPU) {
	if p.ClockGHz <= 0 {
		return
	}
	threads := p.Threads
	if c.Cores > 0 {
		threads = min(threads, c.Cores)
	}
	set := func(a *PeakRate, units []unit) {
		if a == nil {
			return
		}
		for _, u := range units {
			if !slices.Contains(c.ISA, u.isa) {
				continue
			}
			ops, text := u.ops, u.text
			if halfWidth(c) && (u.isa == "avx512f" || u.isa == "avx512_vnni") {
				ops, text = ops/2, "two 256-bit halves of "+u.isa+" per cycle and core"
			}
			a.Theory = pointer(ops * p.ClockGHz * float64(threads))
			a.Basis = fmt.Sprintf("%s, %d cores at %.2f GHz", text, threads, p.ClockGHz)
			return
		}
	}
	set(p.Float32, floatUnits)
	set(p.Int8, int8Units)
}

// halfWidth reports whether a processor runs 512-bit instructions in two
// halves, as AMD's family 25 (Zen 4) does.
func halfWidth(c device.CPU) bool { return c.Vendor == "AuthenticAMD" && c.Family == 25 }
