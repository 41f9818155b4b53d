package profile

import (
	"math"
	"testing"
)

func TestParsePrices(t *testing.T) {
	tests := []struct {
		text, ran string
		want      Prices
		ok        bool
	}{
		{"0.34", "cpu", Prices{CPU: 0.34}, true},
		{"2.5", "gpu", Prices{GPU: 2.5}, true},
		{"cpu=0.34,gpu=2.50", "cpu", Prices{0.34, 2.5}, true},
		{" GPU = 1 , cpu=2", "cpu", Prices{2, 1}, true},
		{"", "cpu", Prices{}, false},
		{"free", "cpu", Prices{}, false},
		{"-1", "cpu", Prices{}, false},
		{"0", "cpu", Prices{}, false},
		{"NaN", "cpu", Prices{}, false},
		{"inf", "cpu", Prices{}, false},
		{"tpu=1", "cpu", Prices{}, false},
		{"cpu=1,cpu=2", "cpu", Prices{}, false},
		{"1,cpu=2", "cpu", Prices{}, false},
	}
	for _, tt := range tests {
		got, err := ParsePrices(tt.text, tt.ran)
		if (err == nil) != tt.ok || tt.ok && got != tt.want {
			t.Errorf("%q: %+v, %v", tt.text, got, err)
		}
	}
}

func TestCost(t *testing.T) {
	ran := &TimedProfile{PerSecond: 250, Latency: Latency{MeanMS: 4}}
	c := NewCost(Prices{CPU: 0.36, GPU: 3.6}, Ran{Timed: ran, Batch: 4}, Ran{Reason: "no NVIDIA driver"})
	// 1000 inferences a second: a million in 1000 s, at 0.0001 a second.
	if x := c.Columns[0]; x.PerMillion == nil || math.Abs(*x.PerMillion-0.1) > 1e-12 || *x.PerSecond != 1000 || x.Device != "cpu" || x.Reason != "" {
		t.Errorf("%+v", x)
	}
	if x := c.Columns[1]; x.PerMillion != nil || x.PerSecond != nil || x.MeanMS != nil || x.Reason != "no NVIDIA driver" {
		t.Errorf("a GPU that is not there: %+v", x)
	}
	gpu := &TimedProfile{Device: "cuda:0", PerSecond: 2000, Latency: Latency{MeanMS: 0.5}}
	c = NewCost(Prices{GPU: 3.6}, Ran{Timed: ran}, Ran{Timed: gpu, GPU: &GPUFacts{Available: true, EnergyMJ: pointer(80.)}})
	if x := c.Columns[0]; len(c.Columns) != 1 || x.Kind != "gpu" || math.Abs(*x.PerMillion-0.5) > 1e-12 || *x.EnergyMJ != 80 {
		t.Errorf("%+v", c.Columns)
	}
}
