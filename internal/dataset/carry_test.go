package dataset

import (
	"archive/zip"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// TestCarrier runs a model that adds its input to its state: the outputs are
// running sums, which start again with each sequence.
func TestCarrier(t *testing.T) {
	x := npyBytes("<f4", false, []int64{5, 1}, le([]float32{1, 2, 3, 4, 5}))
	seq := npyBytes("<i8", false, []int64{5}, le([]int64{0, 0, 0, 1, 1}))
	state := npyBytes("<f4", false, []int64{5, 1, 1}, le([]float32{10, 20, 30, 40, 50}))
	for name, c := range map[string]struct {
		data []any
		want []float64
	}{
		"zeros":     {[]any{"x.npy", x}, []float64{1, 3, 6, 10, 15}},
		"sequences": {[]any{"x.npy", x, "sequence.npy", seq}, []float64{1, 3, 6, 4, 9}},
		"from data": {[]any{"x.npy", x, "sequence.npy", seq, "state.npy", state}, []float64{11, 13, 16, 44, 49}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(write(t, map[string][]byte{"d.npz": npzBytes(zip.Deflate, c.data...)}), "d.npz")
			s := mustOpen(t, path, Options{
				Inputs:  []Port{port("x", onnx.Float, -1, 1), port("state", onnx.Float, -1, 1)},
				Outputs: []Port{port("next", onnx.Float, -1, 1)},
				State:   map[string]string{"next": "state"},
			})
			if s.BatchSize() != 1 {
				t.Errorf("batch size %d", s.BatchSize())
			}
			carrier := s.Carrier()
			var got []float64
			for _, x := range all(t, s) {
				in, err := carrier.Feed(x)
				if err != nil {
					t.Fatal(err)
				}
				sum := values(t, in["x"])[0] + values(t, in["state"])[0]
				got = append(got, sum)
				if err := carrier.Keep(map[string]*onnx.Tensor{"next": onnx.FromFloats("next", []int64{1, 1}, []float32{float32(sum)})}); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			wantError(t, carrier.Keep(nil), `the model gave no output "next"`)
			wantError(t, carrier.Keep(map[string]*onnx.Tensor{"next": onnx.FromFloats("next", []int64{2}, []float32{1, 2})}), "but the input takes")
		})
	}
}

// TestTestData reads the layout of ONNX's own test data, names by position
// where the files have none.
func TestTestData(t *testing.T) {
	enc := func(x *onnx.Tensor) []byte {
		b, err := onnxfile.EncodeTensor(x)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	at := func(v float32) []byte { return enc(onnx.FromFloats("", []int64{2}, []float32{v, v})) }
	var seq []byte
	for range 2 {
		seq = protowire.AppendTag(seq, 3, protowire.BytesType)
		seq = protowire.AppendBytes(seq, enc(onnx.FromInts("", []int64{1}, []int64{8})))
	}
	files := map[string][]byte{"model.onnx": nil}
	for i, n := range []string{"0", "2", "10"} {
		dir := "test_data_set_" + n + "/"
		files[dir+"input_0.pb"] = at(float32(i))
		files[dir+"input_1.pb"] = seq
		files[dir+"output_0.pb"] = at(float32(-i))
	}
	dir := write(t, files)
	ports := []Port{port("x", onnx.Float, 2), {"s", &onnx.Type{Kind: onnx.KindSequence, Of: onnx.TensorType(onnx.Int64, nil)}}}
	o := Options{Inputs: ports, Outputs: []Port{port("y", onnx.Float, 2)}}
	s := mustOpen(t, dir, o)
	x := all(t, s)
	if len(x) != 3 || x[2].ID != "test_data_set_10" || s.BatchSize() != 1 {
		t.Fatalf("%d samples, last %v", len(x), x[len(x)-1])
	}
	for i, e := range x {
		if values(t, e.Inputs["x"])[1] != float64(i) || values(t, e.Inputs["s[1]"])[0] != 8 || values(t, e.Expected["y"])[0] != -float64(i) {
			t.Errorf("sample %d: %v %v", i, e.Inputs, e.Expected)
		}
	}
	if n := mustOpen(t, filepath.Join(dir, "test_data_set_2"), o).Len(); n != 1 {
		t.Errorf("one folder has %d samples", n)
	}
	for name, c := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"garbage":  {map[string][]byte{"input_0.pb": []byte("\xff\xff\xff")}, "input_0.pb"},
		"surplus":  {map[string][]byte{"input_0.pb": at(1), "input_1.pb": seq, "input_2.pb": at(1)}, "the model has only 2 such values"},
		"number":   {map[string][]byte{"input_x.pb": at(1)}, "does not end in a number"},
		"lacking":  {map[string][]byte{"input_1.pb": seq}, `has nothing for input "x"`},
		"same one": {map[string][]byte{"input_0.pb": enc(onnx.FromFloats("x", []int64{1}, []float32{1})), "input_00.pb": at(1)}, "two files are for"},
	} {
		_, err := Open(write(t, c.files), o)
		t.Run(name, func(t *testing.T) { wantError(t, err, c.want) })
	}
}

func TestOverlap(t *testing.T) {
	shape := func(n int64) []int64 { return []int64{n, 1} }
	dir := write(t, map[string][]byte{
		"calib.npy": npyBytes("<f8", false, shape(4), le([]float64{1, 2, 0.1, 9})),
		"val.npy":   npyBytes("|u1", false, shape(3), []byte{2, 5, 9}),
		"half.npy":  npyBytes("<f4", false, shape(2), le([]float32{0.1, 7})),
		"t.csv":     []byte("x\n5\n0.1\n"),
	})
	set := func(name string) *Set {
		return mustOpen(t, filepath.Join(dir, name), Options{Inputs: []Port{port("x", onnx.Float, -1, 1)}})
	}
	for _, c := range []struct {
		a, b     string
		rows     int64
		examples []string
	}{
		{"val.npy", "calib.npy", 2, []string{"row 0", "row 2"}},
		{"half.npy", "calib.npy", 1, []string{"row 0"}},
		{"t.csv", "val.npy", 1, []string{"row 0"}},
		{"t.csv", "calib.npy", 1, []string{"row 1"}},
		{"half.npy", "val.npy", 0, nil},
	} {
		rows, examples, err := Overlap(t.Context(), set(c.a), set(c.b))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.examples, examples); d != "" || rows != c.rows {
			t.Errorf("%s in %s: %d rows %s", c.a, c.b, rows, d)
		}
	}
	// The same picture at two places, whatever its preprocessing and label.
	a, b := pictures(t, 6), pictures(t, 9)
	crop, err := ParsePreprocess("crop=4,scale=1/255")
	if err != nil {
		t.Fatal(err)
	}
	rows, examples, err := Overlap(t.Context(), mustOpen(t, a, Options{Preprocess: crop, Skip: 4}), mustOpen(t, b, Options{}))
	if err != nil || rows != 2 || examples[0] != "p004.png" {
		t.Errorf("pictures: %d rows %v %v", rows, examples, err)
	}
}

