//go:build unix

package worker

import (
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// TestEveryOptionIsSent: options that a worker needs arrive as they were given,
// those added later too. The deadline is the coordinator's.
func TestEveryOptionIsSent(t *testing.T) {
	var o session.Options
	v := reflect.ValueOf(&o).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("text")
		case reflect.Int, reflect.Int64:
			f.SetInt(3)
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"a", "b"}))
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string]string{"k": "v"}))
		default:
			t.Fatalf("a field of kind %v is not tested", f.Kind())
		}
	}
	var e encoder
	e.options(o)
	d := &decoder{b: e.b}
	got := d.options()
	if err := d.done(); err != nil {
		t.Fatal(err)
	}
	o.Deadline, o.LoadLimit = 0, 0
	if diff := cmp.Diff(o, got); diff != "" {
		t.Error(diff)
	}
}

// TestDenormals: a number below the normal ones is halved, or taken as zero
// where that is asked for, on the thread that runs the model too.
func TestDenormals(t *testing.T) {
	m := onnx.NewModel(17)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(8)))
	half := m.Graph.NewConst(onnx.FromFloats("half", []int64{1}, []float32{0.5}))
	n := onnx.NewNode("Mul", []*onnx.Value{x, half}, "y")
	m.Graph.Append(n)
	m.Graph.AddOutput(n.Output(0))
	path := filepath.Join(t.TempDir(), "m.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	tiny := make([]float32, 8)
	for i := range tiny {
		tiny[i] = 1e-40
	}
	for _, flush := range []bool{false, true} {
		s, err := Opener(onnxRuntime(t))(t.Context(), path, session.Options{Threads: 1, Flush: flush})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 { // the engine's thread must not depend on chance
			r, err := s.Run(t.Context(), map[string]*onnx.Tensor{"x": onnx.FromFloats("x", []int64{8}, tiny)})
			if err != nil {
				t.Fatal(err)
			}
			y, err := r.Outputs["y"].Float64s()
			if err != nil || (y[7] == 0) != flush {
				t.Fatalf("with Flush %v half of 1e-40 is %v, %v", flush, y[7], err)
			}
		}
		s.Close()
	}
}
