package explain

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

const tokenHeader = `<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1, "local" : 1]>
`

// tables are constants that the models below share.
const tables = `<float[4,2] table = {0.5, -1, 2, 0.25, -0.75, 1, 3, -2}, float[4,2] other = {1, 2, 3, 4, 5, 6, 7, 8}, int8[4,2] codes = {10, -20, 40, 5, -15, 20, 60, -40},
float s = {0.05}, float[4,1] each = {0.05, 0.1, 0.2, 0.05}, int8 z = {3}, float zero = {3}, int64[1] one = {1}, int64[2] flat = {1, -1}, int64[1] line = {-1}, int64[1] four = {4}, float[2] off = {0, 1}, int64 pad = {0}, float[3,1] late = {1, 2, 3}>`

// Where a model of tokens is cut, and that its parts compute what it computes.
func TestCutEmbedding(t *testing.T) {
	for _, tt := range []struct{ name, value, held, body string }{
		{"rows of a table", "h", "", `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` { h = Gather (table, x) y = Mul (h, h) }`},
		{"behind casts and changes of shape", "h", "", `main (int64[N,3] x) => (float[3,2] y) ` + tables + ` {
  i = Cast <to = 6> (x)
  j = Reshape (i, line)
  h = Gather (table, j)
  y = Tanh (h)
}`},
		{"the input's shape is read too", "h", "", `main (int64[N,T] x) => (float[A,B,C] y) ` + tables + ` {
  n = Shape (x)
  m = Concat <axis = 0> (n, one)
  h = Gather (table, x)
  r = Expand (zero, m)
  y = Mul (h, r)
}`},
		{"padding is masked", "h", `node "m" (Equal)`, `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` {
  h = Gather (table, x)
  [m] p = Equal (x, pad)
  q = Unsqueeze (p, line)
  y = Where (q, zero, h)
}`},
		{"codes, with a scale for each row", "r", "", `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` {
  c = Gather (codes, x)
  f = Cast <to = 1> (c)
  d = Sub (f, zero)
  e = Gather (each, x)
  r = Mul (d, e)
  y = Mul (r, r)
}`},
		{"codes, with a scale for all", "f", "", `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` {
  c = Gather (codes, x)
  f = DequantizeLinear (c, s, z)
  y = Tanh (f)
}`},
		{"a table that is decoded first", "h", "", `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` {
  d = DequantizeLinear (codes, s, z)
  h = Gather (d, x)
  y = Tanh (h)
}`},
		{"rows of the unit matrix", "h", "", `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` {
  h = OneHot <axis = -1> (x, four, off)
  y = MatMul (h, table)
}`},
		{"a table that is read again", "h", "", `main (int64[N,3] x) => (float[N,3,4] y) ` + tables + ` {
  h = Gather (table, x)
  w = Transpose (table)
  y = MatMul (h, w)
}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := parsedTokens(t, tt.body)
			e, err := CutEmbedding(m, "y", "x")
			if err != nil {
				t.Fatal(err)
			}
			if e.Value != tt.value || strings.Join(e.Held, " ") != tt.held {
				t.Errorf("cut at %q, held %q", e.Value, e.Held)
			}
			for _, part := range []*onnx.Model{e.Body, e.Tail} {
				if err := part.Check(); err != nil {
					t.Errorf("not a valid model: %v", err)
				}
			}
			for _, d := range find(e.Tail.Graph, e.Input).Shape() {
				if !slices.Contains([]string{"", "N", "T"}, d.Param) {
					t.Errorf("the embedding's dimension %q means nothing outside", d.Param)
				}
			}
			x := onnx.FromInts("x", []int64{1, 3}, []int64{2, 0, 3})
			h := computed(t, e.Body, "x", x, e.Value)
			got, err := eval.Graph(t.Context(), e.Tail, map[string]*onnx.Tensor{"x": x, e.Input: h}, eval.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(numbers(t, computed(t, m, "x", x, "y")), numbers(t, got["y"]), cmpopts.EquateApprox(0, 1e-6)); d != "" {
				t.Error(d)
			}
			if n, _ := h.Elements(); n%3 != 0 || !slices.Contains([]int64{2, 4}, n/3) {
				t.Errorf("embedding %v of 3 tokens", h.Shape)
			}
		})
	}
}

func parsedTokens(t *testing.T, body string) *onnx.Model {
	t.Helper()
	m, err := onnxtext.Parse("tokens", []byte(tokenHeader+body))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Blocks of a table that is coded in four bits are decoded as they are looked up.
func TestCutEmbeddingInBlocks(t *testing.T) {
	m := parsedTokens(t, `main (int64[N,3] x) => (float[N,3,32] y) <uint8[4,16] q = {
1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float[4,2] s = {1,2,3,4,5,6,7,8}> {
  h = com.microsoft.GatherBlockQuantized <bits = 4, block_size = 16, gather_axis = 0, quantize_axis = 1> (q, x, s)
  y = Tanh (h)
}`)
	e, err := CutEmbedding(m, "y", "x")
	if err != nil || e.Value != "h" || e.Tail.Graph.Len() != 1 {
		t.Errorf("cut %+v, %v", e, err)
	}
}

func TestCutEmbeddingRefuses(t *testing.T) {
	for _, tt := range []struct{ name, want, body string }{
		{"two tables", `input "x" has several embeddings, which cannot be cut at one place: node "a" (Gather), node "b" (Gather) look up rows`, `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` {
  [a] h = Gather (table, x)
  [b] k = Gather (other, x)
  y = Add (h, k)
}`},
		{"taken for numbers", `node "a" (Mul) reads the tokens of input "x", but looks up no rows of a constant table by them`, `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` {
  c = Cast <to = 1> (x)
  [a] d = Mul (c, s)
  h = Gather (table, x)
  e = Unsqueeze (d, line)
  y = Add (h, e)
}`},
		{"columns", `node "a" (Gather) reads the tokens`, `main (int64[N,2] x) => (float[4,N,2] y) ` + tables + ` { [a] h = Gather <axis = 1> (table, x) y = Tanh (h) }`},
		{"fused with a normalization", `node "a" (com.microsoft.EmbedLayerNormalization) reads the tokens`, `main (int32[N,3] x) => (float[N,3,2] y) ` + tables + ` {
  [a] h, i = com.microsoft.EmbedLayerNormalization (x, , table, other, , off, off)
  y = Tanh (h)
}`},
		{"codes that are weighed by their places", `input "x" has several embeddings`, `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` {
  c = Gather (codes, x)
  f = Cast <to = 1> (c)
  p = Mul (f, late)
  e = Gather (each, x)
  r = Mul (p, e)
  y = Tanh (r)
}`},
		{"a shape that the tokens say", `node "a" (Reshape) reads the tokens`, `main (int64[3] x, int64[3] i) => (float[A,B,C,2] y) ` + tables + ` { [a] r = Reshape (i, x) h = Gather (table, r) y = Tanh (h) }`},
		{"part of the tokens", `node "a" (Slice) reads the tokens`, `main (int64[N,3] x) => (float[N,A,2] y) ` + tables + ` { [a] p = Slice (x, one, four, one) h = Gather (table, p) y = Tanh (h) }`},
		{"a table that is an input", `node "a" (Gather) reads the tokens`, `main (int64[N,3] x, float[4,2] w) => (float[N,3,2] y) { [a] h = Gather (w, x) y = Tanh (h) }`},
		{"within a function", `node "a" (local.embed) reads the tokens`, `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` { [a] h = local.embed (table, x) y = Tanh (h) }
<domain: "local", opset_import: ["" : 21]> embed (w, i) => (r) { r = Gather (w, i) }`},
		{"within a body", `node "a" (If) reads the tokens`, `main (int64[N,3] x, bool c) => (float[N,3,2] y) ` + tables + ` {
  [a] h = If <then_branch = g () => (float[N,3,2] p) { p = Gather (table, x) }, else_branch = e () => (float[N,3,2] q) { q = Gather (other, x) }> (c)
  y = Tanh (h)
}`},
		{"the output is the embedding", `do not become floating-point numbers in front of output "y"`, `main (int64[N,3] x) => (float[N,3,2] y) ` + tables + ` { y = Gather (table, x) }`},
		{"nothing reads it", `no node looks up rows`, `main (int64[N,3] x, float[2] w) => (float[2] y) { y = Tanh (w) }`},
		{"no such output", `no output "y"`, `main (int64[N,3] x) => (float[N,3,2] z) ` + tables + ` { z = Gather (table, x) }`},
		{"no such input", `no input "x"`, `main (int64[N,3] i) => (float[N,3,2] y) ` + tables + ` { y = Gather (table, i) }`},
	} {
		_, err := CutEmbedding(parsedTokens(t, tt.body), "y", "x")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// Nodes that stand in front of what they read are seen all the same.
func TestCutEmbeddingOutOfOrder(t *testing.T) {
	m := parsedTokens(t, `main (int64[N,3] x) => (float[N,3,2] y) `+tables+` {
  h = Gather (table, x)
  i = Identity (x)
  k = Gather (other, i)
  y = Add (h, k)
}`)
	m.Graph.MoveBefore(find(m.Graph, "k").Producer(), find(m.Graph, "i").Producer())
	if _, err := CutEmbedding(m, "y", "x"); err == nil || !strings.Contains(err.Error(), "several embeddings") {
		t.Errorf("got %v", err)
	}
}
