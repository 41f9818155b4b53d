// Package sessiontest holds the conformance suite of [session.Opener]: what
// every engine must do, and do in the same way.
package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Caps is what an engine claims to be able to do. The suite checks that it
// does, and that it refuses the rest with an error.
type Caps struct {
	Opset     int64        // the standard opset that the suite's models use
	DTypes    []onnx.DType // element types that it hands through
	Empty     bool         // tensors without elements
	Scalars   bool         // tensors of rank 0
	Sequences bool
	Defaults  bool // inputs that may be left out
	Interrupt bool // a run can be stopped: by its context, by a deadline
	SaveModel bool // it writes its optimized graph
	Profile   bool // it records a trace
}

// Run checks that open keeps the contract of [session.Session].
func Run(t *testing.T, open session.Opener, c Caps) {
	s := suite{open, c}
	t.Run("identity", s.identity)
	t.Run("ports", s.ports)
	t.Run("outputs", s.outputs)
	t.Run("bad inputs", s.badInputs)
	t.Run("defaults", s.defaults)
	t.Run("sequences", s.sequences)
	t.Run("repeated", s.repeated)
	t.Run("two at once", s.twoAtOnce)
	t.Run("close", s.close)
	t.Run("bad files", s.badFiles)
	t.Run("interrupt", s.interrupt)
	t.Run("time", s.time)
	t.Run("stats", s.stats)
	t.Run("profile", s.profile)
	t.Run("place", s.place)
	t.Run("save model", s.saveModel)
}

type suite struct {
	open session.Opener
	caps Caps
}

// session opens m, and closes it when the test ends.
func (s suite) session(t *testing.T, m *onnx.Model, o session.Options) session.Session {
	t.Helper()
	se, err := s.open(t.Context(), Write(t, m), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := se.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return se
}

// run calls se and compares its outputs with want, by content.
func run(t *testing.T, se session.Session, in, want map[string]*onnx.Tensor) {
	t.Helper()
	r, err := se.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if r.Elapsed <= 0 {
		t.Errorf("Elapsed is %v", r.Elapsed)
	}
	if len(r.Outputs) != len(want) {
		t.Errorf("%d outputs, want %d", len(r.Outputs), len(want))
	}
	for name, w := range want {
		same(t, name, r.Outputs[name], w)
	}
}

// same compares type, shape and bytes.
func same(t *testing.T, name string, got, want *onnx.Tensor) {
	t.Helper()
	if got == nil {
		t.Errorf("output %q is absent", name)
		return
	}
	if got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) {
		t.Errorf("output %q is %v%v, want %v%v", name, got.DType, got.Shape, want.DType, want.Shape)
		return
	}
	if want.DType == onnx.String {
		if !slices.EqualFunc(got.Str, want.Str, bytes.Equal) {
			t.Errorf("output %q is %q, want %q", name, got.Str, want.Str)
		}
		return
	}
	g, err := got.Bytes()
	if err != nil {
		t.Errorf("output %q: %v", name, err)
		return
	}
	w, err := want.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g, w) {
		t.Errorf("output %q has bytes %x, want %x", name, g, w)
	}
}

// Sample returns a tensor of any type with content that no two elements in a
// row share, as far as the type allows.
func Sample(d onnx.DType, shape ...int64) *onnx.Tensor {
	n, _ := onnx.ElementCount(shape)
	x := &onnx.Tensor{Name: "x", DType: d, Shape: shape}
	if d == onnx.String {
		for i := range n {
			x.Str = append(x.Str, []byte([]string{"", "a\x00b", "naïve", strings.Repeat("z", 300)}[i%4]))
		}
		return x
	}
	size, _ := d.ByteSize(n)
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + 1)
		if d == onnx.Bool {
			b[i] = byte(i+1) % 2
		}
	}
	if spare := n * int64(d.Bits()) % 8; spare != 0 { // the unused bits of the last byte are zero
		b[size-1] &= 1<<spare - 1
	}
	x.Data = onnx.Raw(b)
	return x
}

