package onnxtext_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// everything uses each form of the syntax once; it is in the form that Format writes.
const everything = `<
  ir_version: 10,
  opset_import: ["" : 17, "local" : 1],
  producer_name: "p\"q\n\xff",
  metadata_props: ["k": "v"]
>
main (float[N,3 "DATA"] x, float s @{doc_string: "a scalar"}, float[] "any.rank", untyped) => (float[?,"odd name"] y)
<
  float[2,2] w = {1.0, -0.0, nan, 0x7fc00001} @{doc_string: "weights"},
  int4[3] q = {-8, 7, 0},
  float8e5m2[4] e = {1.5, 0x7c, nan, 0x7e},
  bfloat16 b = {-inf},
  string[2] t = {"a", "\x00\\"},
  complex64[1] z = {1.0, -2.5},
  uint64[1] u = {18446744073709551615},
  float[0] none_at_all = {},
  sparse_tensor[5] (float[1] sp {2.0}, int64[1] {4}),
  seq(map(int64, float[N])) orphan
> @{doc_string: "graph", quantization: ["\x01"]} {
  [first] h, "" = com.microsoft.Op:two <dtype = 1, beta: float = nan, axes: ints = [], ks = [1, 2], mode = "m", value = float[1] v {0.1}, tp: type_proto = optional(opaque("o")), body = g (a) => (b) {
      b = Add (a, x)
    }, absent: graph> (x, , w) @{doc_string: "node"}
   = "my-domain"."Sink 1" ("")
  y = local.f <need = 3> (h, )
}
<domain: "local", opset_import: ["" : 17]>
f <need, slope = 0.5> (u) => (v) {
  v = LeakyRelu <alpha: float = @slope> (u)
}
`

func format(t *testing.T, m *onnx.Model) string {
	t.Helper()
	var b strings.Builder
	if err := onnxtext.Format(&b, m, onnxtext.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestEverythingReadsBack(t *testing.T) {
	m, err := onnxtext.Parse("everything", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everything, format(t, m)); diff != "" {
		t.Errorf("text read and written differs (-want +got):\n%s", diff)
	}
}

func TestShortForms(t *testing.T) {
	src := `<ir_version: 8, opset_import: ["" : 17]>
# a comment
g (float[2] x = {1.5, 2}) => (y) { y = Op (x, , x) <a : int = 1, b=[1.0,inf], c = [float {1}], d = "s"> }`
	want := `<
  ir_version: 8,
  opset_import: ["" : 17]
>
g (float[2] x) => (y)
<
  float[2] x = {1.5, 2.0}
> {
  y = Op <a = 1, b = [1.0, inf], c: tensors = [float {1.0}], d = "s"> (x, , x)
}
`
	m, err := onnxtext.Parse("short", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, format(t, m)); diff != "" {
		t.Error(diff)
	}
}

func TestErrorsSayWhere(t *testing.T) {
	const head = "<ir_version: 8, opset_import: [\"\": 17]>\n"
	for name, tc := range map[string]struct{ src, want string }{
		"empty":       {"", `f:1:1: want "<", have the end of the text`},
		"key":         {"<nope: 1>", `f:1:2: "nope" is not among the keys`},
		"no end":      {head + "g (float[1] x) => (x) {", "f:2:24: want the name of a value"},
		"count":       {head + "g () => () <float[3] w = {1, 2}> {}", `f:2:22: tensor "w" has 2 elements, want 3`},
		"huge shape":  {head + "g () => () <float[1000000000000] w = {1}> {}", `f:2:34: tensor "w" has 1 elements, want 1000000000000`},
		"overflow":    {head + "g () => () <float[4611686018427387904,9] w = {}> {}", "f:2:42: constant \"w\": there are no tensors"},
		"range":       {head + "g () => () <int8[1] w = {128}> {}", "f:2:26: 128 is not a value of int8"},
		"symbol":      {head + "g () => () <float[N] w = {}> {}", `f:2:22: constant "w": its shape [N] is not fixed`},
		"string":      {"<producer_name: \"x", "f:1:17: the string does not end"},
		"elided":      {head + "g () => () <float[9] w = { sha256 00 }> {}", `the content of tensor "w" is left out of this text`},
		"empty list":  {head + "g () => () { y = Op <a = []> () }", "f:2:26: the type of an empty list must be written"},
		"deep types":  {head + "g (" + strings.Repeat("seq(", 200) + ") => () {}", "nested more than 100 deep"},
		"deep graphs": {head + "g () => () {" + strings.Repeat("= If <b = g () => () {", 200), "nested more than 100 deep"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := onnxtext.Parse("f", []byte(tc.src))
			var se *onnxtext.SyntaxError
			if !errors.As(err, &se) {
				t.Fatalf("error is %v, want a SyntaxError", err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %q, want %q in it", err, tc.want)
			}
		})
	}
}

func TestElided(t *testing.T) {
	m := onnx.NewModel(17)
	m.Graph.AddInitializer(onnx.FromFloats("w", []int64{3}, []float32{1, 2, 3}))
	var b strings.Builder
	if err := onnxtext.Format(&b, m, onnxtext.Options{MaxElements: 2}); err != nil {
		t.Fatal(err)
	}
	want := "float[3] w = { sha256 "
	if !strings.Contains(b.String(), want) {
		t.Errorf("text is %s, want %q in it", b.String(), want)
	}
	if _, err := onnxtext.Parse("elided", []byte(b.String())); err == nil {
		t.Error("a text without the content of its tensors is read")
	}
}

func TestFormatNode(t *testing.T) {
	m := onnx.NewModel(17)
	x := m.Graph.AddInput("x", nil)
	n := onnx.NewNode("Transpose", []*onnx.Value{x}, "y")
	n.Attrs = []*onnx.Attr{onnx.IntsAttr("perm", 1, 0)}
	m.Graph.Append(n)
	if diff := cmp.Diff("y = Transpose <perm = [1, 0]> (x)", onnxtext.FormatNode(n)); diff != "" {
		t.Error(diff)
	}
}

// plain gives every tensor of m raw content, as text does.
func plain(m *onnx.Model) error {
	var tensors []*onnx.Tensor
	addSparse := func(s *onnx.SparseTensor) {
		if s != nil {
			tensors = append(tensors, s.Values, s.Indices)
		}
	}
	attrs := func(list []*onnx.Attr) {
		for _, a := range list {
			tensors = append(append(tensors, a.T), a.Tensors...)
			addSparse(a.Sparse)
			for _, s := range a.Sparses {
				addSparse(s)
			}
		}
	}
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			tensors = append(tensors, v.Const)
		}
		for _, v := range g.SparseInitializers() {
			addSparse(v.Sparse)
		}
		for n := range g.Nodes() {
			attrs(n.Attrs)
		}
	}
	for _, f := range m.Functions {
		attrs(f.AttrDefaults)
	}
	for _, t := range tensors {
		if t == nil || t.DType == onnx.String || t.Data == nil {
			continue
		}
		b, err := t.Bytes()
		if err != nil {
			return err
		}
		t.Data = onnx.Raw(b)
	}
	return nil
}

