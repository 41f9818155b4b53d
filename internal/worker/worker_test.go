//go:build unix

package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/session/sessiontest"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestMain makes this binary a worker when a test starts it as one: its second
// argument then names the engine.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == Argument {
		os.Exit(Main(engine(os.Args[2:])))
	}
	os.Exit(m.Run())
}

// engine returns a test engine: ONNX Runtime, or an echo that does what its
// name says.
func engine(args []string) session.Opener {
	if args[0] == "ort" {
		return ort.Opener(args[1])
	}
	return func(_ context.Context, path string, _ session.Options) (session.Session, error) {
		switch args[0] {
		case "noise":
			fmt.Println(strings.Repeat("\xff\x00\x00\x00garbage\n", 3))
		case "crash at load":
			fmt.Fprintln(os.Stderr, "loading the weights")
			syscall.Kill(os.Getpid(), syscall.SIGSEGV)
			select {}
		case "exit at load":
			os.Exit(3)
		case "hang at load":
			select {}
		case "panic at load":
			panic("index out of range")
		}
		return echo{args}, nil
	}
}

// echo is an engine that returns its inputs.
type echo struct{ args []string }

func (e echo) Inputs() []session.Port  { return []session.Port{{Name: "x"}} }
func (e echo) Outputs() []session.Port { return []session.Port{{Name: "x"}} }
func (e echo) Close() error            { return nil }

func (e echo) Run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	switch e.args[0] {
	case "noise":
		fmt.Fprintln(os.Stderr, "\x1b[31mnoise\x00\xff")
		fmt.Println("more garbage")
	case "crash":
		for i := range 50 {
			fmt.Fprintln(os.Stderr, "line", i)
		}
		syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case "hang":
		select {}
	case "killed": // as by a system without memory
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "leak": // 8 MiB a run
		leak(8)
	case "leak for ever":
		for {
			leak(8)
			time.Sleep(time.Millisecond)
		}
	case "panic":
		panic("index out of range")
	case "lie":
		return &session.Result{Elapsed: 1, Outputs: map[string]*onnx.Tensor{"x": {Name: "x", DType: onnx.Float, Shape: []int64{1 << 40}, Data: onnx.Raw(nil)}}}, nil
	case "break out":
		got := breakOut(e.args[1], e.args[2])
		return &session.Result{Elapsed: 1, Outputs: map[string]*onnx.Tensor{"x": onnx.FromStrings("x", []int64{int64(len(got))}, got)}}, nil
	case "files":
		list, err := os.ReadDir("/proc/self/fd")
		var names []string
		for _, f := range list {
			to, _ := os.Readlink("/proc/self/fd/" + f.Name())
			names = append(names, f.Name()+" "+to)
		}
		names = append(names, os.Environ()...)
		return &session.Result{Elapsed: 1, Outputs: map[string]*onnx.Tensor{"x": onnx.FromStrings("x", []int64{int64(len(names))}, names)}}, err
	}
	return &session.Result{Elapsed: 1, Outputs: in}, nil
}

var leaked [][]byte

// leak takes memory that is never given back.
func leak(mib int) {
	b := make([]byte, mib<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	leaked = append(leaked, b)
}

// attempt is something that a worker tries.
type attempt struct {
	name string
	do   func() error
}

// escapes are what a worker must not be able to do. The first files of them are
// landlock's to refuse, the others seccomp's.
func escapes(secret, address string) []attempt {
	coordinator := os.Getppid()
	return append([]attempt{
		{"reading a file outside", func() error { _, err := os.ReadFile(secret); return err }},
		{"writing a file outside", func() error { return os.WriteFile(secret, []byte("changed"), 0o600) }},
		{"creating a file outside", func() error { return os.WriteFile(secret+".new", nil, 0o600) }},
		{"reading the coordinator's environment", func() error { _, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", coordinator)); return err }},
		{"connecting by TCP", func() error { return dial("tcp", address) }},
		{"listening by TCP", listen},
		{"sending by UDP", func() error { return dial("udp", address) }},
		{"a local socket", func() error { return dial("unix", secret) }},
		{"starting a program", func() error { return exec.Command("/bin/true").Run() }},
		{"killing the coordinator", func() error { return syscall.Kill(coordinator, 0) }},
	}, callsOut(coordinator)...)
}

// files is how many escapes, the first, are to files.
const files = 4

// breakOut tries to escape, then what must go on working, and tells what came of each: "" where it worked.
func breakOut(secret, address string) []string {
	var out []string
	for _, a := range append(escapes(secret, address), needs()...) {
		text := ""
		if err := a.do(); err != nil {
			text = err.Error()
		}
		out = append(out, text)
	}
	return out
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

func listen() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		l.Close()
	}
	return err
}

// command returns options for a worker with the given test engine.
func command(t testing.TB, args ...string) Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Command: append([]string{self, Argument}, args...)}
}