func (s suite) identity(t *testing.T) {
	for d := onnx.Float; d.Valid(); d++ {
		t.Run(d.String(), func(t *testing.T) {
			ranks := map[string][]int64{"matrix": {3, 5}}
			if !slices.Contains(s.caps.DTypes, d) {
				s.refuses(t, d, ranks["matrix"])
				return
			}
			if s.caps.Scalars {
				ranks["scalar"] = []int64{}
			}
			if s.caps.Empty {
				ranks["empty"] = []int64{0, 5}
			}
			for name, shape := range ranks {
				t.Run(name, func(t *testing.T) {
					typ := onnx.TensorType(d, onnx.ShapeOf(shape...))
					if name == "empty" {
						typ.Shape[0] = onnx.Symbol("N")
					}
					se := s.session(t, Identity(s.caps.Opset, typ), session.Options{})
					x := Sample(d, shape...)
					run(t, se, map[string]*onnx.Tensor{"x": x}, map[string]*onnx.Tensor{"y": x})
				})
			}
		})
	}
}

// refuses checks that a type outside the caps gives an error, not nonsense.
func (s suite) refuses(t *testing.T, d onnx.DType, shape []int64) {
	se, err := s.open(t.Context(), Write(t, Identity(s.caps.Opset, onnx.TensorType(d, onnx.ShapeOf(shape...)))), session.Options{})
	if err != nil {
		return
	}
	defer se.Close()
	if r, err := se.Run(t.Context(), map[string]*onnx.Tensor{"x": Sample(d, shape...)}); err == nil {
		t.Errorf("a run gave %v; the engine's caps do not list %v", r.Outputs["y"], d)
	}
}

func (s suite) ports(t *testing.T) {
	se := s.session(t, Identity(s.caps.Opset, floats(onnx.Symbol("N"), onnx.Fixed(4))), session.Options{})
	for _, c := range []struct {
		ports []session.Port
		name  string
	}{{se.Inputs(), "x"}, {se.Outputs(), "y"}} {
		if len(c.ports) != 1 || c.ports[0].Name != c.name {
			t.Fatalf("ports %v, want one called %s", c.ports, c.name)
		}
		if got := c.ports[0].Type.String(); got != "float[N,4]" {
			t.Errorf("%s has type %s, want float[N,4]", c.name, got)
		}
	}
	x := Sample(onnx.Float, 3, 4)
	run(t, se, map[string]*onnx.Tensor{"x": x}, map[string]*onnx.Tensor{"y": x})
	x = Sample(onnx.Float, 1, 4)
	run(t, se, map[string]*onnx.Tensor{"x": x}, map[string]*onnx.Tensor{"y": x})
}

var (
	shape23 = []int64{2, 3}
	two     = map[string]*onnx.Tensor{
		"x": onnx.FromFloats("x", shape23, []float32{1, 2, 3, 4, 5, 6}),
		"y": onnx.FromFloats("y", shape23, []float32{2, 4, 8, 16, 32, 64}),
	}
	sum     = onnx.FromFloats("sum", shape23, []float32{3, 6, 11, 20, 37, 70})
	product = onnx.FromFloats("product", shape23, []float32{2, 8, 24, 64, 160, 384})
)

func (s suite) outputs(t *testing.T) {
	m := sumAndProduct(s.caps.Opset)
	for _, c := range []struct {
		ask  []string
		want map[string]*onnx.Tensor
	}{
		{nil, map[string]*onnx.Tensor{"sum": sum, "product": product}},
		{[]string{"product", "sum"}, map[string]*onnx.Tensor{"sum": sum, "product": product}},
		{[]string{"product"}, map[string]*onnx.Tensor{"product": product}},
	} {
		se := s.session(t, m, session.Options{Outputs: c.ask})
		run(t, se, two, c.want)
		var names []string
		for _, p := range se.Outputs() {
			names = append(names, p.Name)
		}
		if want := c.ask; want != nil && !slices.Equal(names, want) {
			t.Errorf("Outputs gives %q, want %q", names, want)
		}
	}
	_, err := s.open(t.Context(), Write(t, m), session.Options{Outputs: []string{"nowhere"}})
	mentions(t, err, "model.onnx", `"nowhere"`)
}

// mentions checks that err says each of words.
func mentions(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not mention %s", err, w)
		}
	}
}

