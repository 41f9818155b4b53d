package dataset

import (
	"archive/zip"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func TestFitRow(t *testing.T) {
	const any = int64(-1)
	for _, c := range []struct {
		port, row []int64
		flat      bool
		want      []int64 // nil: refused
		whole     bool
	}{
		{port: []int64{any, 3}, row: []int64{3}, want: []int64{1, 3}},
		{port: []int64{any, 3}, row: []int64{4}},
		{port: []int64{any, 3}, row: []int64{1, 3}, want: []int64{1, 3}, whole: true},
		{port: []int64{2, any, 8}, row: []int64{2, 5, 8}, want: []int64{2, 5, 8}, whole: true},
		{port: []int64{2, any, 8}, row: []int64{3, 5, 8}},
		{port: []int64{}, row: []int64{}, want: []int64{}, whole: true},
		{port: []int64{any}, row: []int64{}, want: []int64{1}},
		{port: []int64{any, 1}, row: []int64{}, want: []int64{1, 1}},
		{port: []int64{any, 2}, row: []int64{}},
		{port: []int64{any, 1, 2, 2}, row: []int64{4}},
		{port: []int64{any, 1, 2, 2}, row: []int64{4}, flat: true, want: []int64{1, 1, 2, 2}},
		{port: []int64{any, 1, any, 2}, row: []int64{4}, flat: true},
		{port: []int64{}, row: []int64{1}, flat: true, want: []int64{}},
	} {
		got, whole, err := fitRow(port("x", onnx.Float, c.port...), c.row, c.flat)
		if (err != nil) != (c.want == nil) || err == nil && (!slices.Equal(got, c.want) || whole != c.whole) {
			t.Errorf("row %v for %v: %v, whole=%v, %v; want %v, %v", c.row, c.port, got, whole, err, c.want, c.whole)
		}
	}
}

func TestConvert(t *testing.T) {
	num := func(d onnx.DType, v ...float64) *onnx.Tensor {
		x, err := onnx.FromFloat64s("x", d, []int64{int64(len(v))}, v)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, c := range []struct {
		from *onnx.Tensor
		to   onnx.DType
		want []float64
		err  string
	}{
		{from: num(onnx.Uint8, 0, 255), to: onnx.Float, want: []float64{0, 255}},
		{from: num(onnx.Uint8, 0, 255), to: onnx.Float16, want: []float64{0, 255}},
		{from: num(onnx.Uint8, 0, 255), to: onnx.Int8, err: "element 1 is 255, which int8 cannot hold"},
		{from: num(onnx.Int32, -5, 1<<30), to: onnx.Int64, want: []float64{-5, 1 << 30}},
		{from: num(onnx.Int64, -5, 1<<30), to: onnx.Int32, want: []float64{-5, 1 << 30}},
		{from: num(onnx.Int64, 1<<31), to: onnx.Int32, err: "cannot hold"},
		{from: num(onnx.Int64, -1), to: onnx.Uint64, err: "cannot hold"},
		{from: num(onnx.Uint64, 1<<63), to: onnx.Int64, err: "cannot hold"},
		{from: num(onnx.Int64, 1<<24), to: onnx.Float, want: []float64{1 << 24}},
		{from: num(onnx.Int64, 1<<24+1), to: onnx.Float, err: "cannot hold"},
		{from: num(onnx.Bool, 1, 0), to: onnx.Float, want: []float64{1, 0}},
		{from: num(onnx.Int64, 1, 0), to: onnx.Bool, want: []float64{1, 0}},
		{from: num(onnx.Int64, 2), to: onnx.Bool, err: "cannot hold"},
		{from: num(onnx.Double, 0.5, 0.1), to: onnx.Float, want: []float64{0.5, float64(float32(0.1))}},
		{from: num(onnx.Double, 1e300), to: onnx.Float, err: "beyond the range of float"},
		{from: num(onnx.Float, 1, 0.5), to: onnx.Float16, want: []float64{1, 0.5}},
		{from: num(onnx.Float, 70000), to: onnx.Float16, err: "beyond the range of float16"},
		{from: num(onnx.Float16, 1, 0.5), to: onnx.Double, want: []float64{1, 0.5}},
		{from: num(onnx.Float, 1), to: onnx.Int64, err: "without loss"},
		{from: num(onnx.Float, 1), to: onnx.String, err: "cannot become string"},
		{from: num(onnx.Float, 1), to: onnx.Complex64, err: "cannot become complex64"},
	} {
		got, err := convert(c.from, c.to)
		if c.err != "" {
			wantError(t, err, c.err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, values(t, got)); d != "" || got.DType != c.to {
			t.Errorf("%v → %v: %s", c.from, got, d)
		}
	}
}

// labelled is an archive of six samples of two features with everything beside them.
func labelled(t *testing.T) string {
	dir := write(t, map[string][]byte{"d.npz": npzBytes(zip.Deflate,
		"x.npy", npyBytes("<f4", false, []int64{6, 2}, le(floatRange(12))),
		"labels.npy", npyBytes("<i4", false, []int64{6, 1}, le([]int32{0, 1, 2, 0, 1, 2})),
		"slices.npy", npyBytes("|S1", false, []int64{6, 2}, []byte("ab\x00ba\x00\x00\x00bbab")),
		"sequence.npy", npyBytes("<i8", false, []int64{6}, le([]int64{1, 1, 1, 2, 2, 3})),
		"other.npy", npyBytes("<i8", false, []int64{3}, le([]int64{1, 2, 3})),
	)})
	return filepath.Join(dir, "d.npz")
}

func TestArrays(t *testing.T) {
	s := mustOpen(t, labelled(t), Options{Inputs: []Port{port("x", onnx.Float, -1, 2)}})
	var got []string
	for _, x := range all(t, s) {
		got = append(got, fmt.Sprint(x.ID, x.Inputs["x"].Shape, values(t, x.Inputs["x"]), x.Label.Shape, values(t, x.Label), x.Slices, x.Sequence))
	}
	want := []string{
		"row 0[1 2] [0 1] [] [0] [a b]1", "row 1[1 2] [2 3] [] [1] [b]1", "row 2[1 2] [4 5] [] [2] [a]1",
		"row 3[1 2] [6 7] [] [0] []2", "row 4[1 2] [8 9] [] [1] [b b]2", "row 5[1 2] [10 11] [] [2] [a b]3",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if s.Labels() != Class || s.Len() != 6 || s.BatchSize() != 0 || s.Synthetic() {
		t.Errorf("labels %v, %d samples, batch %d", s.Labels(), s.Len(), s.BatchSize())
	}
	if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0], `array "other" serves no input`) {
		t.Errorf("warnings %q", w)
	}
}

// TestOneArrayServesOneInput: the only array that could be the only input is.
func TestOneArrayServesOneInput(t *testing.T) {
	dir := write(t, map[string][]byte{
		"data.npy":  npyBytes("<f4", false, []int64{3, 2}, le(floatRange(6))),
		"label.npy": npyBytes("<f8", false, []int64{3}, le([]float64{.5, 1, 2})),
	})
	for _, spec := range []string{dir, filepath.Join(dir, "data.npy") + "," + filepath.Join(dir, "label.npy")} {
		s := mustOpen(t, spec, Options{Inputs: []Port{port("input:0", onnx.Float16, -1, 2)}})
		x := all(t, s)[2]
		if d := cmp.Diff([]float64{4, 5}, values(t, x.Inputs["input:0"])); d != "" || s.Labels() != Value || values(t, x.Label)[0] != 2 {
			t.Errorf("%s: %v %v %s", spec, x.Inputs, x.Label, d)
		}
	}
}

func TestLabelKinds(t *testing.T) {
	x := npyBytes("<f4", false, []int64{2}, le(floatRange(2)))
	for _, c := range []struct {
		label []byte
		kind  LabelKind
		want  string
		err   string
	}{
		{label: npyBytes("<i8", false, []int64{2}, le([]int64{3, 4})), kind: Class, want: "[] [4]"},
		{label: npyBytes("|u1", false, []int64{2}, []byte{3, 4}), kind: Class, want: "[] [4]"},
		{label: npyBytes("<i4", false, []int64{2, 3}, le([]int32{0, 1, 2, 3, 4, 5})), kind: Positions, want: "[3] [3 4 5]"},
		{label: npyBytes("|b1", false, []int64{2, 3}, []byte{0, 0, 0, 1, 0, 1}), kind: ClassSet, want: "[2] [0 2]"},
		{label: npyBytes("<f4", false, []int64{2}, le([]float32{1.5, -2})), kind: Value, want: "[] [-2]"},
		{label: npyBytes("<f4", false, []int64{2, 2}, le(floatRange(4))), kind: Value, want: "[2] [2 3]"},
		{label: npyBytes("|S3", false, []int64{2}, []byte("catdog")), kind: Class, want: "[] [1]"},
		{label: npyBytes("|S3", false, []int64{2}, []byte("catcow")), err: `"cow" is not one of the 2 class names`},
		{label: npyBytes("<c8", false, []int64{2}, make([]byte, 16)), err: "complex64 values are not labels"},
		{label: npyBytes("<i8", false, []int64{3}, make([]byte, 24)), err: `array "labels" has 3 samples where others have 2`},
	} {
		dir := write(t, map[string][]byte{"x.npy": x, "labels.npy": c.label})
		s, err := Open(dir, Options{Classes: []string{"cat", "dog"}})
		var y *Sample
		if err == nil {
			defer s.Close()
			y, err = s.At(t.Context(), 1)
		}
		if c.err != "" {
			wantError(t, err, c.err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(y.Label.Shape, " ", values(t, y.Label)); got != c.want || s.Labels() != c.kind {
			t.Errorf("%v %s, want %v %s", s.Labels(), got, c.kind, c.want)
		}
	}
}

func TestBatches(t *testing.T) {
	path := labelled(t)
	for _, c := range []struct {
		batch   int64 // of the model; -1 is any
		ask     int
		sizes   []int
		padding int
		last    []float64
	}{
		{-1, 4, []int{4, 2}, 0, []float64{8, 9, 10, 11}},
		{-1, 0, []int{1, 1, 1, 1, 1, 1}, 0, []float64{10, 11}},
		{1, 4, []int{1, 1, 1, 1, 1, 1}, 0, []float64{10, 11}},
		{4, 1, []int{4, 2}, 2, []float64{8, 9, 10, 11, 10, 11, 10, 11}},
	} {
		s := mustOpen(t, path, Options{Inputs: []Port{port("x", onnx.Float, c.batch, 2)}})
		var sizes []int
		var last *Batch
		for b, err := range s.Batches(t.Context(), c.ask) {
			if err != nil {
				t.Fatal(err)
			}
			sizes, last = append(sizes, len(b.Samples)), b
		}
		if d := cmp.Diff(c.sizes, sizes); d != "" {
			t.Errorf("batch %d, asked %d: %s", c.batch, c.ask, d)
		}
		if d := cmp.Diff(c.last, values(t, last.Inputs["x"])); d != "" || last.Padding != c.padding {
			t.Errorf("batch %d: padding %d, %s", c.batch, last.Padding, d)
		}
		if n := last.Inputs["x"].Shape[0]; n != int64(len(last.Samples)+last.Padding) {
			t.Errorf("batch axis %d", n)
		}
	}
}

// TestWholeInputs: an array with one rank more gives one whole input per
// sample, one of rank 0 the same to all, and the batch size is 1.
func TestWholeInputs(t *testing.T) {
	dir := write(t, map[string][]byte{"d.npz": npzBytes(zip.Store,
		"input.npy", npyBytes("<f4", false, []int64{3, 1, 4}, le(floatRange(12))),
		"state.npy", npyBytes("<f4", false, []int64{3, 2, 1, 1}, le(floatRange(6))),
		"sr.npy", npyBytes("<i4", false, nil, le([]int32{16000})),
	)})
	ports := []Port{port("input", onnx.Float, -1, -1), port("state", onnx.Float, 2, -1, 1), port("sr", onnx.Int64)}
	s := mustOpen(t, filepath.Join(dir, "d.npz"), Options{Inputs: ports})
	if s.BatchSize() != 1 || s.Len() != 3 {
		t.Errorf("batch size %d, %d samples", s.BatchSize(), s.Len())
	}
	x := all(t, s)[2]
	got := fmt.Sprint(x.Inputs["input"].Shape, x.Inputs["state"].Shape, x.Inputs["sr"].Shape, values(t, x.Inputs["sr"]), values(t, x.Inputs["state"]))
	if want := "[1 4] [2 1 1] [] [16000] [4 5]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSubset(t *testing.T) {
	path := labelled(t)
	rows := func(o Options) (out []int64) {
		o.Inputs = []Port{port("x", onnx.Float, -1, 2)}
		for _, x := range all(t, mustOpen(t, path, o)) {
			out = append(out, x.Index)
		}
		return out
	}
	if d := cmp.Diff([]int64{2, 3, 4}, rows(Options{Skip: 2, Limit: 3})); d != "" {
		t.Error(d)
	}
	whole := rows(Options{Shuffle: true, Seed: 5})
	if d := cmp.Diff(whole, rows(Options{Shuffle: true, Seed: 5})); d != "" {
		t.Errorf("not reproducible: %s", d)
	}
	parts := append(rows(Options{Shuffle: true, Seed: 5, Limit: 2}), rows(Options{Shuffle: true, Seed: 5, Skip: 2})...)
	if d := cmp.Diff(whole, parts); d != "" {
		t.Errorf("skip and limit do not part the shuffled order: %s", d)
	}
	_, err := Open(path, Options{Skip: 6, Inputs: []Port{port("x", onnx.Float, -1, 2)}})
	wantError(t, err, "skipping 6 of 6 samples leaves none")
}

func TestOrderIsPermutation(t *testing.T) {
	for _, n := range []uint64{1, 2, 3, 4, 5, 63, 64, 65, 1000, 4097} {
		for seed := range uint64(4) {
			o := newOrder(n, seed)
			seen := make([]bool, n)
			for k := range int64(n) {
				i := o.at(k)
				if seen[i] {
					t.Fatalf("n=%d seed=%d: %d twice", n, seed, i)
				}
				seen[i] = true
			}
		}
	}
	// Over many seeds each element comes first about equally often: the counts
	// are binomial, and 200 ± 90 is six standard deviations.
	counts := make([]int, 10)
	for seed := range uint64(2000) {
		counts[newOrder(10, seed).at(0)]++
	}
	for i, n := range counts {
		if n < 110 || n > 290 {
			t.Errorf("element %d is first %d times of 2000", i, n)
		}
	}
}

func TestDims(t *testing.T) {
	s := mustOpen(t, labelled(t), Options{Inputs: []Port{port("x", onnx.Float, -1, 2)}, Dims: map[string]int64{"N": 3}})
	if s.BatchSize() != 3 {
		t.Errorf("batch size %d, want that of --dim N=3", s.BatchSize())
	}
}

func TestSynthetic(t *testing.T) {
	ports := []Port{
		port("f", onnx.Float, -1, 1000), port("h", onnx.Float16, 2, 3), port("i", onnx.Int64, -1, 64), port("b", onnx.Bool, 64),
		port("s", onnx.String, 2), {"q", &onnx.Type{Kind: onnx.KindSequence, Of: onnx.TensorType(onnx.Float, onnx.ShapeOf(3))}},
	}
	s := mustOpen(t, "synthetic:3", Options{Inputs: ports, Seed: 7, Dims: map[string]int64{"N": 2}, Synthetic: Synthetic{Mean: 5, Std: 2}})
	if !s.Synthetic() || s.Len() != 3 || s.Labels() != NoLabel || s.BatchSize() != 1 {
		t.Errorf("synthetic=%v, %d samples, labels %v, batch %d", s.Synthetic(), s.Len(), s.Labels(), s.BatchSize())
	}
	x, again := all(t, s), all(t, s)
	for i := range x {
		for name, v := range x[i].Inputs {
			if d := cmp.Diff(v, again[i].Inputs[name]); d != "" {
				t.Errorf("not reproducible: %s", d)
			}
		}
	}
	v := values(t, x[0].Inputs["f"])
	var sum, square float64
	for _, f := range v {
		sum += f
		square += (f - 5) * (f - 5)
	}
	if n := float64(len(v)); n != 2000 || sum/n < 4.7 || sum/n > 5.3 || square/n < 3.2 || square/n > 4.8 {
		t.Errorf("%g floats, mean %g, variance %g", n, sum/n, square/n)
	}
	for _, f := range values(t, x[0].Inputs["i"]) {
		if f != 0 && f != 1 {
			t.Errorf("integer %g", f)
		}
	}
	if slices.Equal(values(t, x[0].Inputs["f"]), values(t, x[1].Inputs["f"])) || x[0].Inputs["q[0]"] == nil {
		t.Error("samples are equal, or the sequence is missing")
	}
	if n := mustOpen(t, "synthetic", Options{Inputs: ports[:1]}).Len(); n != defaultSynthetic {
		t.Errorf("%d samples by default", n)
	}
}

func TestOpenErrors(t *testing.T) {
	x := npyBytes("<f4", false, []int64{2, 3}, le(floatRange(6)))
	dir := write(t, map[string][]byte{
		"mixed/x.npy": x, "mixed/a.png": pngBytes(2, 2, func(x, y int) [3]byte { return [3]byte{} }),
		"void/readme.txt": nil, "x.npy": x, "x.bin": x, "d.npz": npzBytes(zip.Store, "y.npy", x, "z.npy", x),
	})
	ports := []Port{port("x", onnx.Float, -1, 3), port("m", onnx.Int64, -1, 3)}
	for _, c := range []struct {
		spec string
		o    Options
		want string
	}{
		{"missing", Options{}, "no such file"},
		{"mixed", Options{}, "more than one form of data"},
		{"void", Options{}, "no .npy files, images"},
		{"x.bin", Options{}, "the form is not known"},
		{"x.npy,x.bin", Options{}, "a list may name .npy files only"},
		{"x.npy", Options{Inputs: ports}, `no array for input "m"; it has "x" [2 3]`},
		{"d.npz", Options{Inputs: ports[:1]}, `no array is named after an input of the model ("x")`},
		{"x.npy", Options{Inputs: []Port{port("x", onnx.Float, -1, 4)}}, "a sample of shape [3] does not fit input \"x\""},
		{"x.npy", Options{Inputs: []Port{port("x", onnx.Int64, -1, 3)}}, `row 0: input "x": float data cannot become int64`},
		{"x.npy", Options{Label: "y"}, `no label array "y"`},
		{"x.npy", Options{Limit: -1}, "must not be negative"},
		{"x.npy", Options{Shuffle: true, State: map[string]string{"o": "x"}}, "cannot be shuffled"},
		{"x.npy", Options{Inputs: ports, State: map[string]string{"o": "y"}}, `state o=y: the model has no input "y"`},
		{"synthetic:0", Options{Inputs: ports}, "want a number of samples"},
		{"synthetic", Options{}, "no inputs to generate data for"},
		{"synthetic", Options{Inputs: []Port{{"x", onnx.TensorType(onnx.Float, nil)}}}, "cannot be generated"},
		{"synthetic", Options{Inputs: []Port{port("x", onnx.Float, 1<<40)}}, "larger than the limit"},
	} {
		spec := c.spec
		if !strings.HasPrefix(spec, "synthetic") {
			spec = filepath.Join(dir, strings.ReplaceAll(spec, ",", ","+dir+"/"))
		}
		_, err := Open(spec, c.o)
		t.Run(c.spec, func(t *testing.T) { wantError(t, err, c.want) })
	}
}

func TestAt(t *testing.T) {
	s := mustOpen(t, labelled(t), Options{Skip: 1, Inputs: []Port{port("x", onnx.Float, -1, 2)}})
	x, err := s.At(t.Context(), 3)
	if err != nil || x.Index != 4 {
		t.Errorf("%v %v", x, err)
	}
	_, err = s.At(t.Context(), 5)
	wantError(t, err, "sample 5 of 5 does not exist")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = s.At(ctx, 0); err != context.Canceled {
		t.Errorf("after cancel: %v", err)
	}
}