// onnxRuntime returns options for a worker with ONNX Runtime.
func onnxRuntime(t testing.TB) Options {
	t.Helper()
	lib := zootest.Library(t)
	o := command(t, "ort", lib)
	real, err := filepath.EvalSymlinks(lib)
	if err != nil {
		t.Fatal(err)
	}
	o.ReadOnly = []string{filepath.Dir(lib), filepath.Dir(real)}
	return o
}

func TestConformance(t *testing.T) {
	sessiontest.Run(t, Opener(onnxRuntime(t)), sessiontest.Caps{
		Opset: 23,
		DTypes: []onnx.DType{
			onnx.Float, onnx.Uint8, onnx.Int8, onnx.Uint16, onnx.Int16, onnx.Int32, onnx.Int64, onnx.String, onnx.Bool,
			onnx.Float16, onnx.Double, onnx.Uint32, onnx.Uint64, onnx.BFloat16, onnx.Float8E4M3FN, onnx.Float8E4M3FNUZ,
			onnx.Float8E5M2, onnx.Float8E5M2FNUZ,
		},
		Empty: true, Scalars: true, Sequences: true, Defaults: true, Interrupt: true, SaveModel: true, Profile: true,
	})
}

// model returns the path of a file that test engines do not read.
func model(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var small = map[string]*onnx.Tensor{"x": onnx.FromFloats("x", []int64{3}, []float32{1, 2, 3})}

// gone checks that the process of a session has ended and was waited for.
func gone(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
}

func TestFaultsAtLoad(t *testing.T) {
	for name, want := range map[string][]string{
		"crash at load": {"opening", "model.onnx", "SIGSEGV: segmentation violation", "loading the weights"},
		"exit at load":  {"opening", "model.onnx", "status 3"},
		"panic at load": {"index out of range"},
		"hang at load":  {"opening", "model.onnx", "loading it takes longer than 50ms", "did not stop"},
	} {
		t.Run(name, func(t *testing.T) {
			o := command(t, name)
			o.TempDir = t.TempDir()
			so := session.Options{SaveModel: filepath.Join(t.TempDir(), "saved.onnx")}
			if strings.HasPrefix(name, "hang") {
				so.LoadLimit = 50 * time.Millisecond
			}
			_, err := Opener(o)(t.Context(), model(t), so)
			for _, w := range want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("error %v does not say %q", err, w)
				}
			}
			if left, _ := os.ReadDir(o.TempDir); len(left) > 0 {
				t.Errorf("the worker left %v behind", left)
			}
		})
	}
}