func (s suite) badInputs(t *testing.T) {
	se := s.session(t, sumAndProduct(s.caps.Opset), session.Options{})
	x := two["x"]
	double, err := onnx.FromFloat64s("y", onnx.Double, shape23, make([]float64, 6))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		in    map[string]*onnx.Tensor
		words []string
	}{
		{"none", nil, []string{`"x"`, "missing"}},
		{"missing", map[string]*onnx.Tensor{"x": x}, []string{`"y"`, "missing"}},
		{"extra", map[string]*onnx.Tensor{"x": x, "y": x, "z": x}, []string{`"z"`, "unknown"}},
		{"type", map[string]*onnx.Tensor{"x": x, "y": double}, []string{`"y"`, "double", "float"}},
		{"rank", map[string]*onnx.Tensor{"x": x, "y": onnx.FromFloats("y", []int64{6}, make([]float32, 6))}, []string{`"y"`, "[6]"}},
		{"dimension", map[string]*onnx.Tensor{"x": x, "y": onnx.FromFloats("y", []int64{2, 4}, make([]float32, 8))}, []string{`"y"`, "[2,4]"}},
		{"length", map[string]*onnx.Tensor{"x": x, "y": {Name: "y", DType: onnx.Float, Shape: shape23, Data: onnx.Raw("short")}}, []string{"5 bytes", "24"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := se.Run(t.Context(), c.in)
			mentions(t, err, append(c.words, "model.onnx")...)
			run(t, se, two, map[string]*onnx.Tensor{"sum": sum, "product": product})
		})
	}
}

func (s suite) defaults(t *testing.T) {
	m := scaled(s.caps.Opset)
	if !s.caps.Defaults {
		t.Skip("the engine does not offer defaults")
	}
	se := s.session(t, m, session.Options{})
	if n := len(se.Inputs()); n != 1 {
		t.Errorf("%d inputs, want only the one without a default", n)
	}
	x := onnx.FromFloats("x", []int64{1, 2}, []float32{1, 2})
	k := onnx.FromFloats("k", []int64{2}, []float32{3, 5})
	run(t, se, map[string]*onnx.Tensor{"x": x}, map[string]*onnx.Tensor{"y": onnx.FromFloats("y", []int64{1, 2}, []float32{10, 200})})
	run(t, se, map[string]*onnx.Tensor{"x": x, "k": k}, map[string]*onnx.Tensor{"y": onnx.FromFloats("y", []int64{1, 2}, []float32{3, 10})})
	_, err := se.Run(t.Context(), map[string]*onnx.Tensor{"x": x, "k": x})
	mentions(t, err, `"k"`)
}

func (s suite) sequences(t *testing.T) {
	m := swapped(s.caps.Opset)
	if !s.caps.Sequences {
		se, err := s.open(t.Context(), Write(t, m), session.Options{})
		if err == nil {
			se.Close()
			t.Error("a model with sequences opens; the caps say that the engine has none")
		}
		return
	}
	se := s.session(t, m, session.Options{})
	a, b := Sample(onnx.Float, 3), Sample(onnx.Float, 2)
	run(t, se, map[string]*onnx.Tensor{"s[0]": a, "s[1]": b}, map[string]*onnx.Tensor{"q[0]": b, "q[1]": a})
	_, err := se.Run(t.Context(), map[string]*onnx.Tensor{})
	mentions(t, err, `"s"`)
	_, err = se.Run(t.Context(), map[string]*onnx.Tensor{"s[0]": a, "s[2]": b})
	mentions(t, err, `"s[2]"`)
}

func (s suite) repeated(t *testing.T) {
	se := s.session(t, sumAndProduct(s.caps.Opset), session.Options{})
	var results []*session.Result
	for range 20 {
		r, err := se.Run(t.Context(), two)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, r)
	}
	for _, r := range results { // looked at when all are there: a result must not change under its owner
		same(t, "sum", r.Outputs["sum"], sum)
		same(t, "product", r.Outputs["product"], product)
	}
}

