package profile

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/device"
)

// roundPeaks are the peaks of a machine of round numbers: 100 GFLOP/s, 400
// GOP/s, 100 GB/s near by and 10 GB/s in main memory, 2 us a node. In 8 bits it
// is half as fast on small operators and four times as fast on large ones.
func roundPeaks() *Peaks {
	same := func(bytes int64, rate float64) Bandwidth {
		s := Streams{Read: rate, Copy: rate / 2, Triad: rate / 2}
		return Bandwidth{Bytes: bytes, One: s, All: s}
	}
	p := &Peaks{Version: peaksVersion, Threads: 2, CPU: "round", ClockGHz: 2, OverheadUS: 2,
		Float32: &PeakRate{One: 50, All: 100, Sizes: []SizeRate{{"MatMul", 512, 50, 100}}},
		Int8:    &PeakRate{One: 200, All: 400, Sizes: []SizeRate{{"MatMulInteger", 512, 200, 400}}},
		Memory:  []Bandwidth{same(1<<18, 100), same(1<<22, 50), same(1<<28, 10)},
		Half:    []Half{{"Conv", "borrowed"}, {"MatMul", "native"}}}
	for _, class := range []string{"conv", "pointwise", "depthwise", "matmul", "product"} {
		for _, x := range []struct {
			macs  int64
			float float64
			rates map[string]float64
		}{{1e4, 2, map[string]float64{variantInt8: 2, variantDynamic: 3, variantInt4: 1.5}},
			{1e8, 2000, map[string]float64{variantInt8: 0.25, variantDynamic: 0.5, variantInt4: 0.8}}} {
			p.Operators = append(p.Operators, OpRate{class, variantFloat, "x", x.macs, 1, x.float})
			for _, v := range []string{variantInt8, variantDynamic, variantInt4} {
				p.Operators = append(p.Operators, OpRate{class, v, "x", x.macs, 1, x.float * x.rates[v]})
			}
		}
	}
	for _, class := range []string{"code", "decode"} {
		p.Operators = append(p.Operators, OpRate{class, variantInt8, "x", 0, 1 << 10, 2}, OpRate{class, variantInt8, "x", 0, 1 << 20, 400})
	}
	return p
}

// timedNodes is a timed part with these nodes, and 10 % of the time outside of them.
func timedNodes(nodes ...NodeTime) *TimedProfile {
	t := &TimedProfile{Threads: 2, Samples: 1, InputShapes: []string{"x:float[1,3,8,8]"}, Sessions: []SessionRuns{}, Nodes: nodes, PerSecond: 100,
		Accounting: &Accounting{Runs: 5, Overhead: 1}}
	for i := range nodes {
		nodes[i].Calls = max(1, nodes[i].Calls)
		t.Accounting.NodesMS += nodes[i].MS
	}
	t.Accounting.WallMS = t.Accounting.NodesMS / 0.9
	t.Accounting.ProfiledMS = t.Accounting.WallMS
	t.Latency = Latency{Runs: 10, MeanMS: t.Accounting.WallMS}
	return t
}

func floatNode(name, op string, ms float64, in, out string, params int64) NodeTime {
	return NodeTime{Name: name, Op: op, Provider: "CPUExecutionProvider", MS: ms, Inputs: strings.Split(in, " "), Outputs: strings.Split(out, " "), ParamBytes: params}
}

