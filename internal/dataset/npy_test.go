package dataset

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func TestNpyElements(t *testing.T) {
	big := func(v any) []byte {
		b, err := binary.Append(nil, binary.BigEndian, v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		descr string
		data  []byte
		want  onnx.DType
		vals  []float64
	}{
		{"|b1", []byte{1, 0}, onnx.Bool, []float64{1, 0}},
		{"|i1", []byte{0xff, 2}, onnx.Int8, []float64{-1, 2}},
		{"|u1", []byte{0xff, 2}, onnx.Uint8, []float64{255, 2}},
		{"<i2", le([]int16{-300, 7}), onnx.Int16, []float64{-300, 7}},
		{">i2", big([]int16{-300, 7}), onnx.Int16, []float64{-300, 7}},
		{"<u2", le([]uint16{60000, 7}), onnx.Uint16, []float64{60000, 7}},
		{"<i4", le([]int32{-70000, 7}), onnx.Int32, []float64{-70000, 7}},
		{">u4", big([]uint32{4e9, 7}), onnx.Uint32, []float64{4e9, 7}},
		{"<i8", le([]int64{-1 << 40, 7}), onnx.Int64, []float64{-1 << 40, 7}},
		{">i8", big([]int64{-1 << 40, 7}), onnx.Int64, []float64{-1 << 40, 7}},
		{"<u8", le([]uint64{1 << 63, 7}), onnx.Uint64, []float64{1 << 63, 7}},
		{"<f2", le([]uint16{0x3c00, 0xc000}), onnx.Float16, []float64{1, -2}},
		{">f2", big([]uint16{0x3c00, 0xc000}), onnx.Float16, []float64{1, -2}},
		{"<f4", le([]float32{1.5, -2}), onnx.Float, []float64{1.5, -2}},
		{">f4", big([]float32{1.5, -2}), onnx.Float, []float64{1.5, -2}},
		{"<f8", le([]float64{math.Pi, -2}), onnx.Double, []float64{math.Pi, -2}},
		{"=f8", le([]float64{math.Pi, -2}), onnx.Double, []float64{math.Pi, -2}},
	} {
		t.Run(c.descr, func(t *testing.T) {
			dir := write(t, map[string][]byte{"x.npy": npyBytes(c.descr, false, []int64{2}, c.data)})
			s := mustOpen(t, filepath.Join(dir, "x.npy"), Options{})
			var got []float64
			for _, x := range all(t, s) {
				if d := x.Inputs["x"].DType; d != c.want {
					t.Errorf("type %v, want %v", d, c.want)
				}
				got = append(got, values(t, x.Inputs["x"])...)
			}
			if d := cmp.Diff(c.vals, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestNpyStringsAndComplex(t *testing.T) {
	utf32 := func(big bool, words ...string) (b []byte) {
		for _, w := range words {
			cell := make([]byte, 16)
			for i, r := range []rune(w) {
				if big {
					binary.BigEndian.PutUint32(cell[4*i:], uint32(r))
				} else {
					binary.LittleEndian.PutUint32(cell[4*i:], uint32(r))
				}
			}
			b = append(b, cell...)
		}
		return b
	}
	for descr, data := range map[string][]byte{
		"|S4": []byte("ab\x00\x00\x00\x00\x00\x00"),
		"<U4": utf32(false, "ab", ""),
		">U4": utf32(true, "ab", ""),
	} {
		dir := write(t, map[string][]byte{"x.npy": npyBytes(descr, false, []int64{2}, data)})
		var got []string
		for _, x := range all(t, mustOpen(t, dir, Options{Inputs: []Port{port("x", onnx.String, -1)}})) {
			v, err := x.Inputs["x"].Strings()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, v...)
		}
		if d := cmp.Diff([]string{"ab", ""}, got); d != "" {
			t.Errorf("%s: %s", descr, d)
		}
	}
	dir := write(t, map[string][]byte{"x.npy": npyBytes(">c8", false, []int64{1}, []byte{0x3f, 0x80, 0, 0, 0x40, 0, 0, 0})})
	x := all(t, mustOpen(t, dir, Options{}))[0].Inputs["x"]
	b, err := x.Bytes()
	if err != nil || x.DType != onnx.Complex64 || !bytes.Equal(b, le([]float32{1, 2})) {
		t.Errorf("complex: %v %v %v", x, b, err)
	}
}

// TestNpyRawElements: NumPy stores bfloat16 and float8 as raw bytes; the model says what they are.
func TestNpyRawElements(t *testing.T) {
	dir := write(t, map[string][]byte{"x.npy": npyBytes("<V2", false, []int64{2}, le([]uint16{0x3f80, 0xc000}))})
	var got []float64
	for _, x := range all(t, mustOpen(t, dir, Options{Inputs: []Port{port("x", onnx.BFloat16, -1)}})) {
		got = append(got, values(t, x.Inputs["x"])...)
	}
	if d := cmp.Diff([]float64{1, -2}, got); d != "" {
		t.Error(d)
	}
	_, err := Open(dir, Options{Inputs: []Port{port("x", onnx.Float, -1)}})
	wantError(t, err, "raw elements of 2 bytes cannot be float")
}

func TestNpyHeaderVersions(t *testing.T) {
	for _, major := range []byte{1, 2, 3} {
		h, err := readNpyHeader(bytes.NewReader(npyVersion(major, `{"shape": (3L, 2), 'fortran_order':True,'descr':'>f4'}`, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if !h.fortran || !h.elem.big || h.elem.dtype() != onnx.Float || !slices.Equal(h.shape, []int64{3, 2}) {
			t.Errorf("version %d: %+v", major, h)
		}
	}
}

func TestNpyHeaderErrors(t *testing.T) {
	good := func(descr, shape string) []byte {
		return npyVersion(1, "{'descr': "+descr+", 'fortran_order': False, 'shape': "+shape+"}", nil)
	}
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":          {nil, "ends within the header"},
		"magic":          {[]byte("PK\x03\x04 and more bytes"), "not an .npy file"},
		"version":        {npyVersion(9, "{}", nil), "format version 9.0"},
		"truncated":      {good("'<f4'", "(3,)")[:30], "into a header of"},
		"huge header":    {append([]byte("\x93NUMPY\x02\x00"), 0xff, 0xff, 0xff, 0xff), "claims 4294967295 bytes"},
		"structured":     {good("[('a', '<f4')]", "(3,)"), "structured arrays"},
		"object":         {good("'|O'", "(3,)"), "Python objects"},
		"long double":    {good("'<f16'", "(3,)"), "not supported"},
		"datetime":       {good("'<M8[ns]'", "(3,)"), "not known"},
		"empty string":   {good("'<U0'", "(3,)"), "elements of 0 bytes"},
		"wide string":    {good("'<U2147483647'", "(3,)"), "elements of"},
		"negative":       {good("'<f4'", "(-3,)"), "not a number from 0"},
		"overflow":       {good("'<f8'", "(4611686018427387904, 4)"), "overflows"},
		"beyond 64 bits": {good("'<f8'", "(99999999999999999999,)"), "not a number from 0"},
		"no elements":    {good("'<f8'", "(1000000000000, 0)"), "no elements"},
		"rank":           {good("'<f8'", "("+strings.Repeat("1,", 65)+")"), "more than 64 dimensions"},
		"missing key":    {npyVersion(1, "{'descr': '<f4'}", nil), "descr, fortran_order and shape are needed"},
		"twice":          {npyVersion(1, "{'descr': '<f4', 'descr': '<f4'}", nil), "appears twice"},
		"unknown key":    {npyVersion(1, "{'x': 1}", nil), "unknown key"},
		"code":           {npyVersion(1, "__import__('os')", nil), "want '{'"},
		"trailing":       {append(good("'<f4'", "(3,)")[:0:0], npyVersion(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} x", nil)...), "text after"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readNpyHeader(bytes.NewReader(c.b))
			wantError(t, err, c.want)
		})
	}
}

func TestNpyWrongLength(t *testing.T) {
	full := npyBytes("<f4", false, []int64{2, 3}, le(floatRange(6)))
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"short": {full[:len(full)-1], "the file is incomplete"},
		"long":  {append(slices.Clone(full), 0), "1 bytes after the end"},
		"claim": {npyBytes("<f4", false, []int64{1 << 40}, nil), "the file is incomplete"},
	} {
		dir := write(t, map[string][]byte{"x.npy": c.b})
		_, err := Open(dir, Options{})
		t.Run(name, func(t *testing.T) { wantError(t, err, c.want) })
	}
	dir := write(t, map[string][]byte{"x.npy": full})
	_, err := Open(dir, Options{MaxRow: 11})
	wantError(t, err, "more than the limit of 11")
}

// TestNpyOrders reads one array stored in every way, in order and shuffled.
func TestNpyOrders(t *testing.T) {
	const n, a, b = 7, 2, 3
	c := floatRange(n * a * b)
	f := make([]float32, len(c))
	for i := range n {
		for j := range a {
			for k := range b {
				f[i+n*(j+a*k)] = c[(i*a+j)*b+k]
			}
		}
	}
	shape := []int64{n, a, b}
	corder, forder := npyBytes("<f4", false, shape, le(c)), npyBytes("<f4", true, shape, le(f))
	dir := write(t, map[string][]byte{
		"c/x.npy": corder, "f/x.npy": forder,
		"stored.npz": npzBytes(zip.Store, "x.npy", corder), "deflated.npz": npzBytes(zip.Deflate, "x.npy", corder),
		"fstored.npz": npzBytes(zip.Store, "x.npy", forder), "fdeflated.npz": npzBytes(zip.Deflate, "x.npy", forder),
	})
	for _, name := range []string{"c", "f", "stored.npz", "deflated.npz", "fstored.npz", "fdeflated.npz"} {
		for _, shuffle := range []bool{false, true} {
			tmp := t.TempDir()
			s := mustOpen(t, filepath.Join(dir, name), Options{Inputs: []Port{port("x", onnx.Float, -1, a, b)}, Shuffle: shuffle, TempDir: tmp})
			var order []int64
			for _, x := range all(t, s) {
				order = append(order, x.Index)
				want := make([]float64, a*b)
				for j := range want {
					want[j] = float64(x.Index*a*b + int64(j))
				}
				if d := cmp.Diff(want, values(t, x.Inputs["x"])); d != "" {
					t.Fatalf("%s row %d: %s", name, x.Index, d)
				}
			}
			if sorted := slices.IsSorted(order); sorted == shuffle {
				t.Errorf("%s: order %v with shuffle=%v", name, order, shuffle)
			}
			if slices.Sort(order); !slices.Equal(order, []int64{0, 1, 2, 3, 4, 5, 6}) {
				t.Errorf("%s: rows %v", name, order)
			}
			if left, _ := os.ReadDir(tmp); len(left) != 0 && os.PathSeparator == '/' {
				t.Errorf("%s: temporary file %v is visible", name, left[0])
			}
		}
	}
}

// TestFortranBlocks turns an array in several blocks.
func TestFortranBlocks(t *testing.T) {
	const n, w = 5, fortranBlock / 4 / 2 // two rows per block
	data := make([]byte, n*w*4)
	for i := range n * w {
		binary.LittleEndian.PutUint32(data[4*i:], uint32(i%n*w+i/n)) // element (row, column) at row + n·column
	}
	a, err := npyArray(npyBytes("<i4", true, []int64{n, w}, data))
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.open()
	if err != nil {
		t.Fatal(err)
	}
	row := make([]byte, a.rowSize())
	for _, i := range []int64{4, 0, 3} {
		if err := r.read(i, row); err != nil {
			t.Fatal(err)
		}
		for j := range w {
			if got := binary.LittleEndian.Uint32(row[4*j:]); got != uint32(int(i)*w+j) {
				t.Fatalf("row %d, column %d: %d", i, j, got)
			}
		}
	}
}

func npyArray(b []byte) (*array, error) {
	h, err := readNpyHeader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	a := &array{name: "x", path: "x.npy", head: h, at: bytes.NewReader(b)}
	return a, a.check(int64(len(b)), maxRow)
}

func TestStreamGoesBack(t *testing.T) {
	dir := write(t, map[string][]byte{"d.npz": npzBytes(zip.Deflate, "x.npy", npyBytes("<f4", false, []int64{5, 1}, le(floatRange(5))))})
	arrays, f, err := openNpz(filepath.Join(dir, "d.npz"), maxRow)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := arrays[0].open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	row := make([]byte, 4)
	for _, i := range []int64{3, 1, 1, 4, 0} {
		if err := r.read(i, row); err != nil {
			t.Fatal(err)
		}
		if got := math.Float32frombits(binary.LittleEndian.Uint32(row)); got != float32(i) {
			t.Errorf("row %d: %g", i, got)
		}
	}
}

func TestNpzHostile(t *testing.T) {
	x := npyBytes("<f4", false, []int64{100, 1}, le(floatRange(100)))
	patched := func(method uint16, patch func(b []byte, dir int)) []byte {
		b := npzBytes(method, "x.npy", x)
		patch(b, bytes.LastIndex(b, []byte("PK\x01\x02")))
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"not zip":   {x, "zip"},
		"no arrays": {npzBytes(zip.Store, "readme", []byte("hi")), "no .npy entries"},
		"same name": {npzBytes(zip.Store, "x.npy", x, "x.npy", x), "two arrays are named"},
		"encrypted": {patched(zip.Deflate, func(b []byte, d int) { b[d+8] |= 1 }), "encrypted"},
		"method":    {patched(zip.Deflate, func(b []byte, d int) { b[d+10] = 93 }), "compression method 93"},
		"bomb":      {patched(zip.Deflate, func(b []byte, d int) { binary.LittleEndian.PutUint32(b[d+24:], 1<<31) }), "cannot hold"},
		"size":      {patched(zip.Store, func(b []byte, d int) { binary.LittleEndian.PutUint32(b[d+24:], 1<<30) }), "ends within the array"},
		"short":     {npzBytes(zip.Deflate, "x.npy", x[:len(x)-9]), "the file is incomplete"},
		"object":    {npzBytes(zip.Deflate, "x.npy", npyBytes("|O", false, []int64{1}, nil)), "Python objects"},
		"checksum":  {patched(zip.Deflate, func(b []byte, d int) { b[d+16] ^= 1 }), "checksum"},
		"data":      {patched(zip.Deflate, func(b []byte, d int) { b[d/2] ^= 0xff }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string][]byte{"x.npz": c.b})
			s, err := Open(filepath.Join(dir, "x.npz"), Options{})
			if err == nil {
				defer s.Close()
				_, err = s.Digest(t.Context())
			}
			wantError(t, err, c.want)
		})
	}
}

// TestRowMemory refuses samples that take more memory than allowed before a row is read.
func TestRowMemory(t *testing.T) {
	f := npyBytes("<f4", false, []int64{1, 200}, make([]byte, 800))
	text := npyBytes("|S1", false, []int64{1, 100}, make([]byte, 100))
	small := npyBytes("|u1", false, []int64{1, 100}, make([]byte, 100))
	double := []Port{{Name: "x", Type: onnx.TensorType(onnx.Double, onnx.ShapeOf(1, 100))}}
	long := npyBytes("<f4", false, []int64{1, plainRow/4 + 1}, make([]byte, plainRow+4))
	for name, c := range map[string]struct {
		b    []byte
		o    Options
		want string
	}{
		"sum":        {npzBytes(zip.Store, "x.npy", f, "y.npy", f), Options{MaxRow: 1000}, "one sample takes 1600 bytes of memory, more than the limit of 1000"},
		"strings":    {npzBytes(zip.Store, "x.npy", text), Options{MaxRow: 1000}, "one sample takes 6500 bytes"},
		"conversion": {npzBytes(zip.Store, "x.npy", small), Options{MaxRow: 1000, Inputs: double}, "one sample takes 1700 bytes"},
		"shape":      {npzBytes(zip.Store, "x.npy", f), Options{Inputs: double}, `input "x": a sample of shape [200] does not fit`},
		"compressed": {npzBytes(zip.Deflate, "x.npy", long), Options{}, "save them without compression"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(filepath.Join(write(t, map[string][]byte{"x.npz": c.b}), "x.npz"), c.o)
			if err == nil {
				s.Close()
			}
			wantError(t, err, c.want)
		})
	}
}

// TestSumInParts: the sum of numbers depends neither on their type nor on how many are converted at once, whether
// they all fit a byte, none does, or only the last does not.
func TestSumInParts(t *testing.T) {
	const n = partSize + 3
	small, large := make([]int64, n), make([]int64, n)
	for i := range small {
		small[i], large[i] = int64(i*7%256), int64(i*7%2000)-1000
	}
	last := slices.Clone(small)
	last[n-1] = 256
	for name, v := range map[string][]int64{"small": small, "large": large, "last": last} {
		f := make([]float32, n)
		for i, x := range v {
			f[i] = float32(x)
		}
		whole := newInputSum(true)
		whole.floats(f)
		for _, d := range []onnx.DType{onnx.Int16, onnx.Int64, onnx.Float, onnx.Float16, onnx.Double} {
			x, err := convert(onnx.FromInts("x", []int64{n}, v), d)
			if err != nil {
				t.Fatal(err)
			}
			got := newInputSum(true)
			if got.add(x); got.sum() != whole.sum() {
				t.Errorf("%s as %v: another sum", name, d)
			}
		}
	}
	bytes := make([]byte, n)
	for i, x := range small {
		bytes[i] = byte(x)
	}
	picture, numbers := newInputSum(true), newInputSum(true)
	picture.pixels(bytes)
	if numbers.add(onnx.FromInts("x", []int64{n}, small)); picture.sum() != numbers.sum() {
		t.Error("a picture has another sum than the numbers of its pixels")
	}
}

// TestNpzMemory reads a highly compressed array of 64 MiB and counts what is allocated.
func TestNpzMemory(t *testing.T) {
	const n = 1 << 14
	zeros := npyBytes("<f4", false, []int64{n, 1024}, make([]byte, 4096*n))
	b := npzBytes(zip.Deflate, "x.npy", zeros)
	arrays, err := npzArrays(bytes.NewReader(b), int64(len(b)), "x.npz", maxRow)
	if err != nil {
		t.Fatal(err)
	}
	row := make([]byte, 4096)
	bytesRead := testing.AllocsPerRun(1, func() {
		r, err := arrays[0].open()
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(n) {
			if err := r.read(i, row); err != nil {
				t.Fatal(err)
			}
		}
		r.Close()
	})
	if bytesRead > 200 {
		t.Errorf("%v allocations for %d rows", bytesRead, n)
	}
	if err := arrays[0].random(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	defer arrays[0].close()
	if _, err := arrays[0].at.ReadAt(row, arrays[0].head.start+4096*n); !errors.Is(err, io.EOF) {
		t.Errorf("the copy is longer than the array: %v", err)
	}
}