// TestCorpusReadsBack writes each model of the corpus as text and reads it
// back: both must have one encoding. What cannot be written must say why.
func TestCorpusReadsBack(t *testing.T) {
	same, refused, skipped := 0, 0, 0
	for _, archive := range zootest.Archives(t) {
		files := zootest.Archive(t, archive)
		for _, name := range slices.Sorted(maps.Keys(files)) {
			b := files[name]
			if !strings.HasSuffix(name, ".onnx") || len(b) > 4<<20 {
				continue
			}
			m, err := onnxfile.Decode(b)
			if err != nil || plain(m) != nil {
				skipped++ // the file is broken or lacks its external data, which onnxfile's tests judge
				continue
			}
			want, err := onnxfile.Encode(m)
			if err != nil {
				skipped++
				continue
			}
			var text bytes.Buffer
			if err := onnxtext.Format(&text, m, onnxtext.Options{}); err != nil {
				refused++
				t.Logf("%s:%s is not expressible: %v", archive, name, err)
				continue
			}
			back, err := onnxtext.Parse(name, text.Bytes())
			if err != nil {
				t.Errorf("%s:%s: %v", archive, name, err)
				continue
			}
			got, err := onnxfile.Encode(back)
			if err != nil || !bytes.Equal(want, got) {
				t.Errorf("%s:%s differs after reading its text (%v)", archive, name, err)
				continue
			}
			same++
		}
	}
	t.Logf("%d models read back alike, %d refused, %d unreadable as files", same, refused, skipped)
	if same < 1000 {
		t.Errorf("only %d models read back alike", same)
	}
}

// FuzzParse feeds hostile texts: no panic, and what is read can be written and
// read again to the same text.
func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte(`<ir_version: 8, opset_import: ["" : 17]> g (float[2] x = {1.5, 2}) => (y) { y = Op (x, , x) <a : int = 1> }`))
	f.Fuzz(func(t *testing.T, src []byte) {
		m, err := onnxtext.Parse("fuzz", src)
		if err != nil {
			return
		}
		var once, twice bytes.Buffer
		if err := onnxtext.Format(&once, m, onnxtext.Options{}); err != nil {
			return
		}
		m2, err := onnxtext.Parse("fuzz", once.Bytes())
		if err != nil {
			t.Fatalf("its own text is refused: %v\n%s", err, once.Bytes())
		}
		if err := onnxtext.Format(&twice, m2, onnxtext.Options{}); err != nil || !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Fatalf("text changes (%v)", err)
		}
	})
}
