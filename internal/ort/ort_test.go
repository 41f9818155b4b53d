//go:build cgo

package ort

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	binding "github.com/yalue/onnxruntime_go"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/session/sessiontest"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// handed lists the types that Identity hands through at opset 23.
var handed = []onnx.DType{
	onnx.Float, onnx.Uint8, onnx.Int8, onnx.Uint16, onnx.Int16, onnx.Int32, onnx.Int64, onnx.String, onnx.Bool,
	onnx.Float16, onnx.Double, onnx.Uint32, onnx.Uint64, onnx.BFloat16, onnx.Float8E4M3FN, onnx.Float8E4M3FNUZ,
	onnx.Float8E5M2, onnx.Float8E5M2FNUZ,
}

func TestConformance(t *testing.T) {
	sessiontest.Run(t, Opener(zootest.Library(t)), sessiontest.Caps{
		Opset: 23, DTypes: handed, Empty: true, Scalars: true, Sequences: true, Defaults: true, Interrupt: true, SaveModel: true, Profile: true,
	})
}

// TestTable compares the places of the functions that this package calls with
// the declaration of OrtApi that the binding was compiled against.
func TestTable(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go").Output()
	if err != nil {
		t.Skipf("the binding's source is not at hand: %v", err)
	}
	header, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "onnxruntime_c_api.h"))
	if err != nil {
		t.Skipf("the binding's header is not at hand: %v", err)
	}
	own, err := os.ReadFile("api.go")
	if err != nil {
		t.Fatal(err)
	}
	want := tablePlaces(t, string(header))
	calls := regexp.MustCompile(`(?m)^  fn(\w+) = (\d+),$`).FindAllStringSubmatch(string(own), -1)
	if len(calls) < 40 {
		t.Fatalf("found only %d functions in api.go", len(calls))
	}
	for _, c := range calls {
		if at, ok := want[c[1]]; !ok || c[2] != strconv.Itoa(at) {
			t.Errorf("%s is called at place %s of OrtApi, declared at %d (%v)", c[1], c[2], at, ok)
		}
	}
	if v := regexp.MustCompile(`#define ORT_API_VERSION (\d+)`).FindStringSubmatch(string(header)); v == nil || v[1] != strconv.Itoa(apiVersion) {
		t.Errorf("the binding asks for API version %v, this package for %d", v, apiVersion)
	}
}

