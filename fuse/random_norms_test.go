package fuse_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// TestRandomNorms fuses normalizations over random axes, in random spellings,
// perhaps of groups, with constants that broadcast to them in random ways, and
// computes original and result.
func TestRandomNorms(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 4))
	fired := map[string]int{}
	for range 400 {
		text := randomNorm(r)
		m, err := onnxtext.Parse("norm", []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		in := map[string]*onnx.Tensor{}
		for _, v := range m.Graph.Inputs() {
			in[v.Name()] = randomFor(v)
		}
		want, err := eval.Graph(t.Context(), m, in, eval.Options{Wide: true})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		target := fuse.TargetNames[r.IntN(len(fuse.TargetNames))]
		log, err := fuse.Model(t.Context(), m, fuse.Options{Target: stubTarget(target)})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, f := range log.Fired {
			fired[f.Rule]++
		}
		got, err := eval.Graph(t.Context(), m, in, eval.Options{Wide: true})
		if err == nil {
			err = agree(want, got)
		}
		if err != nil {
			var after strings.Builder
			_ = onnxtext.Format(&after, m, onnxtext.Options{})
			t.Errorf("%v for %s\n%s\nbecame\n%s", err, target, text, after.String())
		}
	}
	t.Logf("rewrites: %v", fired)
	for _, rule := range []string{"layernorm", "rmsnorm", "instancenorm", "group-norm", "layernorm-axis", "norm-arithmetic"} {
		if fired[rule] == 0 {
			t.Errorf("%s never fired", rule)
		}
	}
}

// randomNorm returns a model in text form.
func randomNorm(r *rand.Rand) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	shape := []int64{2, 4, 3, 2, 3}[:3+r.IntN(3)]
	var body, consts strings.Builder
	value := "x"
	if r.IntN(3) == 0 {
		grouped := append([]int64{2, 2, 2}, shape[2:]...)
		fmt.Fprintf(&consts, ", int64[%d] there = {%s}, int64[%d] back = {%s}", len(grouped), list(grouped), len(shape), list(shape))
		body.WriteString("f = Reshape (x, there) ")
		value = "f"
	}
	inner := shape
	if value == "f" {
		inner = append([]int64{2, 2, 2}, shape[2:]...)
	}
	first := 1 + r.IntN(len(inner)-1)
	last := len(inner)
	if r.IntN(3) == 0 {
		last = first + 1
	}
	if value == "f" && r.IntN(2) == 0 {
		first, last = 2, len(inner)
	}
	count, axes := int64(1), []int64{}
	for i := first; i < last; i++ {
		count, axes = count*inner[i], append(axes, int64(i))
	}
	if r.IntN(12) == 0 {
		count++ // no mean
	}
	fmt.Fprintf(&consts, ", int64[%d] a = {%s}, float n = {%d}, float i = {%.9g}", len(axes), list(axes), count, 1/float64(count))
	centre := value
	if r.IntN(3) > 0 {
		body.WriteString(pick("m = ReduceMean (%[1]s, a) ", "s = ReduceSum (%[1]s, a) m = Div (s, n) ", "s = ReduceSum (%[1]s, a) m = Mul (i, s) "))
		body.WriteString("d = Sub (%[1]s, m) ")
		centre = "d"
	}
	spelled := pick("q = Mul (%[2]s, %[2]s) v = ReduceMean (q, a) ", "q = Pow (%[2]s, two) v = ReduceMean (q, a) ", "q = ReduceSumSquare (%[2]s, a) v = Mul (q, i) ",
		"l = ReduceL2 (%[2]s, a) q = Mul (l, l) v = Div (q, n) ")
	body.WriteString(spelled + "w = Add (v, eps) h = Sqrt (w) " + pick("y0 = Div (%[2]s, h) ", "k = Reciprocal (h) y0 = Mul (k, %[2]s) "))
	steps := 0
	arithmetic := func(shape []int64) {
		for range r.IntN(3) {
			c := fmt.Sprintf("c%d", steps)
			constant(&consts, r, c, shape)
			operands := []string{fmt.Sprintf("y%d", steps), c}
			op := pick("Mul", "Mul", "Add", "Add", "Sub", "Div")
			if op != "Div" && r.IntN(3) == 0 {
				slices.Reverse(operands)
			}
			steps++
			fmt.Fprintf(&body, "y%d = %s (%s) ", steps, op, strings.Join(operands, ", "))
		}
	}
	arithmetic(inner)
	if value == "f" {
		fmt.Fprintf(&body, "y%d = Reshape (y%d, back) ", steps+1, steps)
		steps++
		arithmetic(shape)
	}
	text := fmt.Sprintf(body.String(), value, centre)
	return fmt.Sprintf("<ir_version: 10, opset_import: [\"\" : 23]>\nmain (float[%s] x) => (float[%s] y) <float two = {2}, float eps = {0.001}%s> { %s y = Identity (y%d) }",
		list(shape), list(shape), consts.String(), text, steps)
}

// constant writes a constant that broadcasts to shape.
func constant(b *strings.Builder, r *rand.Rand, name string, shape []int64) {
	own := slices.Clone(shape[r.IntN(len(shape)):])
	n := int64(1)
	keep := r.IntN(len(own))
	for i := range own {
		if i != keep && r.IntN(3) > 0 {
			own[i] = 1
		}
		n *= own[i]
	}
	v := make([]string, n)
	for i := range v {
		v[i] = fmt.Sprint(1 + float64(r.IntN(8))/4)
	}
	fmt.Fprintf(b, ", float[%s] %s = {%s}", list(own), name, strings.Join(v, ", "))
}

func list(v []int64) string {
	out := make([]string, len(v))
	for i, x := range v {
		out[i] = fmt.Sprint(x)
	}
	return strings.Join(out, ", ")
}
