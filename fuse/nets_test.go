package fuse_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// netsLedger says how many of what a network is made of are operators after
// fusing: network, style, target, kind, found, of how many. It can only improve;
// -update writes what is found now.
const netsLedger = "testdata/nets.tsv"

// foundKey names one line of the ledger.
type foundKey struct {
	net    string
	style  nets.Style
	target string
	kind   nets.Kind
}

// TestNets fuses every network in every style for three targets, its opset raised
// so that rules have all operators there are. The result must
// compute the same without the runtime's optimizations, and hold no fewer
// operators than the ledger says.
func TestNets(t *testing.T) {
	open := runtimeOpener(t)
	want := readLedger(t)
	got := map[foundKey][2]int{}
	for _, name := range nets.Names() {
		for _, style := range nets.StylesOf(name) {
			for _, target := range []string{"portable", "ort-cpu", "ort-cuda"} {
				t.Run(fmt.Sprintf("%s/%s/%s", name, style, target), func(t *testing.T) {
					for kind, n := range oneNet(t, open, name, style, target) {
						k := foundKey{name, style, target, kind}
						got[k] = n
						if w, ok := want[k]; ok && n[0] < w[0] && !updating() {
							t.Errorf("%d of %d of %s are found, %d were", n[0], n[1], kind, w[0])
						} else if n[0] > w[0] {
							t.Logf("%d of %d of %s are found, %d were: write the ledger anew with -update", n[0], n[1], kind, w[0])
						}
					}
				})
			}
		}
	}
	if updating() {
		writeLedger(t, got)
	}
}

func updating() bool {
	for _, a := range os.Args {
		if strings.TrimLeft(a, "-") == "update" {
			return true
		}
	}
	return false
}

// oneNet returns how many of each kind are found, of how many.
func oneNet(t *testing.T, open session.Opener, name string, style nets.Style, target string) map[nets.Kind][2]int {
	o := nets.Options{Style: style, Spelled: true}
	m, err := nets.Build(name, o)
	if err != nil {
		t.Fatal(err)
	}
	truth, err := nets.Truth(name, o)
	if err != nil {
		t.Fatal(err)
	}
	before := m.Clone()
	fo := fuse.Options{Target: stubTarget(target), Opset: 23}
	fo.InlineFunctions = target == "portable" // for the others it needs no request
	log, err := fuse.Model(t.Context(), m, fo)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	sameNet(t, open, before, m, target)
	found := census(m, truth[nets.BatchNorm])
	out := map[nets.Kind][2]int{}
	short := false
	for _, k := range nets.Kinds {
		if n := truth[k]; n > 0 {
			out[k] = [2]int{min(found[k], n), n}
			short = short || found[k] < n
		}
	}
	if short {
		reportDeclined(t, out, log)
	}
	return out
}

// stubTarget is a target whose kernels are all there: the standard operators
// for the portable one, the runtime's own too for the others.
func stubTarget(name string) fuse.Target {
	return fuse.Target{Name: name, Kernel: func(string, string, int64, onnx.DType) bool { return true }}
}

// sameNet runs both without the runtime's optimizations. For a GPU the result
// may hold operators that the CPU does not have: it need not load here.
func sameNet(t *testing.T, open session.Opener, before, after *onnx.Model, target string) {
	in, err := nets.Inputs(before, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	want, err := netOutputs(t, open, filepath.Join(dir, "before.onnx"), before, in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := netOutputs(t, open, filepath.Join(dir, "after.onnx"), after, in)
	switch {
	case errors.Is(err, errNotLoaded) && target == "ort-cuda":
		t.Logf("not run: %v", err)
	case err != nil:
		t.Error(err)
	default:
		if err := agree(want, got); err != nil {
			t.Error(err)
		}
	}
}

var errNotLoaded = errors.New("it does not load")

func netOutputs(t *testing.T, open session.Opener, path string, m *onnx.Model, in map[string]*onnx.Tensor) (map[string]*onnx.Tensor, error) {
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), path, session.Options{Level: session.LevelOff, Threads: 1})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotLoaded, err)
	}
	defer s.Close()
	r, err := s.Run(t.Context(), in)
	if err != nil {
		return nil, err
	}
	return r.Outputs, nil
}

// operatorKinds says what an operator, with its domain where it is not standard, is.
var operatorKinds = map[string]nets.Kind{
	"Attention": nets.Attention, "com.microsoft.Attention": nets.Attention, "com.microsoft.MultiHeadAttention": nets.Attention,
	"com.microsoft.GroupQueryAttention": nets.Attention,
	"LayerNormalization":                nets.LayerNorm, "com.microsoft.SkipLayerNormalization": nets.LayerNorm,
	"com.microsoft.EmbedLayerNormalization": nets.LayerNorm,
	"RMSNormalization":                      nets.RMSNorm, "SimplifiedLayerNormalization": nets.RMSNorm,
	"com.microsoft.SkipSimplifiedLayerNormalization": nets.RMSNorm,
	"GroupNormalization":                             nets.GroupNorm, "com.microsoft.GroupNorm": nets.GroupNorm, "com.microsoft.SkipGroupNorm": nets.GroupNorm,
	"Gelu": nets.Gelu, "com.microsoft.Gelu": nets.Gelu, "com.microsoft.BiasGelu": nets.Gelu, "com.microsoft.FastGelu": nets.GeluTanh,
	"Swish": nets.Swish, "com.microsoft.QuickGelu": nets.Swish, "HardSwish": nets.HardSwish, "HardSigmoid": nets.Sigmoid6,
	"RotaryEmbedding": nets.Rotary, "com.microsoft.RotaryEmbedding": nets.Rotary, "Softmax": nets.DotSoftmax,
}