func (s suite) twoAtOnce(t *testing.T) {
	a := s.session(t, sumAndProduct(s.caps.Opset), session.Options{Threads: 1})
	b := s.session(t, Identity(s.caps.Opset, floats(onnx.Fixed(2), onnx.Fixed(3))), session.Options{Threads: 1})
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 5 {
		wg.Wait()
		wg.Go(func() { run(t, a, two, map[string]*onnx.Tensor{"sum": sum, "product": product}) })
		wg.Go(func() { run(t, b, map[string]*onnx.Tensor{"x": two["x"]}, map[string]*onnx.Tensor{"y": two["x"]}) })
	}
}

func (s suite) close(t *testing.T) {
	se, err := s.open(t.Context(), Write(t, sumAndProduct(s.caps.Opset)), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := se.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	_, err = se.Run(t.Context(), two)
	mentions(t, err, "closed")
}

func (s suite) badFiles(t *testing.T) {
	whole, err := os.ReadFile(Write(t, sumAndProduct(s.caps.Opset)))
	if err != nil {
		t.Fatal(err)
	}
	unknown := Identity(s.caps.Opset, floats(onnx.Fixed(1)))
	unknown.Graph.First().Op = "NoSuchOperator"
	unknownBytes, err := os.ReadFile(Write(t, unknown))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		content []byte
		words   []string
	}{
		{"empty", nil, nil},
		{"garbage", bytes.Repeat([]byte("not a model\n"), 100), nil},
		{"truncated", whole[:len(whole)/2], nil},
		{"unknown operator", unknownBytes, []string{"NoSuchOperator"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "broken.onnx")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			se, err := s.open(t.Context(), path, session.Options{})
			if err == nil {
				se.Close()
			}
			mentions(t, err, append(c.words, "broken.onnx")...)
		})
	}
	_, err = s.open(t.Context(), filepath.Join(t.TempDir(), "absent.onnx"), session.Options{})
	mentions(t, err, "absent.onnx", "no such file")
	_, err = s.open(t.Context(), t.TempDir(), session.Options{})
	mentions(t, err, "regular file")
}

func (s suite) interrupt(t *testing.T) {
	se := s.session(t, sumAndProduct(s.caps.Opset), session.Options{})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := se.Run(gone, two); !errors.Is(err, context.Canceled) {
		t.Errorf("a run with a cancelled context gives %v", err)
	}
	run(t, se, two, map[string]*onnx.Tensor{"sum": sum, "product": product})
	if _, err := s.open(gone, Write(t, sumAndProduct(s.caps.Opset)), session.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("opening with a cancelled context gives %v", err)
	}
	_, late := s.open(t.Context(), Write(t, sumAndProduct(s.caps.Opset)), session.Options{LoadLimit: time.Nanosecond})
	if !errors.Is(late, context.DeadlineExceeded) {
		t.Errorf("opening that takes too long gives %v", late)
	}
	mentions(t, late, "model.onnx", "loading it takes longer than 1ns")
	if !s.caps.Interrupt {
		return
	}
	in := map[string]*onnx.Tensor{"x": onnx.FromFloats("x", []int64{1}, []float32{0})}
	long := s.session(t, endless(s.caps.Opset), session.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := long.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("a run that is cancelled gives %v", err)
	}
	short := s.session(t, endless(s.caps.Opset), session.Options{Deadline: 20 * time.Millisecond})
	_, err := short.Run(t.Context(), in)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a run past its deadline gives %v", err)
	}
	mentions(t, err, "model.onnx", "20ms")
}

func (s suite) time(t *testing.T) {
	se := s.session(t, sumAndProduct(s.caps.Opset), session.Options{})
	timer, ok := se.(session.Timer)
	if !ok {
		t.Skip("the engine has no timer")
	}
	for _, n := range []int{1, 7} {
		d, err := timer.Time(t.Context(), two, n)
		if err != nil {
			t.Fatal(err)
		}
		if len(d) != n || slices.Min(d) <= 0 {
			t.Errorf("Time gives %v, want %d times above zero", d, n)
		}
	}
	if _, err := timer.Time(t.Context(), two, 0); err == nil {
		t.Error("timing zero runs is no error")
	}
	_, err := timer.Time(t.Context(), map[string]*onnx.Tensor{"x": sum}, 1)
	mentions(t, err, `"y"`)
	run(t, se, two, map[string]*onnx.Tensor{"sum": sum, "product": product})
	if _, err := timer.Time(t.Context(), map[string]*onnx.Tensor{"x": sum, "y": product}, 2); err != nil {
		t.Error(err)
	}
	if !s.caps.Sequences {
		return
	}
	a := Sample(onnx.Float, 3)
	d, err := s.session(t, swapped(s.caps.Opset), session.Options{}).(session.Timer).Time(t.Context(), map[string]*onnx.Tensor{"s[0]": a, "s[1]": a}, 3)
	if err != nil || len(d) != 3 {
		t.Errorf("timing a model with sequences gives %v, %v", d, err)
	}
}

