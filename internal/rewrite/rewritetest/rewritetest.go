// Package rewritetest runs rewrites over models written as text.
//
// A file testdata/NAME.txtar holds cases. Case c has a section "c/in", the model
// in the form of package onnxtext, and either "c/out", what it becomes,
// "c/declined", a part of the reason why it stays, or an empty "c/same" where it
// stays without a word. "c/notice" is a part of a notice that is given.
package rewritetest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"golang.org/x/tools/txtar"
)

// Rewrite is what a file tests: the rule or pass named like the file.
type Rewrite func(ctx context.Context, m *onnx.Model, name string) (*rewrite.Log, error)

// Run runs every case of every file in dir. With update it writes the results
// into the files instead of comparing them.
//
// Besides the result it checks that the model stays valid, keeps the names and
// types of its inputs and outputs, computes the same (where package eval knows
// the operators), is not changed by a second run, and survives encoding.
func Run(t *testing.T, dir string, update bool, f Rewrite) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s (%v)", dir, err)
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := false
		for i, s := range a.Files {
			c, ok := strings.CutSuffix(s.Name, "/in")
			if !ok {
				continue
			}
			t.Run(name+"/"+c, func(t *testing.T) {
				if out := runCase(t, a, c, name, s.Data, f, update); out != nil && i+1 < len(a.Files) && a.Files[i+1].Name == c+"/out" {
					a.Files[i+1].Data, changed = out, true
				}
			})
		}
		if changed {
			if err := os.WriteFile(path, txtar.Format(a), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func section(a *txtar.Archive, name string) ([]byte, bool) {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data, true
		}
	}
	return nil, false
}

// runCase returns the result where it differs and is to be written.
func runCase(t *testing.T, a *txtar.Archive, c, name string, in []byte, f Rewrite, update bool) []byte {
	before := parse(t, c+"/in", in)
	after := before.Clone()
	log, err := f(context.Background(), after, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := after.Check(); err != nil {
		t.Fatalf("the result is not valid: %v", err)
	}
	samePorts(t, before, after)
	sameResults(t, before, after)
	stable(t, after, name, f)
	noticed(t, a, c, log)
	if _, ok := section(a, c+"/same"); ok {
		if diff := cmp.Diff(string(bare(t, before)), string(bare(t, after))); diff != "" || len(log.Fired) > 0 {
			t.Errorf("it was rewritten (-before +after):\n%s", diff)
		}
		return nil
	}
	if reason, ok := section(a, c+"/declined"); ok {
		declined(t, log, strings.TrimSpace(string(reason)))
		return nil
	}
	want, ok := section(a, c+"/out")
	if !ok {
		t.Fatalf("case %s has none of out, declined and same", c)
	}
	got := format(t, after)
	if bytes.Equal(bare(t, before), bare(t, after)) {
		t.Error("nothing was rewritten")
	}
	if update && !bytes.Equal(got, want) {
		return got
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	return nil
}

func parse(t *testing.T, name string, text []byte) *onnx.Model {
	m, err := onnxtext.Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Fatalf("the case is not valid: %v", err)
	}
	return m
}

func format(t *testing.T, m *onnx.Model) []byte {
	var b bytes.Buffer
	if err := onnxtext.Format(&b, m, onnxtext.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bare formats a model without the types of inner values, which inference adds.
func bare(t *testing.T, m *onnx.Model) []byte {
	m = m.Clone()
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			for _, v := range n.Outputs() {
				if v != nil && !v.IsOutput() {
					v.Type = nil
				}
			}
		}
	}
	return format(t, m)
}

func declined(t *testing.T, log *rewrite.Log, reason string) {
	if len(log.Fired) > 0 {
		t.Errorf("it was rewritten: %s", log.Fired[0].Key)
	}
	for _, d := range log.Declined {
		if strings.Contains(d.Reason, reason) {
			return
		}
	}
	t.Errorf("declined with %v, want %q", log.Declined, reason)
}

// noticed checks that the log has the notice of the case, where it has one.
func noticed(t *testing.T, a *txtar.Archive, c string, log *rewrite.Log) {
	want, ok := section(a, c+"/notice")
	if ok && !slices.ContainsFunc(log.Notices, func(n string) bool { return strings.Contains(n, strings.TrimSpace(string(want))) }) {
		t.Errorf("notices are %q, want %q", log.Notices, want)
	}
}

// samePorts checks that the model looks the same to its callers, but for inputs
// that they may leave out.
func samePorts(t *testing.T, before, after *onnx.Model) {
	ports := func(m *onnx.Model) []string {
		var out []string
		for _, v := range m.Graph.Inputs() {
			if v.Const == nil {
				out = append(out, "in "+v.Name()+" "+v.Type.String())
			}
		}
		for _, v := range m.Graph.Outputs() {
			out = append(out, "out "+v.Name()+" "+v.Type.String())
		}
		return out
	}
	if diff := cmp.Diff(ports(before), ports(after)); diff != "" {
		t.Errorf("inputs and outputs (-before +after):\n%s", diff)
	}
}

// sameResults computes both models in float64 on the same random inputs.
func sameResults(t *testing.T, before, after *onnx.Model) {
	in := inputs(before)
	want, err := eval.Graph(context.Background(), before, in, eval.Options{Wide: true})
	var unsupported *eval.UnsupportedError
	if errors.As(err, &unsupported) {
		t.Logf("not computed: %v", err)
		return
	}
	if err != nil {
		t.Fatalf("computing the original: %v", err)
	}
	got, err := eval.Graph(context.Background(), after, in, eval.Options{Wide: true})
	if err != nil {
		t.Fatalf("computing the result: %v", err)
	}
	for name, w := range want {
		d, err := compare.Tensors(w, got[name], compare.ClassFor(w.DType))
		if err != nil || !d.OK {
			t.Errorf("output %q: %v (%v)", name, d, err)
		}
	}
}

// inputs makes random inputs: symbolic dimensions are 2, integers 0 or 1.
func inputs(m *onnx.Model) map[string]*onnx.Tensor {
	r := rand.New(rand.NewPCG(1, 2))
	out := map[string]*onnx.Tensor{}
	for _, v := range m.Graph.Inputs() {
		if !v.Type.IsTensor() || v.Const != nil {
			continue
		}
		shape := []int64{}
		n := 1
		for _, d := range v.Type.Shape {
			size := int64(2)
			if d.Known() {
				size = d.Value
			}
			shape, n = append(shape, size), n*int(size)
		}
		x := make([]float64, n)
		for i := range x {
			x[i] = r.NormFloat64()
			if !v.DType().IsFloat() {
				x[i] = float64(r.IntN(2))
			}
		}
		if t, err := onnx.FromFloat64s(v.Name(), v.DType(), shape, x); err == nil {
			out[v.Name()] = t
		}
	}
	return out
}

// stable checks that a second run changes nothing, also after a round trip.
func stable(t *testing.T, m *onnx.Model, name string, f Rewrite) {
	b, err := onnxfile.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	again, err := onnxfile.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	log, err := f(context.Background(), again, name)
	if err != nil {
		t.Fatal(err)
	}
	if len(log.Fired) > 0 {
		t.Errorf("a second run rewrites again: %s", log.Fired[0].Key)
	}
	if diff := cmp.Diff(string(bare(t, m)), string(bare(t, again))); diff != "" {
		t.Errorf("a second run changes (-first +second):\n%s", diff)
	}
}