// census counts the operators of m by kind, those of a local function as often
// as it is called. Of batch norms it counts those that are gone.
func census(m *onnx.Model, batchNorms int) map[nets.Kind]int {
	out := map[nets.Kind]int{nets.BatchNorm: batchNorms}
	var count func(g *onnx.Graph)
	count = func(g *onnx.Graph) {
		for n := range g.Nodes() {
			if f := m.FindFunction(n); f != nil {
				count(f.Body)
				continue
			}
			if k, ok := kindOf(n); ok {
				out[k]++
			}
			switch {
			case n.Is("BatchNormalization"), spelledBatchNorm(n):
				out[nets.BatchNorm]--
			case n.Is("Split") && len(n.Outputs()) == 3 && packed(n.Input(0)), n.Op == "Attention" && n.Domain == "com.microsoft":
				out[nets.QKV]++
			case n.Op == "GroupQueryAttention" && n.Int("do_rotary", 0) == 1:
				out[nets.Rotary] += 2
			case n.Op == "GroupNorm" && n.Int("activation", 0) == 1:
				out[nets.Swish]++
			}
			for _, s := range n.Subgraphs() {
				count(s)
			}
		}
	}
	count(m.Graph)
	return out
}

func kindOf(n *onnx.Node) (nets.Kind, bool) {
	name := n.Op
	if d := onnx.NormalDomain(n.Domain); d != "" {
		name = d + "." + n.Op
	}
	k, ok := operatorKinds[name]
	if n.Op == "FusedConv" { // what stood behind a convolution is in it
		k, ok = operatorKinds[n.Str("activation", "")]
	}
	if n.Op == "Gelu" && n.Str("approximate", "none") == "tanh" {
		k = nets.GeluTanh
	}
	return k, ok
}

// spelledBatchNorm reports whether n is the subtraction of stored means in a
// batch norm written as arithmetic.
func spelledBatchNorm(n *onnx.Node) bool {
	v := n.Input(1)
	return n.Is("Sub") && v.Constant() != nil && strings.Contains(v.Name(), "moving_mean")
}

// packed reports whether v comes from one matrix product, with a bias or without.
func packed(v *onnx.Value) bool {
	p := v.Producer()
	for p != nil && p.Is("Add") {
		a := p.Input(0).Producer()
		if a == nil {
			a = p.Input(1).Producer()
		}
		p = a
	}
	return p != nil && slices.Contains([]string{"MatMul", "Gemm", "FusedMatMul", "FusedGemm"}, p.Op)
}

// reportDeclined logs what was found too little of, and what the rules of that
// kind had against it.
func reportDeclined(t *testing.T, found map[nets.Kind][2]int, log *rewrite.Log) {
	for _, k := range nets.Kinds {
		n, ok := found[k]
		if !ok || n[0] == n[1] {
			continue
		}
		t.Logf("%s: found %d of %d", k, n[0], n[1])
		reasons := map[string]int{}
		for _, d := range log.Declined {
			if about(d.Rule, k) {
				reasons[d.Rule+": "+d.Reason]++
			}
		}
		for _, r := range slices.Sorted(maps.Keys(reasons)) {
			t.Logf("  %d × %s", reasons[r], r)
		}
	}
}

// about reports whether a rule, by its name, is one for a kind.
func about(rule string, k nets.Kind) bool {
	for _, word := range kindWords[k] {
		if strings.Contains(rule, word) {
			return true
		}
	}
	return false
}

// kindWords are parts of the names of the rules for a kind.
var kindWords = map[nets.Kind][]string{
	nets.Attention: {"attention"}, nets.QKV: {"matmul-merge", "qkv"}, nets.Rotary: {"rotary"},
	nets.LayerNorm: {"layer-norm", "layernorm"}, nets.RMSNorm: {"rms"}, nets.GroupNorm: {"group-norm"}, nets.BatchNorm: {"batchnorm", "batch-norm", "affine", "arithmetic"},
	nets.Gelu: {"gelu"}, nets.GeluTanh: {"gelu"}, nets.Swish: {"swish", "silu"}, nets.HardSwish: {"hard"}, nets.Sigmoid6: {"hard"}, nets.DotSoftmax: {"softmax"},
}

func readLedger(t *testing.T) map[foundKey][2]int {
	out := map[foundKey][2]int{}
	b, err := os.ReadFile(netsLedger)
	if err != nil && !updating() {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if strings.HasPrefix(line, "#") || len(f) < 6 {
			continue
		}
		found, err1 := strconv.Atoi(f[4])
		of, err2 := strconv.Atoi(f[5])
		if err1 != nil || err2 != nil {
			t.Fatalf("%s: %q", netsLedger, line)
		}
		out[foundKey{f[0], nets.Style(f[1]), f[2], nets.Kind(f[3])}] = [2]int{found, of}
	}
	return out
}

func writeLedger(t *testing.T, got map[foundKey][2]int) {
	var keys []foundKey
	for k := range got {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b foundKey) int {
		return cmp.Or(cmp.Compare(a.net, b.net), cmp.Compare(a.style, b.style), cmp.Compare(a.target, b.target), cmp.Compare(a.kind, b.kind))
	})
	var b bytes.Buffer
	b.WriteString("# network\tstyle\ttarget\tkind\tfound\tof; written by go test ./fuse -run TestNets -update\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%d\t%d\n", k.net, k.style, k.target, k.kind, got[k][0], got[k][1])
	}
	if err := os.WriteFile(netsLedger, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}
