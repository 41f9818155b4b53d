package profile

import (
	"context"
	"errors"
	"math"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// deep is a model with one product of n×n, its input of one row or of rows.
func deep(n, rows int64, dim string) *onnx.Model {
	m := onnx.NewModel(17)
	first := onnx.Fixed(rows)
	if dim != "" {
		first = onnx.Symbol(dim)
	}
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.Shape{first, onnx.Fixed(n)}))
	w := m.Graph.AddInitializer(onnx.FromFloats("w", []int64{n, n}, make([]float32, n*n)))
	p := onnx.NewNode("MatMul", []*onnx.Value{x, w}, "y")
	p.Name = "product"
	m.Graph.Append(p)
	m.Graph.AddOutput(p.Output(0))
	return m
}

// advised is the advice for a model of one timed product.
func advised(t *testing.T, n, rows int64, dim string, ms float64, o AdviceOptions) map[string]Advised {
	t.Helper()
	s := static(t, deep(n, rows, dim), StaticOptions{})
	x := parseTypes([]int64{rows, n}, []int64{n, n})
	node := floatNode("product", "MatMul", ms, x, parseTypes([]int64{rows, n}), 4*n*n)
	node.Original, node.Rows = "product", []int{0}
	timed := timedNodes(node)
	p := New(s, timed)
	p.Machine = &MachineFacts{Threads: 2, Reason: "2 cores", Flag: "--threads 2"}
	p.Roofline = NewRoofline(s, timed, roundPeaks())
	if o.Model == "" {
		o.Model = "m.onnx"
	}
	a, err := NewAdvice(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Advised{}
	for _, x := range a.Items {
		out[x.What] = x
	}
	return out
}

func parseTypes(shapes ...[]int64) string {
	var out []string
	for _, s := range shapes {
		out = append(out, onnx.TensorType(onnx.Float, onnx.ShapeOf(s...)).String())
	}
	return strings.Join(out, " ")
}

// TestAdviceLarge: a large product is faster in 8 bits, by the operator table.
func TestAdviceLarge(t *testing.T) {
	a := advised(t, 1024, 128, "", 3, AdviceOptions{Data: "d.npz"})
	int8 := a["static-int8"]
	// 1.3e8 MACs are a quarter of the time, less coding 2^17 numbers twice: 0.1 ms; and a tenth is outside.
	want := 1 - (3*0.75-2*0.4/8)/(3/0.9)
	if int8.Verdict != verdictFaster || math.Abs(int8.Predicted.Ratio-want) > 0.02 {
		t.Errorf("%+v %+v, want a ratio of %v", int8, int8.Predicted, want)
	}
	if d := cmp.Diff("lapidary quantize m.onnx -o m.int8.onnx --to int8 --data d.npz", int8.Command); d != "" {
		t.Error(d)
	}
	if x := a["dynamic-int8"]; x.Verdict != verdictFaster || x.Predicted.Ratio <= int8.Predicted.Ratio {
		t.Errorf("dynamic %+v %+v", x, x.Predicted)
	}
	if x := a["fp16"]; x.Verdict != verdictUnknown || !strings.Contains(x.Reason, "MatMul") { // native, says the table
		t.Errorf("%+v", x)
	}
	if x := a["int4"]; *x.SizeRatio > 0.2 {
		t.Errorf("%v of the size in 4 bits", *x.SizeRatio)
	}
	if x := a["prune-unstructured"]; x.Verdict != verdictNo || x.Command != "" {
		t.Errorf("%+v", x)
	}
	if _, there := a["prune-channels"]; there {
		t.Error("a pattern of pruning that there is not")
	}
	if x := a["threads"]; x.Verdict != verdictNo {
		t.Errorf("%+v", x)
	}
	if x := a["batch"]; x.Verdict != verdictNo || !strings.Contains(x.Reason, "fixed") {
		t.Errorf("%+v", x)
	}
}

// TestAdviceSmall: a small product is not, and a batch shares its overhead.
func TestAdviceSmall(t *testing.T) {
	a := advised(t, 64, 1, "N", 0.0025, AdviceOptions{})
	for _, what := range []string{"static-int8", "dynamic-int8", "int4"} {
		x := a[what]
		if x.Verdict != verdictSmaller || x.Predicted == nil || x.Predicted.Ratio < 1 && what != "static-int8" || !strings.HasPrefix(x.Reason, "not faster") {
			t.Errorf("%s: %+v %+v", what, x, x.Predicted)
		}
	}
	if x := a["static-int8"]; !strings.HasSuffix(x.Command, "--data "+DataPlaceholder+" --for size") {
		t.Errorf("%s", x.Command)
	}
	if x := a["batch"]; x.Verdict != verdictFaster || x.Command != "lapidary profile m.onnx --dim N=8" {
		t.Errorf("%+v", x)
	}
}

func TestAdviceFuse(t *testing.T) {
	trial := func(ratio float64) func(context.Context, map[string]int64) (*Trial, error) {
		return func(_ context.Context, dims map[string]int64) (*Trial, error) {
			f := &Trial{Before: 10, After: 4, Difference: &measure.Difference{Ratio: ratio, Interval: measure.Interval{Low: ratio - 0.02, High: ratio + 0.02}}}
			if len(dims) > 0 {
				f.Difference.Ratio, f.Difference.Interval = ratio/2, measure.Interval{Low: ratio/2 - 0.1, High: ratio/2 + 0.1}
			}
			return f, nil
		}
	}
	if x := advised(t, 64, 1, "", 1, AdviceOptions{Fuse: trial(0.5)}); x["fuse"].Verdict != verdictFaster || x["fuse"].Command != "lapidary fuse m.onnx -o m.fused.onnx" {
		t.Errorf("%+v", x["fuse"])
	} else if _, there := x["fix-dims"]; there {
		t.Error("there is no dimension to fix")
	}
	if x := advised(t, 64, 1, "", 1, AdviceOptions{Fuse: trial(0.995)}); x["fuse"].Verdict != verdictNo || x["fuse"].Command != "" {
		t.Errorf("%+v", x["fuse"])
	}
	if x := advised(t, 64, 1, "", 1, AdviceOptions{Fuse: trial(0.96)}); x["fuse"].Verdict != verdictUnknown {
		t.Errorf("an interval that reaches 0.98: %+v", x["fuse"])
	}
	failing := func(context.Context, map[string]int64) (*Trial, error) { return nil, errors.New("broken") }
	if x := advised(t, 64, 1, "", 1, AdviceOptions{Fuse: failing}); x["fuse"].Verdict != verdictUnknown || !strings.Contains(x["fuse"].Reason, "broken") {
		t.Errorf("%+v", x["fuse"])
	}
	unchanged := func(context.Context, map[string]int64) (*Trial, error) {
		return &Trial{Before: 3, After: 3}, nil
	}
	if x := advised(t, 64, 1, "", 1, AdviceOptions{Fuse: unchanged}); x["fuse"].Verdict != verdictNo || x["fuse"].Predicted != nil {
		t.Errorf("%+v", x["fuse"])
	}
}

func TestSeenDims(t *testing.T) {
	s := static(t, deep(64, 1, "N"), StaticOptions{})
	if got := seenDims(s, &TimedProfile{InputShapes: []string{"a:float[9,9] x:float[7,64] y:float[3]"}}); got["N"] != 7 || len(got) != 1 {
		t.Errorf("%v", got)
	}
	if got := seenDims(s, &TimedProfile{InputShapes: []string{"x:float[7,64]", "x:float[8,64]"}}); got != nil {
		t.Errorf("of two shapes: %v", got)
	}
}

func TestThreadsAdvice(t *testing.T) {
	for used, want := range map[int]string{1: verdictFaster, 2: verdictNo, 4: verdictFaster} {
		s := static(t, deep(1024, 128, ""), StaticOptions{})
		node := floatNode("product", "MatMul", 3, "float[128,1024] float[1024,1024]", "float[128,1024]", 4<<20)
		timed := timedNodes(node)
		timed.Threads = used
		p := New(s, timed)
		p.Machine = &MachineFacts{Threads: 2, Flag: "--threads 2"}
		p.Roofline = NewRoofline(s, timed, roundPeaks())
		a, err := NewAdvice(t.Context(), p, AdviceOptions{Model: "m.onnx"})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range a.Items {
			if x.What == "threads" && (x.Verdict != want || (x.Command == "lapidary profile m.onnx --threads 2") != (want == verdictFaster)) {
				t.Errorf("%d threads: %+v", used, x)
			}
		}
	}
}

// TestChannelsAdvice: taking channels away helps where convolutions take the time.
func TestNarrowAdvice(t *testing.T) {
	trial := func(bytes, low, high float64) *Trial {
		return &Trial{Before: 9, After: 9, Bytes: bytes, Difference: &measure.Difference{Ratio: (low + high) / 2, Interval: measure.Interval{Low: low, High: high}}}
	}
	for _, c := range []struct {
		trial   *Trial
		err     error
		verdict string
	}{
		{trial(0.7, 0.7, 0.8), nil, verdictFaster},
		{trial(0.7, 0.97, 1.02), nil, verdictSmaller},
		{trial(0.95, 0.97, 1.02), nil, verdictNo},
		{&Trial{Bytes: 1}, nil, verdictNo},
		{nil, errors.New("broken"), verdictUnknown},
	} {
		x := advised(t, 64, 1, "", 1, AdviceOptions{Patterns: []string{"channels"}, Narrow: func(_ context.Context, share float64) (*Trial, error) {
			if share != narrowed {
				t.Errorf("a share of %v was tried", share)
			}
			return c.trial, c.err
		}})["prune-channels"]
		if helps := c.verdict == verdictFaster || c.verdict == verdictSmaller; x.Verdict != c.verdict || helps != (x.Command != "") || helps && x.Predicted.By != "dry-run" {
			t.Errorf("%+v: %+v", c.trial, x)
		}
	}
}

func TestChannelsAdvice(t *testing.T) {
	s := static(t, residual(), StaticOptions{})
	conv := floatNode("conv1", "FusedConv", 2, "float[1,64,56,56] float[64,64,3,3]", "float[1,64,56,56]", 64*64*9*4)
	timed := timedNodes(conv)
	p := New(s, timed)
	p.Machine = &MachineFacts{Threads: 2}
	p.Roofline = NewRoofline(s, timed, roundPeaks())
	a, err := NewAdvice(t.Context(), p, AdviceOptions{Model: "m.onnx", Patterns: []string{"channels"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range a.Items {
		want := "lapidary prune m.onnx -o m.pruned.onnx --pattern channels --sparsity 0.3 --data " + DataPlaceholder
		if x.What == "prune-channels" && (x.Verdict != verdictFaster || x.Command != want || math.Abs(x.Predicted.Ratio-(1-0.3*0.9)) > 1e-6) {
			t.Errorf("%+v %+v", x, x.Predicted)
		}
	}
	if x := advised(t, 1024, 128, "", 3, AdviceOptions{Patterns: []string{"channels"}})["prune-channels"]; x.Verdict != verdictNo || x.Command != "" {
		t.Errorf("a product has no channels: %+v", x)
	}
}

// TestBusyMachine: peaks measured on a busy machine do not make anything slow.
func TestBusyMachine(t *testing.T) {
	for _, verdict := range []string{verdictFaster, verdictSmaller, verdictNo} {
		a := &adviser{r: &Roofline{Peaks: &Peaks{Busy: pointer(0.9)}}}
		a.add(Advised{What: "x", Verdict: verdict, Predicted: &Predicted{Ratio: 1, By: "operators"}, Reason: "not faster: small", Command: "c"})
		a.add(Advised{What: "x", Verdict: verdict, Predicted: &Predicted{Ratio: 1, By: "dry-run"}, Reason: "timed", Command: "c"})
		busy, tried := a.out[0], a.out[1]
		if want := map[string]string{verdictNo: verdictUnknown}[verdict]; want != "" && busy.Verdict != want || strings.HasPrefix(busy.Reason, "not faster") != (verdict == verdictFaster) {
			t.Errorf("%s: %+v", verdict, busy)
		}
		if tried.Verdict != verdict || tried.Reason != "timed" {
			t.Errorf("what was tried needs no peaks: %+v", tried)
		}
	}
	little := Advised{Verdict: verdictFaster, Predicted: &Predicted{Ratio: 0.87, High: 0.96}}
	if little.doubt(); little.Verdict != verdictUnknown {
		t.Errorf("faster by little: %+v", little)
	}
	if (&Peaks{}).Disturbed() || (&Peaks{Busy: pointer(0.05)}).Disturbed() {
		t.Error("a quiet machine")
	}
}

// TestQuoted pastes into a shell.
func TestQuoted(t *testing.T) {
	names := []string{"model.onnx", "my model.onnx", "it's $HOME `x`.onnx", "-rf", "a\"b", "dir/ü.onnx", "", "N=1", "*?.onnx", "~x"}
	for _, name := range names {
		want := name
		if strings.HasPrefix(name, "-") {
			want = "./" + name // a file, not a flag
		}
		words := shellWords("x " + Quoted(name) + " y")
		if len(words) != 3 {
			t.Errorf("%q: %d words: %q", name, len(words), words)
		}
		if runtime.GOOS == "windows" {
			continue
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+Quoted(name)).Output()
		if err != nil || string(out) != want {
			t.Errorf("%q became %q: %v", name, out, err)
		}
	}
}

// TestCommandLines: a command on several lines is the same command.
func TestCommandLines(t *testing.T) {
	c := "lapidary quantize '/a long/folder with blanks/model number one.onnx' -o 'model number one.int8.onnx' --to int8 --data CALIBRATION.npz --for size"
	tb := &table{width: 60}
	tb.command(c)
	text := tb.b.String()
	for line := range strings.Lines(text) {
		if len([]rune(strings.TrimSuffix(line, "\n"))) > 62 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	if strings.Count(text, "\\\n") < 2 {
		t.Errorf("on one line:\n%s", text)
	}
	if runtime.GOOS == "windows" {
		return
	}
	script := strings.Replace(strings.Replace(text, "    $ lapidary", "set --", 1), "\n", "\n", 1) + "\nprintf '%s|' \"$@\""
	out, err := exec.CommandContext(t.Context(), "sh", "-c", script).Output()
	want := "quantize|/a long/folder with blanks/model number one.onnx|-o|model number one.int8.onnx|--to|int8|--data|CALIBRATION.npz|--for|size|"
	if err != nil || string(out) != want {
		t.Errorf("%s: %v", out, err)
	}
}

// TestProofGolden writes all that follows from times, in both forms.
func TestProofGolden(t *testing.T) {
	s := static(t, deep(1024, 128, "N"), StaticOptions{Dims: map[string]int64{"N": 128}})
	node := floatNode("product", "MatMul", 3, "float[128,1024] float[1024,1024]", "float[128,1024]", 4<<20)
	node.Original, node.Rows = "product", []int{0}
	timed := timedNodes(node, floatNode("tiny", "Relu", 0.002, "float[8]", "float[8]", 0), floatNode("odd", "Unique", 0.1, "", "", 0))
	timed.InputShapes = []string{"x:float[128,1024]"}
	full := New(s, timed)
	full.Machine = NewMachineFacts(device.Machine{CPU: device.CPU{Model: "round", ISA: []string{"avx2", "fma"}, Sockets: 1, Cores: 2, Logical: 4, Governor: "powersave"},
		Limits: device.Limits{CPUs: []int{0, 1, 2, 3}, Cores: 2, Quota: 2}}, 2)
	p := roundPeaks()
	theory(p, device.CPU{ISA: []string{"avx2", "fma"}})
	full.Roofline = NewRoofline(s, timed, p)
	full.GPU = NoGPU("no NVIDIA driver")
	full.Cost = NewCost(Prices{0.36, 2.5}, Ran{Timed: timed}, Ran{Reason: "no NVIDIA driver"})
	var err error
	full.Advice, err = NewAdvice(t.Context(), full, AdviceOptions{Model: "/models/a long name with blanks.onnx", Data: "d.npz", Dims: map[string]int64{"N": 128},
		Provider: &Advised{What: "provider", Verdict: verdictNo, Reason: "a GPU is unavailable: no NVIDIA driver"},
		Fuse: func(_ context.Context, dims map[string]int64) (*Trial, error) {
			return &Trial{Before: 9, After: 3, Difference: &measure.Difference{Ratio: 0.8, Interval: measure.Interval{Low: 0.78, High: 0.82}}}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	full.Static, full.Timed = nil, nil // they have golden files of their own
	checkDocument(t, "proof", full)
	full.GPU = &GPUFacts{Available: true, Name: "NVIDIA H100", Device: "cuda:0", Driver: "550.54", MIG: pointer(false), Runs: 300, Seconds: 3, PowerW: pointer(310.5),
		EnergyMJ: pointer(1234.), EnergyBy: "counter", ToDeviceMS: pointer(0.25), ToHostMS: pointer(0.125), Fallbacks: []string{"odd (Unique)"}, Others: pointer(1),
		Limiting: []string{"power-cap"}}
	full.GPU.warn()
	full.Roofline = &Roofline{Skipped: "nodes run on another device, and their times are those of launching them"}
	full.Machine, full.Cost, full.Advice = nil, nil, nil
	checkDocument(t, "proof-gpu", full)
}
