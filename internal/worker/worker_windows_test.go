package worker

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// TestMain makes this binary a worker when a test starts it as one: its second argument says what the engine does.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == Argument {
		os.Exit(Main(func(context.Context, string, session.Options) (session.Session, error) { return echo(os.Args[2]), nil }))
	}
	os.Exit(m.Run())
}

// echo is an engine that returns its inputs, or does what its name says.
type echo string

func (e echo) Inputs() []session.Port  { return []session.Port{{Name: "x"}} }
func (e echo) Outputs() []session.Port { return []session.Port{{Name: "x"}} }
func (e echo) Close() error            { return nil }

func (e echo) Run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	switch e {
	case "exit":
		os.Exit(3)
	case "hang":
		select {}
	case "panic":
		panic("index out of range")
	}
	return &session.Result{Elapsed: 1, Outputs: in}, nil
}

// startEngine opens a worker whose engine does what is asked.
func startEngine(t *testing.T, what string, o session.Options) session.Session {
	t.Helper()
	self := os.Args[0] // any file is a model to this engine
	s, err := Opener(Options{Command: []string{self, Argument, what}})(t.Context(), self, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func input(n int, fill byte) map[string]*onnx.Tensor {
	return map[string]*onnx.Tensor{"x": {Name: "x", DType: onnx.Uint8, Shape: []int64{int64(n)}, Data: onnx.Raw(bytes.Repeat([]byte{fill}, n))}}
}

// TestTensorsGrow: tensors of every size come back whole, though the memory that they pass through is mapped anew as it grows.
func TestTensorsGrow(t *testing.T) {
	s := startEngine(t, "echo", session.Options{})
	for i, n := range []int{1, 0, 1000, 3 << 20, 10, 40 << 20, 5 << 20} {
		r, err := s.Run(t.Context(), input(n, byte(i+1)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.Outputs["x"].Data.Bytes()
		if err != nil || len(b) != n || bytes.Count(b, []byte{byte(i + 1)}) != n {
			t.Errorf("%d bytes came back as %d (%v)", n, len(b), err)
		}
	}
}

// TestEnds: a worker that ends, fails or hangs is an error that says so.
func TestEnds(t *testing.T) {
	for what, want := range map[string]string{"exit": "ended with status 3", "panic": "index out of range", "hang": "was killed: it did not stop when told to"} {
		s := startEngine(t, what, session.Options{Deadline: time.Second})
		_, err := s.Run(t.Context(), input(3, 7))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
		if late := (session.TooLong{}); what == "hang" && !errors.As(err, &late) {
			t.Errorf("%s: %v is no deadline", what, err)
		}
	}
}

// TestByHand: a worker that nobody opened files for says so.
func TestByHand(t *testing.T) {
	if _, err := inherited(); err == nil || !strings.Contains(err.Error(), "not by hand") {
		t.Errorf("%v", err)
	}
}
