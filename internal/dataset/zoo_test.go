package dataset

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// zooPorts returns the inputs of a model of the corpus that have no default.
func zooPorts(t testing.TB, dir, name string) []Port {
	m, err := onnxfile.Open(filepath.Join(dir, "models", name+".onnx"), onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	defaults := map[string]bool{}
	for _, v := range m.Graph.Initializers() {
		defaults[v.Name()] = true
	}
	var ports []Port
	for _, v := range m.Graph.Inputs() {
		if !defaults[v.Name()] {
			ports = append(ports, Port{v.Name(), v.Type})
		}
	}
	return ports
}

// TestZoo opens all data of the corpus for the models it belongs to.
func TestZoo(t *testing.T) {
	dir := zootest.Dir(t)
	for _, c := range []struct {
		model, data, pre string
		state            map[string]string
		batch            int
		labels           LabelKind
		n                int
		want             string // inputs of the last sample
	}{
		{model: "mnist-8", data: "mnist.npz", batch: 1, labels: Class, n: 5000, want: "Input3 float[1 1 28 28]"},
		{model: "mnist-cnn", data: "mnist.npz", pre: "scale=1/255,mean=0.1307,std=0.3081", batch: 1, labels: Class, n: 5000, want: "0 float[1 1 28 28]"},
		{model: "squeezenet1.1", data: "imagenet", pre: "channels=bgr,mean=104.007:116.669:122.679", batch: 1, labels: Class, n: 500, want: "data_0 float[1 3 224 224]"},
		{model: "squeezenet1.1-fp16", data: "imagenet", pre: "channels=bgr,mean=104.007:116.669:122.679", batch: 1, labels: Class, n: 500, want: "data_0 float16[1 3 224 224]"},
		{model: "ultraface-rfb-320", data: "imagenet", pre: "resize=320x240,mean=127,std=128", batch: 1, labels: Class, n: 500, want: "input float[1 3 240 320]"},
		{model: "magika-fast", data: "magika-fast.npz", labels: Class, n: 152, want: "bytes int32[1 1024]"},
		{model: "stories260K", data: "stories.npz", labels: Positions, n: 71, want: "input_ids int64[1 96]"},
		{model: "silero-vad", data: "silero.npz", batch: 1, n: 938, want: "input float[1 576] state float[2 1 128] sr int64[]"},
		{model: "silero-vad-16k", data: "silero.npz", state: map[string]string{"stateN": "state"}, batch: 1, n: 938, want: "input float[1 576] state float[2 1 128] sr int64[]"},
		{model: "iris-mlp", data: "iris.npz", labels: Class, n: 150, want: "input float[1 4]"},
		{model: "iris-forest", data: "iris.npz", labels: Class, n: 150, want: "X float[1 4]"},
	} {
		t.Run(c.model, func(t *testing.T) {
			ports := zooPorts(t, dir, c.model)
			o := Options{Inputs: ports, State: c.state}
			if c.pre != "" {
				var err error
				if o.Preprocess, err = ParsePreprocess(c.pre); err != nil {
					t.Fatal(err)
				}
			}
			if c.data == "imagenet" && testing.Short() {
				o.Skip = int64(c.n) - 10
			}
			s := mustOpen(t, filepath.Join(dir, "data", c.data), o)
			if s.Labels() != c.labels || s.BatchSize() != c.batch || len(s.Warnings()) > 0 {
				t.Errorf("labels %v, batch size %d, warnings %q", s.Labels(), s.BatchSize(), s.Warnings())
			}
			n, last := int(o.Skip), ""
			for x, err := range s.Samples(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				n, last = n+1, ""
				for _, p := range ports {
					last += fmt.Sprintf(" %v", x.Inputs[p.Name].Renamed(p.Name))
				}
			}
			if n != c.n || last != " "+c.want {
				t.Errorf("%d samples of%s, want %d of %s", n, last, c.n, c.want)
			}
		})
	}
}

// TestZooDoesNotFit: data of another model is refused with a reason.
func TestZooDoesNotFit(t *testing.T) {
	dir := zootest.Dir(t)
	_, err := Open(filepath.Join(dir, "data", "iris.npz"), Options{Inputs: zooPorts(t, dir, "iris-logreg")})
	wantError(t, err, "a sample of shape [4] does not fit")
}

// BenchmarkImages decodes and prepares the corpus's photographs on one worker.
func BenchmarkImages(b *testing.B) {
	dir := zootest.Dir(b)
	pre, err := ParsePreprocess("channels=bgr,mean=104.007:116.669:122.679")
	if err != nil {
		b.Fatal(err)
	}
	s := mustOpen(b, filepath.Join(dir, "data/imagenet"), Options{Inputs: zooPorts(b, dir, "squeezenet1.1"), Preprocess: pre, Workers: 1, Limit: 100})
	benchmarkSamples(b, s)
}

// BenchmarkArrays streams 10,000 rows of 4 KiB from a compressed and from a plain file.
func BenchmarkArrays(b *testing.B) {
	npy := npyBytes("<f4", false, []int64{10000, 1024}, le(floatRange(10000*1024)))
	dir := write(b, map[string][]byte{"x.npy": npy, "x.npz": npzBytes(8, "x.npy", npy)})
	for _, name := range []string{"x.npy", "x.npz"} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(npy)))
			benchmarkSamples(b, mustOpen(b, filepath.Join(dir, name), Options{Inputs: []Port{port("x", onnx.Float, -1, 1024)}}))
		})
	}
}

func benchmarkSamples(b *testing.B, s *Set) {
	n := 0
	for b.Loop() {
		for _, err := range s.Samples(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "samples/s")
}