func TestRooflineBounds(t *testing.T) {
	// 64 × 1024 × 1024 MACs: 2·2^26 operations and the result's 2^16, in 1.343 ms at 100 GFLOP/s; 4.72 MB, beyond 4 MiB.
	product := floatNode("product", "MatMul", 2, "float[64,1024] float[1024,1024]", "float[64,1024]", 4<<20)
	// 32 MiB read and written: 3.36 ms at 10 GB/s.
	add := floatNode("add", "Add", 8, "float[4,1048576]", "float[4,1048576]", 0)
	tiny := floatNode("tiny", "Add", 0.003, "float[1]", "float[1]", 0)
	strange := floatNode("strange", "Unique", 0.5, "float[4]", "", 0)
	strange.Outputs = nil
	r := NewRoofline(nil, timedNodes(add, product, strange, tiny), roundPeaks())
	want := []struct {
		bound    string
		roof     float64
		attained float64
	}{{"memory", 3.355443, 0.419430}, {"compute", 1.342833, 0.671416}, {"unknown", 0, 0}, {"overhead", 0.0000001, 0.00003}}
	for i, w := range want {
		n := r.Nodes[i]
		if n.Bound != w.bound || math.Abs(max(n.ComputeMS, n.MemoryMS)-w.roof) > 1e-4 || math.Abs(n.Attained-w.attained) > 1e-3 {
			t.Errorf("%s: %+v, want %+v", n.Name, n, w)
		}
	}
	if n := r.Nodes[1]; n.MACs != 1<<26 || n.Type != variantFloat {
		t.Errorf("%+v", n)
	}
	wall := 10.503 / 0.9
	if math.Abs(r.RoofMS-4.698276) > 1e-3 || math.Abs(r.Attained-4.698276/wall) > 1e-3 || math.Abs(r.Outside-(wall-10.503)) > 1e-9 {
		t.Errorf("the model: %+v", r)
	}
	if math.Abs(r.Known-10.003/10.503) > 1e-9 {
		t.Errorf("known %v", r.Known)
	}
	var shares float64
	for _, b := range r.Bounds {
		shares += b.Share
	}
	if len(r.Bounds) != 4 || r.Bounds[0].Bound != "memory" || math.Abs(shares-1) > 1e-9 {
		t.Errorf("bounds %+v", r.Bounds)
	}
}

// TestRooflineInt8: products of codes are held against the peak of codes.
func TestRooflineInt8(t *testing.T) {
	codes := floatNode("q", "QLinearMatMul", 1, "uint8[512,512] float[] uint8[] int8[512,512] float[] int8[] float[] uint8[]", "uint8[512,512]", 1<<18)
	r := NewRoofline(nil, timedNodes(codes), roundPeaks())
	n := r.Nodes[0]
	if n.Type != variantInt8 || n.MACs != 1<<27 || math.Abs(n.ComputeMS-float64(n.FLOPs)/400e6) > 1e-9 || n.Bytes < 3<<18 || n.Bytes > 3<<18+64 {
		t.Errorf("%+v", n)
	}
}

func TestRooflineSkips(t *testing.T) {
	node := floatNode("a", "Add", 1, "float[1]", "float[1]", 0)
	launch := node
	launch.Launch = true
	for says, r := range map[string]*Roofline{
		"no times of nodes": NewRoofline(nil, &TimedProfile{}, roundPeaks()),
		"launching":         NewRoofline(nil, timedNodes(launch), roundPeaks()),
		"peaks are not":     NewRoofline(nil, timedNodes(node), nil),
	} {
		if !strings.Contains(r.Skipped, says) || r.Nodes != nil || r.Peaks != nil {
			t.Errorf("%q: %+v", says, r)
		}
	}
	old := roundPeaks()
	old.Version++
	if old.Valid() || !roundPeaks().Valid() {
		t.Error("peaks of another measurement are not valid")
	}
}

// TestWorkByFile: the file's nodes know more than the types, unless other sizes ran.
func TestWorkByFile(t *testing.T) {
	s := static(t, residual(), StaticOptions{})
	row := func(name string) int {
		return slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Name == name })
	}
	n := floatNode("conv1", "FusedConv", 1, "float[1,3,8,8] float[4,3,3,3] float[4]", "float[1,4,8,8]", 448)
	n.Original, n.Rows, n.Calls = "conv1", []int{row("conv1"), row("relu")}, 1
	if w, ok := workOf(&n, s); !ok || w.MACs != 64*4*27 || w.FLOPs <= 2*w.MACs || w.BytesWritten != 4*256 {
		t.Errorf("by the file: %+v", w)
	}
	n.Inputs[0], n.Outputs[0] = "float[8,3,8,8]", "float[8,4,8,8]"
	if w, ok := workOf(&n, s); !ok || w.MACs != 8*64*4*27 {
		t.Errorf("of eight pictures: %+v", w)
	}
	// The engine keeps the weights of fc to itself, and three pictures ran.
	fc := floatNode("fc", "Gemm", 1, "float[3,4]", "float[3,2]", 0)
	fc.Original, fc.Rows = "fc", []int{row("fc")}
	if w, ok := workOf(&fc, s); !ok || w.MACs != 3*4*2 || w.BytesRead != 4*(12+8+2) {
		t.Errorf("without its weights: %+v", w)
	}
	fc.Rows = []int{len(s.Nodes)}
	if lead, all := fc.leading(s); lead != nil || all != nil {
		t.Error("a row that there is not")
	}
}

