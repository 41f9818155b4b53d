package profile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Cost is what inferences cost at prices of machines by the hour.
type Cost struct {
	Columns []CostColumn `json:"columns"` // side by side
	Note    string       `json:"note"`    // what the numbers rest on
}

// CostColumn is the cost on one kind of device.
type CostColumn struct {
	Kind       string   `json:"kind" schema:"cpu|gpu"` // of device
	PerHour    float64  `json:"price_per_hour"`        // of the machine, in whatever currency
	Device     string   `json:"device,omitempty"`      // where the model ran
	PerSecond  *float64 `json:"per_second,omitempty"`  // inferences, back to back; absent where the model did not run there
	MeanMS     *float64 `json:"mean_ms,omitempty"`     // of one run
	PerMillion *float64 `json:"per_million,omitempty"` // cost of a million inferences
	EnergyMJ   *float64 `json:"energy_mj,omitempty"`   // millijoules of one inference; absent where it is not known
	Reason     string   `json:"unavailable,omitempty"` // why there is no number
}

// Prices are machines' prices by the hour; 0 is none given.
type Prices struct{ CPU, GPU float64 }

// ParsePrices reads "0.34", the price of the machine that the model runs on, or
// "cpu=0.34,gpu=2.50". ran is "cpu" or "gpu".
func ParsePrices(text, ran string) (Prices, error) {
	var p Prices
	for part := range strings.SplitSeq(text, ",") {
		kind, value, named := strings.Cut(strings.TrimSpace(part), "=")
		if !named {
			kind, value = ran, kind
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
			return p, fmt.Errorf("%q is not a price per hour; write 0.34, or cpu=0.34,gpu=2.50", part)
		}
		at := &p.CPU
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "cpu":
		case "gpu":
			at = &p.GPU
		default:
			return p, fmt.Errorf("%q has no price: want cpu or gpu", kind)
		}
		if *at > 0 {
			return p, fmt.Errorf("%s has two prices", strings.ToLower(strings.TrimSpace(kind)))
		}
		*at = v
	}
	return p, nil
}

// Ran is one device's part of a cost: the times there, or why there are none.
type Ran struct {
	Timed  *TimedProfile
	Batch  int // inferences in one run; 0 means 1
	GPU    *GPUFacts
	Reason string
}

// NewCost turns prices into the cost of a million inferences. A price that is
// not given has no column.
func NewCost(p Prices, cpu, gpu Ran) *Cost {
	c := &Cost{Columns: []CostColumn{}, Note: "one stream, one run after the other, on a machine that does nothing else"}
	add := func(kind string, price float64, r Ran) {
		if price <= 0 {
			return
		}
		x := CostColumn{Kind: kind, PerHour: price, Reason: r.Reason}
		switch {
		case r.Timed == nil || r.Timed.PerSecond <= 0:
			x.Reason = orText(x.Reason, "the model did not run there")
		default:
			x.Reason, x.Device = "", orText(r.Timed.Device, "cpu")
			rate := r.Timed.PerSecond * float64(max(1, r.Batch))
			x.PerSecond, x.MeanMS = pointer(rate), pointer(r.Timed.Latency.MeanMS)
			x.PerMillion = pointer(price / 3600 * 1e6 / rate)
			if r.GPU != nil && r.GPU.EnergyMJ != nil {
				x.EnergyMJ = pointer(*r.GPU.EnergyMJ / float64(max(1, r.Batch)))
			}
		}
		c.Columns = append(c.Columns, x)
	}
	add("cpu", p.CPU, cpu)
	add("gpu", p.GPU, gpu)
	return c
}

// cost writes the columns side by side.
func (t *table) cost(c *Cost) {
	columns := []column{{"cost", false}}
	rows := [][]string{{"price per hour"}, {"mean of a run"}, {"inferences per second"}, {"energy of an inference"}, {"per million"}}
	for _, x := range c.Columns {
		columns = append(columns, column{strings.ToUpper(x.Kind), true})
		rows[0] = append(rows[0], money(x.PerHour))
		rows[1] = append(rows[1], told(x.MeanMS, duration))
		rows[2] = append(rows[2], told(x.PerSecond, significant))
		rows[3] = append(rows[3], told(x.EnergyMJ, millijoules))
		rows[4] = append(rows[4], told(x.PerMillion, money))
	}
	t.line("")
	t.grid(columns, rows)
	for _, x := range c.Columns {
		if x.Reason != "" {
			t.fact(strings.ToUpper(x.Kind), "unavailable: %s", x.Reason)
		}
	}
	t.fact("", "%s", c.Note)
}

// money returns an amount with three digits that count.
func money(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
