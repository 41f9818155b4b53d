package validate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

const ultrafaceHead = "boxes=boxes,scores=scores,layout=xyxy,normalized=true,background=0,nms=0.5,min_score=0.05"

// faces makes a folder of photographs in which the detector finds faces, labelled with what it is sure of.
func faces(t *testing.T, model string, most int) (dir string, o dataset.Options) {
	t.Helper()
	photographs := zootest.Path(t, "data/imagenet")
	entries, err := os.ReadDir(photographs)
	if err != nil {
		t.Fatal(err)
	}
	if o.Preprocess, err = dataset.ParsePreprocess("resize=320x240,layout=nchw,channels=rgb,mean=127,std=128"); err != nil {
		t.Fatal(err)
	}
	h, err := ParseHead(ultrafaceHead)
	if err != nil {
		t.Fatal(err)
	}
	vo := runtimeOptions(t, model, model, photographs)
	s, err := vo.Open(t.Context(), model, session.Options{Device: "cpu"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := s.Inputs()[0]
	o.Inputs = []dataset.Port{{Name: in.Name, Type: in.Type}}
	dir = t.TempDir()
	var table strings.Builder
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".jpg" || strings.Count(table.String(), "\n") == most {
			continue
		}
		picture, err := os.ReadFile(filepath.Join(photographs, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		one := t.TempDir()
		if err := os.WriteFile(filepath.Join(one, e.Name()), picture, 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := dataset.Open(one, o)
		if err != nil {
			t.Fatal(err)
		}
		sample, err := set.At(t.Context(), 0)
		set.Close()
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Run(t.Context(), sample.Inputs)
		if err != nil {
			t.Fatal(err)
		}
		rows := [][5]float64{}
		for _, b := range sureBoxes(t, h, r.Outputs) {
			rows = append(rows, [5]float64{b.X1, b.Y1, b.X2, b.Y2, float64(b.Class)})
		}
		if len(rows) == 0 {
			continue
		}
		line, err := json.Marshal(map[string]any{"file": e.Name(), "label": rows})
		if err != nil {
			t.Fatal(err)
		}
		table.Write(append(line, '\n'))
		if err := os.WriteFile(filepath.Join(dir, e.Name()), picture, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "labels.jsonl"), []byte(table.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d photographs with faces", strings.Count(table.String(), "\n"))
	o.Inputs = nil
	return dir, o
}

func sureBoxes(t *testing.T, h *Head, out map[string]*onnx.Tensor) []score.Box {
	t.Helper()
	view := func(name string) table {
		v, err := out[name].Float64s()
		if err != nil {
			t.Fatal(err)
		}
		shape := out[name].Shape
		return table{v: v, n: int(shape[1]), columns: int(shape[2])}
	}
	var sure []score.Box
	for _, b := range h.decode(view("boxes"), view("scores"), table{}) {
		if b.Score > 0.6 && b.X2 > b.X1 && b.Y2 > b.Y1 {
			sure = append(sure, b)
		}
	}
	return sure
}

// TestUltraface: a face detector against itself, against its smaller brother and against a copy with a tenth of a layer zeroed,
// on photographs labelled with what it is sure of itself.
func TestUltraface(t *testing.T) {
	model := zootest.Path(t, "models/ultraface-rfb-320.onnx")
	dir, data := faces(t, model, 40)
	head, err := ParseHead(ultrafaceHead)
	if err != nil {
		t.Fatal(err)
	}
	run := func(candidate string) *report.Accuracy {
		o := runtimeOptions(t, model, candidate, filepath.Join(dir, "labels.jsonl"))
		o.Dataset, o.Latency.Off, o.Explain.Off, o.Accuracy.Head = data, true, true, head
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := gate.Apply(r, gate.Default(r)); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s", r.Text())
		return r.Accuracy
	}
	same := run(model)
	if same.Task != report.TaskDetection || same.Metric != "map" || *same.Baseline < 0.95 || *same.Delta != 0 || *same.Candidate != *same.Baseline {
		t.Errorf("the model against itself: %+v", same)
	}
	if !(same.CI95[0] < -0.01) {
		t.Errorf("a few photographs without a difference: interval %v, want one that is not empty", *same.CI95)
	}
	slim := run(zootest.Path(t, "models/ultraface-slim-320.onnx"))
	if *slim.Candidate >= *slim.Baseline || slim.CI95[1] >= 0 {
		t.Errorf("the smaller model: %v of %v, %v", *slim.Candidate, *slim.Baseline, *slim.CI95)
	}
	damaged := run(edited(t, model, func(m *onnx.Model) { spoil(t, largest(m), 0.1, 0) }))
	if *damaged.Delta >= 0 {
		t.Errorf("a tenth of a layer zeroed: %v", *damaged.Delta)
	}
}
