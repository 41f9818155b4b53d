package fuse_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// nest writes random models with loops and branches in each other.
type nest struct {
	r    *rand.Rand
	made int
}

func (w *nest) name() string {
	w.made++
	return fmt.Sprintf("v%d", w.made)
}

// nodes writes count nodes that read from known, of which all are float[2,2], and
// returns their text and what is known then.
func (w *nest) nodes(count, depth int, known []string) (string, []string) {
	var b strings.Builder
	known = slices.Clone(known)
	pick := func() string { return known[w.r.IntN(len(known))] }
	var past []string // right sides, of which some are written again
	for range count {
		text := ""
		switch k := w.r.IntN(12); {
		case k < 3 && len(past) > 0:
			text = past[w.r.IntN(len(past))]
		case k < 5:
			text = fmt.Sprintf("Add (%s, %s)", pick(), pick())
		case k < 6:
			text = fmt.Sprintf("Tanh (%s)", pick())
		case k < 7:
			text = fmt.Sprintf("MatMul (%s, w)", pick())
		case k < 8:
			text = fmt.Sprintf("Gather (%s, %s)", pick(), []string{"k", "fixed"}[w.r.IntN(2)])
		case k < 10 && depth > 0:
			text = w.branch(depth-1, known)
		case depth > 0:
			text = w.loop(depth-1, known, pick())
		default:
			text = fmt.Sprintf("Neg (%s)", pick())
		}
		if !strings.Contains(text, "{") { // the values of a subgraph have names of their own
			past = append(past, text)
		}
		v := w.name()
		known = append(known, v)
		fmt.Fprintf(&b, "%s = %s\n", v, text)
	}
	return b.String(), known
}

func (w *nest) graph(depth int, known []string) (nodes, last string) {
	nodes, known = w.nodes(1+w.r.IntN(4), depth, known)
	return nodes, known[len(known)-1]
}

func (w *nest) branch(depth int, known []string) string {
	a, x := w.graph(depth, known)
	b, y := w.graph(depth, known)
	return fmt.Sprintf("If <then_branch = g%d () => (float[2,2] %s) { %s }, else_branch = h%d () => (float[2,2] %s) { %s }> (c)", w.made, x, a, w.made, y, b)
}

func (w *nest) loop(depth int, known []string, start string) string {
	i, go1, go2, state := w.name(), w.name(), w.name(), w.name()
	nodes, last := w.graph(depth, append(slices.Clone(known), state))
	trips := []string{"n", "two"}[w.r.IntN(2)]
	return fmt.Sprintf("Loop <body = b%d (int64 %s, bool %s, float[2,2] %s) => (bool %s, float[2,2] %s) { %s = Identity (%s) %s }> (%s, , %s)",
		w.made, i, go1, state, go2, last, go2, go1, nodes, trips, start)
}

// TestRandomLoops compares random nests of loops and branches with what becomes
// of them, by the runtime, with loops of none, one and three iterations.
func TestRandomLoops(t *testing.T) {
	open := runtimeOpener(t)
	fired := map[string]int{}
	ran := 0
	for seed := range uint64(150) {
		w := &nest{r: rand.New(rand.NewPCG(seed, 1))}
		nodes, known := w.nodes(4+w.r.IntN(4), 3, []string{"x", "s"})
		text := fmt.Sprintf("<ir_version: 8, opset_import: [\"\" : 17]>\nmain (bool c, int64 n, int64[2] k, float[2,2] x, float[2,2] w, float[2,2] s) => (float[2,2] %s, float[2,2] %s)\n<int64 two = {2}, int64[2] fixed = {1, 0}> {\n%s}\n",
			known[len(known)-1], known[len(known)-2], nodes)
		for _, only := range [][]string{{"cse", "hoist"}, nil} {
			before, err := onnxtext.Parse("random", []byte(text))
			if err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, text)
			}
			after := before.Clone()
			log, err := fuse.Model(t.Context(), after, fuse.Options{Rewrite: rewrite.Options{Only: only, Debug: true}})
			if err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, text)
			}
			for _, f := range log.Fired {
				fired[f.Rule]++
			}
			if err := sameByRuntime(t, open, before, after, &ran); err != nil {
				t.Errorf("seed %d: %v\n%s", seed, err, text)
			}
		}
	}
	t.Logf("%d runs agree; %d merged, %d hoisted", ran, fired["cse"], fired["hoist"])
	if ran < 1000 || fired["cse"] < 100 || fired["hoist"] < 100 {
		t.Error("too little was tried")
	}
}
