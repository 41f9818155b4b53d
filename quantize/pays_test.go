package quantize

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

const twoConvs = `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,4,16,16] x) => (float[1,4,16,16] y) <float[4,4,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> {
  a = Conv (x, w)
  r = Relu (a)
  m = MaxPool <kernel_shape = [1, 1]> (r)
  y = Conv (m, w)
}`

// planned returns the plan of a model whose tensors all lie in [−1, 1].
func planned(t *testing.T, text string) *plan {
	t.Helper()
	return plannedWith(t, text, nil)
}

// plannedWith is planned with other ranges for some tensors.
func plannedWith(t *testing.T, text string, ranges map[string]calibrate.Range) *plan {
	t.Helper()
	m, err := onnxtext.Parse("model", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s := &static{o: &Options{}, decision: decision{choices: &choices{stats: map[string]*calibrate.Stats{}}}, ranges: map[string]calibrate.Range{}}
	for v := range m.Graph.Values() {
		s.ranges[v.Name()], s.choices.stats[v.Name()] = calibrate.Range{Min: -1, Max: 1}, &calibrate.Stats{Runs: 1}
	}
	maps.Copy(s.ranges, ranges)
	pass := &planning{s: s}
	if _, err := rewrite.Run(context.Background(), m, []rewrite.Pass{pass}, nil, rewrite.Options{}); err != nil {
		t.Fatal(err)
	}
	return pass.plan
}

// planning is a pass that only plans.
type planning struct {
	s    *static
	plan *plan
}

func (*planning) Name() string { return staticName }

func (p *planning) Run(_ context.Context, m *onnx.Model, e *rewrite.Env) error {
	p.plan = newPlan(m, e, p.s)
	return nil
}

// TestImprove: what stays in int8 is what saves more than crossing over costs.
func TestImprove(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second OpTime
		crossing      float64
		factor        float64
		want          string // outputs of the Convs that stay
	}{
		{"both pay", OpTime{10, 4}, OpTime{10, 4}, 1, 1, "a y"},
		{"only the second", OpTime{4, 10}, OpTime{10, 4}, 1, 1, "y"},
		{"neither", OpTime{4, 10}, OpTime{4, 5}, 1, 1, ""},
		{"together only", OpTime{10, 8}, OpTime{10, 8}, 1.5, 1, "a y"},
		{"crossing costs more", OpTime{10, 8}, OpTime{10, 8}, 2.5, 1, ""},
		{"not by enough", OpTime{10, 8}, OpTime{10, 4}, 0.1, 1.5, "y"},
	} {
		p := planned(t, twoConvs)
		k := &costs{nodes: map[*onnx.Node]OpTime{}, quantize: map[*onnx.Value]float64{}, restore: map[*onnx.Value]float64{}}
		for n := range p.nodes() {
			switch n.Output(0).Name() {
			case "a":
				k.nodes[n] = c.first
			case "y":
				k.nodes[n] = c.second
			}
			for _, v := range []*onnx.Value{n.Input(0), n.Output(0)} {
				k.quantize[v], k.restore[v] = c.crossing, c.crossing
			}
		}
		p.improve(k, c.factor)
		var got []string
		for n := range p.nodes() {
			if p.chosen[n] && n.Is("Conv") {
				got = append(got, n.Output(0).Name())
			} else if n.Is("Conv") && !strings.Contains(p.reasons[n], "does not pay") {
				t.Errorf("%s: %v stays in float32: %q", c.name, n, p.reasons[n])
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v stay in int8, want %s", c.name, got, c.want)
		}
	}
}

// TestKnownTimes: what the file knows is not measured, also where spatial sizes
// differ a little; a damaged file is no error.
func TestKnownTimes(t *testing.T) {
	p := planned(t, twoConvs)
	file := filepath.Join(t.TempDir(), "times", "this.json")
	a, ok := newMicro(p.m.Graph.First(), p.facts, &Options{})
	if !ok {
		t.Fatal("the sizes are known")
	}
	near := planned(t, strings.ReplaceAll(twoConvs, "16,16] ", "15,17] "))
	b, _ := newMicro(near.m.Graph.First(), near.facts, &Options{})
	if a.class != b.class {
		t.Errorf("%s and %s are two classes", a.class, b.class)
	}
	other := planned(t, strings.ReplaceAll(twoConvs, "16,16] ", "32,16] "))
	if c, _ := newMicro(other.m.Graph.First(), other.facts, &Options{}); c.class == a.class {
		t.Errorf("images of twice the size are in one class: %s", c.class)
	}
	text, err := json.Marshal(map[string]OpTime{a.class: {1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]bool{string(text): true, "{": false, "null": false} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		times, err := openOpTimes(&Options{Times: file})
		if err != nil {
			t.Fatal(err)
		}
		none := errors.New("measured")
		x, ok, err := times.of(context.Background(), a.class, func() (*onnx.Model, *onnx.Model, error) { return nil, nil, none })
		if want && (!ok || err != nil || x != OpTime{1, 2}) || !want && !errors.Is(err, none) {
			t.Errorf("with %q: %v, %v, %v", content, x, ok, err)
		}
	}
}

// TestFastest: a slower model is made anew with less in int8, and refused where
// nothing helps.
func TestFastest(t *testing.T) {
	slower := &produce.Slower{Latency: produce.Latency{Ratio: 1.5}}
	for _, c := range []struct {
		name string
		good int // the attempt that is not slower; 0: none
		want float64
	}{{"all in int8", 2, 0}, {"the fourth time", 4, 2.5}, {"never", 0, 5}} {
		s, tries := &static{o: &Options{}, unpaid: true}, 0
		r, err := fastest(s, func(g *produce.Guard) (*produce.Result, error) {
			if tries++; g == nil || !g.Whole {
				t.Fatal("nothing is timed")
			}
			if tries == c.good {
				return &produce.Result{}, nil
			}
			return nil, slower
		}, &Options{Speed: true})
		var not *NotFaster
		if c.good == 0 && (!errors.As(err, &not) || not.Slower != slower) || c.good > 0 && (err != nil || r == nil) || s.factor != c.want {
			t.Errorf("%s: %v after %d tries, factor %v", c.name, err, tries, s.factor)
		}
	}
	for _, c := range []struct {
		name  string
		ratio map[float64]float64 // of the model by factor; above 1: refused
		want  float64             // the factor of the model that is written last
		tries int
	}{
		{"all in int8 is faster", map[float64]float64{0: 0.5, 1: 0.9}, 0, 2},
		{"what was left out pays", map[float64]float64{0: 0.9, 1: 0.5}, 1, 3},
		{"all in int8 is slower than the original", map[float64]float64{0: 1.2, 1: 0.9}, 1, 2},
	} {
		s, tries, written := &static{o: &Options{}, unpaid: true}, 0, -1.
		r, err := fastest(s, func(*produce.Guard) (*produce.Result, error) {
			tries++
			if x := c.ratio[s.factor]; x > 1 {
				return nil, &produce.Slower{Latency: produce.Latency{Ratio: x}}
			}
			written = s.factor
			return &produce.Result{Guarded: &produce.Guarded{Latency: &produce.Latency{Ratio: c.ratio[s.factor]}}}, nil
		}, &Options{Speed: true})
		if err != nil || written != c.want || tries != c.tries || ratioOf(r) != c.ratio[c.want] {
			t.Errorf("%s: factor %v after %d tries, %v", c.name, written, tries, err)
		}
	}
	if _, err := fastest(&static{}, func(g *produce.Guard) (*produce.Result, error) {
		if g != nil {
			t.Error("it is timed although size is what counts")
		}
		return &produce.Result{}, nil
	}, &Options{}); err != nil {
		t.Error(err)
	}
}