// tablePlaces returns the place of every member of struct OrtApi.
func tablePlaces(t *testing.T, header string) map[string]int {
	t.Helper()
	_, body, ok := strings.Cut(header, "\nstruct OrtApi {")
	if !ok {
		t.Fatal("no struct OrtApi in the header")
	}
	body, _, _ = strings.Cut(body, "\n};")
	body = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`).ReplaceAllString(body, "")
	places := map[string]int{}
	member := regexp.MustCompile(`ORT_API2_STATUS\((\w+)|ORT_CLASS_RELEASE\((\w+)\)|ORT_API_CALL\s*\*\s*(\w+)\)|ORT_API_T\([^,]*,\s*(\w+)`)
	for i, m := range member.FindAllStringSubmatch(body, -1) {
		name := m[1] + m[3] + m[4]
		if m[2] != "" {
			name = "Release" + m[2]
		}
		places[name] = i
	}
	return places
}

// cast returns a model that casts its input x, of type from, to y.
func cast(from, to onnx.DType) *onnx.Model {
	m := onnx.NewModel(23)
	m.IRVersion = 11
	x := m.Graph.AddInput("x", onnx.TensorType(from, onnx.Shape{onnx.Symbol("N")}))
	n := onnx.NewNode("Cast", []*onnx.Value{x}, "y")
	n.SetAttr(onnx.IntAttr("to", int64(to)))
	m.Graph.Append(n)
	n.Output(0).Type = onnx.TensorType(to, onnx.Shape{onnx.Symbol("N")})
	m.Graph.AddOutput(n.Output(0))
	return m
}

// TestSmallInts carries packed integers, which Identity has no kernel for, in
// and out through casts.
func TestSmallInts(t *testing.T) {
	open := Opener(zootest.Library(t))
	for d, values := range map[onnx.DType][]float64{
		onnx.Int4: {-8, -1, 0, 7, 3}, onnx.Uint4: {15, 0, 1, 8, 2}, onnx.Int2: {-2, 1, 0, -1, 1}, onnx.Uint2: {3, 2, 1, 0, 3},
	} {
		t.Run(d.String(), func(t *testing.T) {
			small, err := onnx.FromFloat64s("x", d, []int64{5}, values)
			if err != nil {
				t.Fatal(err)
			}
			large, err := onnx.FromFloat64s("x", onnx.Float, []int64{5}, values)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct{ in, want *onnx.Tensor }{{small, large}, {large, small}} {
				m := cast(c.in.DType, c.want.DType)
				if d == onnx.Int2 || d == onnx.Uint2 {
					m.Opsets[0].Version, m.IRVersion = 25, 13
				}
				s, err := open(t.Context(), sessiontest.Write(t, m), session.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				r, err := s.Run(t.Context(), map[string]*onnx.Tensor{"x": c.in})
				if err != nil {
					t.Fatal(err)
				}
				got, err := r.Outputs["y"].Float64s()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(values, got); diff != "" || r.Outputs["y"].DType != c.want.DType {
					t.Errorf("%v to %v: (-want +got)\n%s", c.in.DType, c.want.DType, diff)
				}
			}
		})
	}
}

func TestDevices(t *testing.T) {
	open := Opener(zootest.Library(t))
	path := sessiontest.Write(t, cast(onnx.Float, onnx.Double))
	for device, want := range map[string]string{
		"abacus":   `device "abacus" is unknown`,
		"cuda:one": `"one" is not the number of a GPU`,
		"cpu:0":    "cpu takes no argument",
		"coreml":   "has no CoreMLExecutionProvider",
	} {
		_, err := open(t.Context(), path, session.Options{Device: device})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("device %q gives %v, want an error with %q", device, err, want)
		}
	}
	for o, want := range map[*session.Options]string{
		{MaxMemory: 1 << 30}: "use the worker",
		{Level: 77}:          "level 77 is unknown",
		{Threads: -1}:        "-1",
		{Config: map[string]string{"provider.x": "1"}}: "need a device other than cpu",
	} {
		if _, err := open(t.Context(), path, *o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v gives %v, want an error with %q", *o, err, want)
		}
	}
}

func TestLibraries(t *testing.T) {
	lib := zootest.Library(t)
	path := sessiontest.Write(t, cast(onnx.Float, onnx.Double))
	if _, err := Info(lib); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(text, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"": "--ort-lib", filepath.Join(t.TempDir(), "gone.so"): "gone.so", text: "one library per process"} {
		if _, err := Opener(file)(t.Context(), path, session.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("library %q gives %v, want an error with %q", file, err, want)
		}
	}
	if _, err := openLibrary(text); err == nil {
		t.Error("a text file loads as a library")
	}
	info, err := Info(lib)
	if err != nil {
		t.Fatal(err)
	}
	if info.Name != "onnxruntime" || !strings.HasPrefix(info.Version, "1.") || len(info.SHA256) != 64 || !slices.Contains(info.Providers, cpuProvider) {
		t.Errorf("Info gives %+v", info)
	}
}

func TestTidy(t *testing.T) {
	for msg, want := range map[string]string{
		"Error creating C session from file: Load model from x.onnx failed:Protobuf parsing failed.": "Load model from x.onnx failed:Protobuf parsing failed.",
		"Non-zero status code returned while running Add node. Name:'a' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/math/element_wise_ops.h:560 void onnxruntime::BroadcastIterator::Append(ptrdiff_t, ptrdiff_t) axis == 1 was false.\nmore": "Non-zero status code returned while running Add node. Name:'a' Status Message: axis == 1 was false. more",
	} {
		if got := tidy(msg); got != want {
			t.Errorf("tidy gives %q, want %q", got, want)
		}
	}
	if got := tidy(strings.Repeat("x", 5000)); len(got) > maxMessage+10 {
		t.Errorf("a message of 5000 bytes becomes one of %d", len(got))
	}
}

func TestNumbering(t *testing.T) {
	for d := onnx.Float; d.Valid(); d++ {
		if e := elementType(d, false); d == onnx.Float8E8M0 && e != 0 || d != onnx.Float8E8M0 && dtypeOf(e) != d {
			t.Errorf("%v is %d, which is %v", d, e, dtypeOf(e))
		}
		if e := elementType(d, true); e != int(d) {
			t.Errorf("%v is %d for a library that counts as ONNX does", d, e)
		}
	}
	if d := dtypeOf(99); d != onnx.Undefined {
		t.Errorf("type 99 is %v", d)
	}
}

// TestOptionsReachTheRuntime reads what the runtime itself says of the session
// that it makes: each option must change it.
func TestOptionsReachTheRuntime(t *testing.T) {
	lib := zootest.Library(t)
	old := logSeverity
	logSeverity = binding.LoggingLevelInfo
	defer func() { logSeverity = old }()
	m := onnx.NewModel(17)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(4)))
	n := onnx.NewNode("Relu", []*onnx.Value{x}, "y")
	m.Graph.Append(n)
	m.Graph.AddOutput(n.Output(0))
	path := filepath.Join(t.TempDir(), "m.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	said := func(o session.Options) string {
		s, err := Opener(lib)(t.Context(), path, o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		return strings.Join(s.(session.Warner).Warnings(), "\n")
	}
	for _, tt := range []struct {
		name string
		o    session.Options
		want string // in what the runtime says with the option, and not without
	}{
		{"threads", session.Options{Threads: 3}, `thread_pool_size: 3`},
		{"spin", session.Options{Spin: true}, `session.intra_op.allow_spinning: 1`},
		{"arena", session.Options{NoArena: true}, `enable_cpu_mem_arena:0`},
		{"denormals", session.Options{Flush: true}, `session.set_denormal_as_zero: 1`},
		{"setting", session.Options{Config: map[string]string{"session.use_device_allocator_for_initializers": "1"}}, `session.use_device_allocator_for_initializers: 1`},
	} {
		without, with := said(session.Options{Threads: 1}), said(tt.o)
		if strings.Contains(without, tt.want) || !strings.Contains(with, tt.want) {
			t.Errorf("%s: the runtime does not say %q with the option alone; it says\n%s", tt.name, tt.want, with)
		}
	}
}

// TestTimeRead: reading is told apart from creating where it is asked for.
func TestTimeRead(t *testing.T) {
	lib := zootest.Library(t)
	path := zootest.Path(t, "models/mnist-8.onnx")
	for _, on := range []bool{false, true} {
		s, err := Opener(lib)(t.Context(), path, session.Options{TimeRead: on})
		if err != nil {
			t.Fatal(err)
		}
		st, err := s.(session.Meter).Stats()
		s.Close()
		if err != nil || (st.Read > 0) != on || st.Create <= 0 {
			t.Errorf("with TimeRead %v: read %v, created in %v, %v", on, st.Read, st.Create, err)
		}
	}
}
