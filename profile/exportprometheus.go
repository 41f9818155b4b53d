package profile

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Prometheus returns the profile in Prometheus' text format, version 0.0.4, for
// a node exporter's textfile collector or a push gateway. All metrics are
// gauges in base units; what was not measured is absent.
func (p *Profile) Prometheus() []byte {
	w := &prometheus{}
	if p.Static != nil && p.Static.File != nil {
		w.model = p.Static.File.Name
	}
	if s := p.Static; s != nil {
		w.gauge("lapidary_parameters", "Parameters of the model.", float64(s.Weights.Parameters))
		w.gauge("lapidary_macs", "Multiply-accumulates of one inference.", float64(s.Work.MACs))
		w.gauge("lapidary_flops", "Floating-point operations of one inference.", float64(s.Work.FLOPs))
		w.gauge("lapidary_weight_bytes", "Size of the constants.", float64(s.Weights.Bytes))
		w.gauge("lapidary_activation_peak_bytes", "Most bytes of activations alive at once.", float64(s.Activations.PeakBytes))
		w.gauge("lapidary_coverage_ratio", "Share of the nodes that the counts include.", s.Coverage.Percent/100)
	}
	if t := p.Timed; t != nil {
		w.timed(t)
	}
	if r := p.Roofline; r != nil && r.Skipped == "" {
		w.gauge("lapidary_roof_attained_ratio", "Least possible time of a run on this machine over the measured one.", r.Attained)
	}
	if p.Sweep != nil {
		w.sweep(p.Sweep)
	}
	if p.Load != nil {
		w.load(p.Load)
	}
	return w.b.Bytes()
}

type prometheus struct {
	b     bytes.Buffer
	model string
	last  string // the metric written last
}

// gauge writes one sample; labels are names and values in turn.
func (w *prometheus) gauge(name, help string, v float64, labels ...string) {
	if name != w.last {
		fmt.Fprintf(&w.b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		w.last = name
	}
	w.b.WriteString(name)
	if w.model != "" {
		labels = append([]string{"model", w.model}, labels...)
	}
	for i := 0; i+1 < len(labels); i += 2 {
		w.b.WriteString([]string{"{", ","}[min(i, 1)])
		fmt.Fprintf(&w.b, `%s="%s"`, labels[i], labelValue.Replace(strings.ToValidUTF8(labels[i+1], "\ufffd")))
	}
	if len(labels) > 0 {
		w.b.WriteByte('}')
	}
	fmt.Fprintf(&w.b, " %s\n", strconv.FormatFloat(v, 'g', -1, 64))
}

var labelValue = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (w *prometheus) quantiles(name, help string, list [4]*Quantile, labels ...string) {
	for i, q := range list {
		if q != nil {
			w.gauge(name, help, q.MS/1e3, append([]string{"quantile", []string{"0.5", "0.9", "0.95", "0.99"}[i]}, labels...)...)
		}
	}
}

func (w *prometheus) timed(t *TimedProfile) {
	l := &t.Latency
	w.quantiles("lapidary_latency_seconds", "Time of one run, back to back.", [4]*Quantile{l.P50, l.P90, l.P95, l.P99})
	w.gauge("lapidary_latency_mean_seconds", "Mean time of one run.", l.MeanMS/1e3)
	w.gauge("lapidary_latency_max_seconds", "Slowest run.", l.MaxMS/1e3)
	w.gauge("lapidary_timed_runs", "Runs that were timed.", float64(l.Runs))
	w.gauge("lapidary_samples_per_second", "Samples per second back to back.", t.SamplesPerSecond)
	const cold = "lapidary_cold_start_seconds"
	for _, part := range []struct {
		name string
		ms   *float64
	}{{"open", &t.Cold.OpenMS}, {"start", t.Cold.StartMS}, {"read", t.Cold.ReadMS}, {"create", t.Cold.CreateMS}, {"first_run", &t.Cold.FirstRunMS}} {
		if part.ms != nil {
			w.gauge(cold, "The way to the first result; open holds start, read and create.", *part.ms/1e3, "part", part.name)
		}
	}
	if t.Memory != nil {
		w.gauge("lapidary_peak_resident_bytes", "Most resident memory of the process that runs the model.", float64(t.Memory.PeakBytes))
	}
	for _, g := range t.Operators {
		w.gauge("lapidary_operator_seconds", "Time per inference by operator as the engine ran it, under its profiler.", g.MS/1e3, "operator", g.Name)
	}
	if t.Accounting != nil {
		w.gauge("lapidary_profiler_overhead_ratio", "Wall time with the engine's profiler over that without it.", t.Accounting.Overhead)
	}
}

func (w *prometheus) sweep(s *Sweep) {
	for _, p := range s.Points {
		if p.Failed == "" {
			w.gauge("lapidary_sweep_latency_seconds", "Median time of one run with these settings.", p.MS/1e3, "settings", flags(p.Settings))
		}
	}
	for _, p := range s.Points {
		if p.Failed == "" {
			w.gauge("lapidary_sweep_samples_per_second", "Samples per second with these settings.", p.PerSecond, "settings", flags(p.Settings))
		}
	}
}

func (w *prometheus) load(l *Load) {
	for _, t := range l.Trials {
		w.quantiles("lapidary_load_latency_seconds", "Latency from the intended arrival at a rate of Poisson arrivals.",
			[4]*Quantile{t.P50, t.P90, t.P95, t.P99}, "rate", strconv.FormatFloat(t.Rate, 'g', 6, 64))
	}
	w.gauge("lapidary_capacity_per_second", "Requests per second back to back.", l.Capacity)
	if l.Highest != nil {
		w.gauge("lapidary_highest_rate_per_second", "Highest rate of arrivals that keeps the objective.", l.Highest.PerSecond)
	}
}