func TestMACsByTypes(t *testing.T) {
	tests := []struct {
		op, in, out string
		want        int64
	}{
		{"Conv", "float[1,16,14,14] float[32,16,3,3]", "float[1,32,14,14]", 196 * 32 * 144},
		{"com.microsoft.nchwc.Conv", "float[1,16,14,14] float[16,1,3,3]", "float[1,16,14,14]", 196 * 16 * 9},
		{"QLinearConv", "uint8[1,16,7,7] float[] uint8[] int8[8,16,1,1]", "uint8[1,8,7,7]", 49 * 8 * 16},
		{"Gemm", "float[3,64] float[64,10]", "float[3,10]", 3 * 64 * 10},
		{"LSTM", "float[5,2,8] float[1,64,8] float[1,64,16]", "float[5,1,2,16]", 5 * 2 * (64*8 + 64*16)},
		{"Add", "float[8] float[8]", "float[8]", 0},
		{"Conv", "float[1,16,14,14]", "float[1,32,14,14]", 0},
	}
	for _, tt := range tests {
		n := floatNode("n", tt.op, 1, tt.in, tt.out, 0)
		w, ok := workOfTypes(&n, nil)
		if !ok || w.MACs != tt.want {
			t.Errorf("%s %s: %d MACs, want %d", tt.op, tt.in, w.MACs, tt.want)
		}
	}
}

func TestRatio(t *testing.T) {
	p := roundPeaks()
	for macs, want := range map[int64]float64{1: 2, 1e4: 2, 1e6: math.Sqrt(2 * 0.25), 1e8: 0.25, 1e12: 0.25} {
		if got, ok := p.ratio("conv", variantInt8, macs); !ok || math.Abs(got-want) > 1e-9 {
			t.Errorf("%d MACs: %v, want %v", macs, got, want)
		}
	}
	if _, ok := p.ratio("conv", "fp4", 1); ok {
		t.Error("a ratio of what was not measured")
	}
	// 2 us from 1024 elements down, in proportion between, 400 us for 2^20.
	for n, want := range map[int64]float64{1: 2e-6, 1 << 10: 2e-6, 1 << 12: (2 + 398*3072./1047552) * 1e-6, 1 << 20: 400e-6, 1 << 21: 800e-6} {
		if got := p.convert("code", n); math.Abs(got-want) > 1e-12 {
			t.Errorf("coding %d: %v s, want %v", n, got, want)
		}
	}
}

func TestTheory(t *testing.T) {
	tests := []struct {
		cpu         device.CPU
		float, int8 float64
	}{
		{device.CPU{Vendor: "GenuineIntel", Family: 6, Cores: 8, ISA: []string{"avx2", "avx512_vnni", "avx512f", "fma"}}, 2 * 2 * 64, 2 * 2 * 256},
		{device.CPU{Vendor: "AuthenticAMD", Family: 25, Cores: 8, ISA: []string{"avx2", "avx512_vnni", "avx512f", "fma"}}, 2 * 2 * 32, 2 * 2 * 128},
		{device.CPU{Cores: 1, ISA: []string{"avx2", "fma"}}, 2 * 1 * 32, 2 * 1 * 42}, // two threads share the core
		{device.CPU{ISA: []string{"dotprod", "neon"}}, 2 * 2 * 16, 2 * 2 * 64},
	}
	for _, tt := range tests {
		p := roundPeaks()
		theory(p, tt.cpu)
		if *p.Float32.Theory != tt.float || *p.Int8.Theory != tt.int8 || p.Float32.Basis == "" {
			t.Errorf("%+v: %v %v %q", tt.cpu, *p.Float32.Theory, *p.Int8.Theory, p.Float32.Basis)
		}
	}
	p := roundPeaks()
	if theory(p, device.CPU{ISA: []string{"altivec"}}); p.Float32.Theory != nil {
		t.Error("theory of an instruction set that is not known")
	}
}