func (s suite) stats(t *testing.T) {
	se := s.session(t, sumAndProduct(s.caps.Opset), session.Options{})
	meter, ok := se.(session.Meter)
	if !ok {
		t.Skip("the engine has no meter")
	}
	run(t, se, two, map[string]*onnx.Tensor{"sum": sum, "product": product})
	st, err := meter.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.PID <= 0 || st.Create <= 0 || st.FirstRun <= 0 || st.Provider == "" || st.Fallbacks != 0 || st.PeakMemory < st.BaseMemory {
		t.Errorf("Stats gives %+v", st)
	}
}

func (s suite) profile(t *testing.T) {
	dir := t.TempDir()
	o := session.Options{Profile: filepath.Join(dir, "trace")}
	if !s.caps.Profile {
		s.refusesOption(t, o)
		return
	}
	se := s.session(t, sumAndProduct(s.caps.Opset), o)
	p := se.(session.Profiler)
	run(t, se, two, map[string]*onnx.Tensor{"sum": sum, "product": product})
	b, err := p.EndProfile()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("node_sum")) || !bytes.Contains(b, []byte(`"dur"`)) {
		t.Errorf("the trace does not time node_sum: %.300s", b)
	}
	if _, err := p.EndProfile(); err == nil {
		t.Error("a profile can be ended twice")
	}
	run(t, se, two, map[string]*onnx.Tensor{"sum": sum, "product": product})
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("the trace's folder holds %v", left)
	}
}

func (s suite) place(t *testing.T) {
	se := s.session(t, sumAndProduct(s.caps.Opset), session.Options{})
	p, ok := se.(session.Placer)
	if !ok {
		t.Skip("the engine cannot be told where to put outputs")
	}
	memory := make([]byte, 48)
	free := memory
	p.Place(func(n int) ([]byte, error) {
		b := free[:n:n]
		free = free[n:]
		return b, nil
	})
	run(t, se, two, map[string]*onnx.Tensor{"sum": sum, "product": product})
	want, _ := sum.Bytes()
	if !bytes.Contains(memory, want) {
		t.Error("the sum is not in the memory that was offered")
	}
	full := errors.New("no room left here")
	p.Place(func(int) ([]byte, error) { return nil, full })
	if _, err := se.Run(t.Context(), two); !errors.Is(err, full) {
		t.Errorf("a refused placement gives %v", err)
	}
	p.Place(nil)
	run(t, se, two, map[string]*onnx.Tensor{"sum": sum, "product": product})
}

// refusesOption checks that an option that the engine lacks is not ignored.
func (s suite) refusesOption(t *testing.T, o session.Options) {
	t.Helper()
	se, err := s.open(t.Context(), Write(t, sumAndProduct(s.caps.Opset)), o)
	if err == nil {
		se.Close()
	}
	mentions(t, err, "model.onnx")
}

func (s suite) saveModel(t *testing.T) {
	saved := filepath.Join(t.TempDir(), "optimized.onnx")
	if !s.caps.SaveModel {
		s.refusesOption(t, session.Options{SaveModel: saved})
		return
	}
	se := s.session(t, sumAndProduct(s.caps.Opset), session.Options{SaveModel: saved})
	run(t, se, two, map[string]*onnx.Tensor{"sum": sum, "product": product})
	m, err := onnxfile.Open(saved, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if len(m.Graph.Inputs()) != 2 || len(m.Graph.Outputs()) != 2 {
		t.Errorf("the saved graph has %d inputs and %d outputs, want 2 and 2", len(m.Graph.Inputs()), len(m.Graph.Outputs()))
	}
}