// TestDigest: equal for equal content in whatever form, different if anything changes.
func TestDigest(t *testing.T) {
	x := npyBytes("<f4", false, []int64{3, 1}, le([]float32{1, 2, 3}))
	y := func(v ...int64) []byte { return npyBytes("<i8", false, []int64{3}, le(v)) }
	dir := write(t, map[string][]byte{
		"a.npz": npzBytes(zip.Deflate, "x.npy", x, "labels.npy", y(0, 1, 2)), "b.npz": npzBytes(zip.Store, "labels.npy", y(0, 1, 2), "x.npy", x),
		"label.npz": npzBytes(zip.Store, "labels.npy", y(0, 2, 1), "x.npy", x), "none.npz": npzBytes(zip.Store, "x.npy", x),
		"t.csv": []byte("x,label\n1,0\n2,1\n3,2\n"), "order.csv": []byte("x,label\n2,1\n1,0\n3,2\n"),
	})
	digests := map[string]string{}
	for _, name := range []string{"a.npz", "b.npz", "label.npz", "none.npz", "t.csv", "order.csv"} {
		d, err := mustOpen(t, filepath.Join(dir, name), Options{Inputs: []Port{port("x", onnx.Float, -1, 1)}}).Digest(t.Context())
		if err != nil || len(d) != 64 {
			t.Fatal(d, err)
		}
		digests[d] += name + " "
	}
	want := map[string]bool{"a.npz b.npz t.csv ": true, "label.npz ": true, "none.npz ": true, "order.csv ": true}
	for d, names := range digests {
		if !want[names] {
			t.Errorf("%s: %s", d, names)
		}
	}
}