// TestSpecimenTrace reads the times of gauges, also of those that the engine
// renamed, and leaves the warm-up out.
func TestSpecimenTrace(t *testing.T) {
	var b strings.Builder
	b.WriteString("[")
	for run := range 6 {
		at := 1000 * run
		fmt.Fprintf(&b, `{"cat":"Session","name":"model_run","ts":%d,"dur":900},`+"\n", at)
		d := []int{500, 500, 40, 10, 20, 30}[run] // the first two are warm-up
		fmt.Fprintf(&b, `{"cat":"Node","name":"conv0_nchwc_kernel_time","tid":1,"ts":%d,"dur":%d,"args":{"op_name":"Conv"}},`+"\n", at+1, d)
		fmt.Fprintf(&b, `{"cat":"Node","name":"ReorderInput_kernel_time","tid":1,"ts":%d,"dur":99,"args":{"op_name":"ReorderInput"}},`+"\n", at+600)
	}
	b.WriteString("{}]")
	trace, err := ParseTrace([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	s := &specimen{gauges: []gauge{{name: "conv0"}, {name: "conv1"}}}
	got := s.read(trace)
	if g := got["conv0"]; g == nil || math.Abs(g.best-10e-6) > 1e-12 || math.Abs(g.low-10e-6) > 1e-12 {
		t.Errorf("%+v", got["conv0"])
	}
	if len(got) != 1 {
		t.Errorf("times of %d gauges, want one", len(got))
	}
}

// TestSpecimens: all of them are valid models, and no name of a gauge is a
// beginning of what another is found by.
func TestSpecimens(t *testing.T) {
	for _, s := range []*specimen{productsFloat32(), productsInt8(), variants(variantFloat), variants(variantInt8), variants(variantDynamic), variants(variantInt4)} {
		if err := s.m.Check(); err != nil {
			t.Error(err)
		}
		names := map[string]bool{}
		for _, g := range s.gauges {
			if names[g.name] || strings.Contains(g.name, "_") || g.class != "step" && !slices.Contains([]string{"code", "decode"}, g.class) && g.macs == 0 {
				t.Errorf("gauge %+v", g)
			}
			names[g.name] = true
		}
		if len(s.inputs) != len(s.m.Graph.Inputs()) || s.m.Graph.Len() != len(s.gauges) {
			t.Errorf("%d inputs for %d, %d nodes for %d gauges", len(s.inputs), len(s.m.Graph.Inputs()), s.m.Graph.Len(), len(s.gauges))
		}
	}
}

// TestStreams: the streams do what they are called, on this machine's own memory.
func TestStreams(t *testing.T) {
	s := newStream(1000)
	s.triad()
	for _, x := range s.a {
		if x != 4 {
			t.Fatalf("1 + 3·1 is %v", x)
		}
	}
	s.read()
	s.copy()
	if s.a[999] != 1 {
		t.Error("a copy of ones")
	}
	b := streams(2, 1<<16)
	if b.Read <= 0 || b.Copy <= 0 || b.Triad <= 0 || b.best() < b.Triad {
		t.Errorf("%+v", b)
	}
	if c := clockGHz(); c < 0 || c > 8 {
		t.Errorf("%v GHz", c)
	}
}

func TestMachineFacts(t *testing.T) {
	m := device.Machine{CPU: device.CPU{Model: "x", ISA: []string{"avx2"}, Sockets: 1, Cores: 4, Logical: 8, Governor: "powersave"},
		Limits: device.Limits{CPUs: []int{0, 1, 2, 3}, Cores: 2, Affinity: []int{0, 1, 2, 3}, Quota: 1.5, Memory: 2 << 30}}
	f := NewMachineFacts(m, 3)
	if f.Threads != 2 || f.Flag != "--threads 2" || f.Allowed != "0-3" || !f.Pinned || !f.SMT || *f.QuotaCPUs != 1.5 {
		t.Errorf("%+v", f)
	}
	text := strings.Join(f.Warnings, "\n")
	for _, want := range []string{"governor is powersave", "3 threads are more than can run at once", "quota of 1.5 processors"} {
		if !strings.Contains(text, want) {
			t.Errorf("no warning %q in %s", want, text)
		}
	}
	if f := NewMachineFacts(device.Machine{CPU: device.CPU{Logical: 2, Cores: 2}}, 2); len(f.Warnings) != 0 || f.QuotaCPUs != nil || f.MemoryLimit != nil {
		t.Errorf("%+v", f)
	}
}