func TestFaultsInRun(t *testing.T) {
	for name, want := range map[string][]string{
		"crash":  {"running", "model.onnx", "SIGSEGV: segmentation violation", "line 40", "line 49"},
		"hang":   {"running", "model.onnx", "takes longer than 50ms", "did not stop"},
		"killed": {"running", "model.onnx", "signal 9 (killed)", "the system had no memory left"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Opener(command(t, name))(t.Context(), model(t), session.Options{Deadline: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			pid := s.(*sess).proc.cmd.Process.Pid
			_, err = s.Run(t.Context(), small)
			for _, w := range want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("error %v does not say %q", err, w)
				}
			}
			if err != nil && strings.Contains(err.Error(), "line 28\n") {
				t.Errorf("error %v quotes more than the end of the log", err)
			}
			gone(t, pid)
			if _, again := s.Run(t.Context(), small); again == nil || again.Error() != err.Error() {
				t.Errorf("the next run gives %v", again)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// TestUsableAfterFault covers faults that a session outlives.
func TestUsableAfterFault(t *testing.T) {
	for name, want := range map[string]string{"panic": "index out of range", "lie": `tensor "x"`} {
		s, err := Opener(command(t, name))(t.Context(), model(t), session.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.Run(t.Context(), small); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s gives %v, want an error with %s", name, err, want)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

func TestNoise(t *testing.T) {
	s, err := Opener(command(t, "noise"))(t.Context(), model(t), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 3 {
		r, err := s.Run(t.Context(), small)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := r.Outputs["x"].Floats(); err != nil || len(v) != 3 || v[2] != 3 {
			t.Errorf("outputs %v, %v", v, err)
		}
	}
}

func TestKilled(t *testing.T) {
	s, err := Opener(command(t, "hang"))(t.Context(), model(t), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pid := s.(*sess).proc.cmd.Process.Pid
	failed := make(chan error)
	go func() {
		_, err := s.Run(t.Context(), small)
		failed <- err
	}()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err = <-failed
	if err == nil || !strings.Contains(err.Error(), "signal 9") || !strings.Contains(err.Error(), "no memory left: use a smaller batch") || !strings.Contains(err.Error(), "model.onnx") {
		t.Errorf("a killed worker gives %v", err)
	}
	gone(t, pid)
}

// TestCloseWhileStuck ends a worker that is stopped and hears nothing.
func TestCloseWhileStuck(t *testing.T) {
	s, err := Opener(command(t, "echo"))(t.Context(), model(t), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pid := s.(*sess).proc.cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	long := onnx.FromStrings("x", []int64{1}, []string{strings.Repeat("s", 1<<20)}) // more than a pipe holds
	if _, err := s.Run(ctx, map[string]*onnx.Tensor{"x": long}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stopped worker gives %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	gone(t, pid)
}

func TestSandbox(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no sandbox on " + runtime.GOOS)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no TCP on this machine: %v", err)
	}
	defer l.Close()
	s, err := Opener(command(t, "break out", secret, l.Addr().String()))(t.Context(), model(t), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	box := s.(Confined).Sandbox()
	if !box.Files {
		t.Skipf("this kernel has no landlock: the worker runs as %v", box)
	}
	r, err := s.Run(t.Context(), small)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Outputs["x"].Strings()
	if err != nil {
		t.Fatal(err)
	}
	tried := escapes(secret, "")
	for i, a := range tried {
		if i >= files && !box.Network {
			t.Logf("%s: this kernel has no seccomp", a.name)
			continue
		}
		if !strings.Contains(got[i], "permission denied") {
			t.Errorf("%s gave %q, want permission denied", a.name, got[i])
		}
	}
	for i, a := range needs() {
		if text := got[len(tried)+i]; text != "" {
			t.Errorf("%s gave %q, and an engine may do so", a.name, text)
		}
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("the secret is now %q, %v", b, err)
	}
}

func TestInheritsNothing(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	stray, err := syscall.Dup(int(r.Fd())) // without close-on-exec, as a C library might open one
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(stray)
	var st syscall.Stat_t
	if err := syscall.Fstat(stray, &st); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LAPIDARY_TEST_TOKEN", "secret")
	o := command(t, "files")
	o.Env = []string{"A=B"}
	s, err := Opener(o)(t.Context(), model(t), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	res, err := s.Run(t.Context(), small)
	if err != nil {
		t.Fatal(err)
	}
	list, _ := res.Outputs["x"].Strings()
	all := strings.Join(list, "\n")
	if strings.Contains(all, fmt.Sprintf("pipe:[%d]", st.Ino)) {
		t.Errorf("the worker has a file of its coordinator:\n%s", all)
	}
	if strings.Contains(all, "LAPIDARY_TEST_TOKEN") || !strings.Contains(all, "A=B") {
		t.Errorf("the worker's environment is not what it was given:\n%s", all)
	}
}

func TestMemoryLimit(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no memory limit on " + runtime.GOOS)
	}
	m := onnx.NewModel(13)
	n := m.Graph.AddInput("n", onnx.TensorType(onnx.Int64, onnx.ShapeOf(1)))
	fill := onnx.NewNode("ConstantOfShape", []*onnx.Value{n}, "big")
	fill.Name = "the_big_one"
	m.Graph.Append(fill)
	sum := onnx.NewNode("ReduceSum", []*onnx.Value{fill.Output(0)}, "y")
	m.Graph.Append(sum)
	sum.Output(0).Type = onnx.TensorType(onnx.Float, nil)
	m.Graph.AddOutput(sum.Output(0))
	s, err := Opener(onnxRuntime(t))(t.Context(), sessiontest.Write(t, m), session.Options{MaxMemory: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Run(t.Context(), map[string]*onnx.Tensor{"n": onnx.FromInts("n", []int64{1}, []int64{1 << 20})}); err != nil {
		t.Error(err)
	}
	_, err = s.Run(t.Context(), map[string]*onnx.Tensor{"n": onnx.FromInts("n", []int64{1}, []int64{1 << 28})})
	if err == nil || !strings.Contains(err.Error(), "the_big_one") && !strings.Contains(err.Error(), "alloc") {
		t.Errorf("allocating 1 GiB of 256 MiB gives %v", err)
	}
}

// TestLarge passes more through the memory than it begins with.
func TestLarge(t *testing.T) {
	s, err := Opener(command(t, "echo"))(t.Context(), model(t), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, n := range []int{0, 1, 63, 64, 65, 3 << 20, 5, 9 << 20} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 31)
		}
		in := map[string]*onnx.Tensor{}
		for _, name := range []string{"x", "y", "z"} {
			in[name] = &onnx.Tensor{Name: name, DType: onnx.Uint8, Shape: []int64{int64(n)}, Data: onnx.Raw(b)}
		}
		r, err := s.Run(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for name, x := range r.Outputs {
			if got, err := x.Bytes(); err != nil || string(got) != string(b) {
				t.Errorf("%d bytes of %s do not come back: %v", n, name, err)
			}
		}
	}
}

// TestUnknownEnd: the system does not always tell how a process ended.
func TestUnknownEnd(t *testing.T) {
	if got := describeExit(nil); got != "ended, nobody knows how" {
		t.Errorf("an end that nobody knows is called %q", got)
	}
}

// TestSilentWorker asks a worker that hears but never answers for what it knows: that takes no longer than a run may.
func TestSilentWorker(t *testing.T) {
	s, err := Opener(command(t, "echo"))(t.Context(), model(t), session.Options{Deadline: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	pid := s.(*sess).proc.cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := s.(session.Meter).Stats(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a worker that does not answer gives %v", err)
	}
	gone(t, pid)
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestSacrifice: a system without memory ends a worker before its coordinator.
func TestSacrifice(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux lets a process say so")
	}
	s, err := Opener(command(t, "echo"))(t.Context(), model(t), session.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", s.(*sess).proc.cmd.Process.Pid))
	if err != nil || strings.TrimSpace(string(score)) != "1000" {
		t.Errorf("its score is %q, %v", score, err)
	}
}

// TestLeak runs an engine that leaks: it is ended when it has most of the memory and hardly any is left, in a run or over
// many, and only then.
func TestLeak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("what a process has is known on Linux only")
	}
	const room = 256 << 20
	for name, c := range map[string]struct {
		engine string
		left   int64 // what the machine has left once the worker runs
		ends   bool
	}{
		"over many runs":                    {"leak", room/20 - 1, true},
		"in one run":                        {"leak for ever", room/20 - 1, true},
		"while there is enough":             {"leak", room / 20, false},
		"little, and others have the rest":  {"echo", 0, false},
		"many runs on a machine with ample": {"leak", room, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := int64(room)
			o := command(t, c.engine)
			o.Free = func() int64 { defer func() { left = c.left }(); return left }
			s, err := Opener(o)(t.Context(), model(t), session.Options{Deadline: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			pid := s.(*sess).proc.cmd.Process.Pid
			for i := 0; i < 40 && err == nil; i++ {
				_, err = s.Run(t.Context(), small)
				time.Sleep(10 * time.Millisecond) // between the runs nobody looks
			}
			full := session.OutOfMemory{}
			if errors.As(err, &full) != c.ends || err != nil && (!full.Watched || !strings.Contains(err.Error(), "model.onnx") || !strings.Contains(err.Error(), "12 MiB are left")) {
				t.Errorf("it ends with %v", err)
			}
			if c.ends {
				gone(t, pid)
			}
		})
	}
}
