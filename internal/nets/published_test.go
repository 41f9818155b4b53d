package nets_test

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// published are the figures of the papers and of the libraries that publish the
// weights: parameters, and multiply-accumulates of one sample (0: not published).
var published = map[string]struct {
	params, macs float64
	dims         map[string]int64
	kinds        map[nets.Kind]int
}{
	"bert":            {109482240, 11.2e9, map[string]int64{"seq": 128}, map[nets.Kind]int{nets.Attention: 12, nets.QKV: 12, nets.LayerNorm: 25, nets.Gelu: 12}},
	"gpt2":            {124439808, 0, nil, map[nets.Kind]int{nets.Attention: 12, nets.LayerNorm: 25, nets.GeluTanh: 12}},
	"gpt2-past":       {124439808, 0, nil, map[nets.Kind]int{nets.Attention: 12, nets.LayerNorm: 25, nets.GeluTanh: 12}},
	"llama":           {15191712, 0, nil, map[nets.Kind]int{nets.Attention: 6, nets.QKV: 6, nets.RMSNorm: 13, nets.Rotary: 12, nets.Swish: 6}},
	"llama-past":      {15191712, 0, nil, map[nets.Kind]int{nets.Attention: 6, nets.QKV: 6, nets.RMSNorm: 13, nets.Rotary: 12, nets.Swish: 6}},
	"transformer":     {18914304, 0, nil, map[nets.Kind]int{nets.Attention: 6, nets.LayerNorm: 12}},
	"llama-7b":        {6738415616, 0, nil, map[nets.Kind]int{nets.Attention: 32, nets.QKV: 32, nets.RMSNorm: 65, nets.Rotary: 64, nets.Swish: 32}},
	"vit":             {86567656, 17.58e9, nil, map[nets.Kind]int{nets.Attention: 12, nets.LayerNorm: 25, nets.Gelu: 12}},
	"whisper-encoder": {8208384, 0, nil, map[nets.Kind]int{nets.Attention: 4, nets.QKV: 4, nets.LayerNorm: 9, nets.Gelu: 6}},
	"resnet50":        {25557032, 4.09e9, nil, map[nets.Kind]int{nets.BatchNorm: 53}},
	"mobilenetv2":     {3504872, 0.30e9, nil, map[nets.Kind]int{nets.BatchNorm: 52}},
	"mobilenetv3":     {5483032, 0.217e9, nil, map[nets.Kind]int{nets.BatchNorm: 46, nets.HardSwish: 21, nets.Sigmoid6: 8}},
	"efficientnet-b0": {5288548, 0.386e9, nil, map[nets.Kind]int{nets.BatchNorm: 49, nets.Swish: 49}},
	"densenet121":     {7978856, 2.83e9, nil, map[nets.Kind]int{nets.BatchNorm: 121}},
	"vgg19":           {143667240, 19.63e9, nil, map[nets.Kind]int{}},
	"yolov8n":         {3157200, 4.37e9, nil, map[nets.Kind]int{nets.BatchNorm: 57, nets.Swish: 57, nets.DotSoftmax: 1}},
	"unet":            {35746307, 0, nil, nil},
}

// TestPublished compares the full sizes with the published figures, without
// computing a weight.
func TestPublished(t *testing.T) {
	for name, want := range published {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m, err := nets.Build(name, nets.Options{Full: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := parameters(m); math.Abs(got-want.params) > 1e-4*want.params {
				t.Errorf("%.0f parameters, published are %.0f", got, want.params)
			}
			if got := macs(t, m, want.dims); want.macs > 0 && math.Abs(got-want.macs) > 0.02*want.macs {
				t.Errorf("%.4g multiply-accumulates, published are %.4g", got, want.macs)
			}
			truth, err := nets.Truth(name, nets.Options{Full: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range nets.Kinds {
				if want.kinds != nil && truth[k] != want.kinds[k] {
					t.Errorf("%d of %s, published are %d", truth[k], k, want.kinds[k])
				}
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 150<<20 {
				t.Errorf("it took %d MiB", took>>20)
			}
		})
	}
}

// parameters counts what training would change.
func parameters(m *onnx.Model) (n float64) {
	for _, v := range m.Graph.Initializers() {
		c := v.Const
		buffer := slices.ContainsFunc([]string{"running_mean", "running_var", "_cached"}, func(s string) bool { return strings.HasSuffix(c.Name, s) })
		if c.DType.IsFloat() && !buffer {
			k, _ := c.Elements()
			n += float64(k)
		}
	}
	return n
}

func macs(t *testing.T, m *onnx.Model, dims map[string]int64) (n float64) {
	d := map[string]int64{}
	if !m.Graph.Inputs()[0].Shape()[0].Known() {
		d["batch"] = 1
	}
	for k, v := range dims {
		d[k] = v
	}
	f, err := opset.Infer(m, opset.Options{Dims: d, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	for node := range m.Graph.Nodes() {
		n += float64(f.Cost(node).MACs)
	}
	return n
}
