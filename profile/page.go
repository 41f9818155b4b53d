package profile

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

//go:embed page.html.tmpl
var pageTemplate string

// pageRows bounds each table of the page; the JSON document holds all.
const pageRows = 200

// pageOpen is how many nodes are shown at once.
const pageOpen = 20

// page is what the template shows.
type page struct {
	*Profile
	Title, Headline string
	Tiles           []pageTile
	Warnings        []Warning
	Latency         pageLatency
	Operators       template.HTML
	NodeRows        []pageNode // the first of them
	MoreNodes       []pageNode
	NodesLeft       int
	Reconciled      string
	Roofline        *pageRoofline
	Advised         []pageAdvice
	Memory          *pageFigure
	Sweeps          []pageFigure
	SweepBest       []pageTile
	SweepRows       [][]string
	Load            *pageFigure
	LoadRows        [][]string
	LoadResult      []string
	Facts           [][2]string
	OperatorRows    [][]string
	TypeRows        [][]string
}

// pageTile is one number at the top.
type pageTile struct{ Label, Value, Note string }

// pageFigure is a drawing with what it says.
type pageFigure struct {
	Chart   template.HTML
	Caption string
}

// pageAdvice is one thing that could be done.
type pageAdvice struct{ What, Verdict, Gain, Reason, Command string }

type pageLatency struct {
	Runs, Cold template.HTML
	Quantiles  [][2]string
	Facts      [][2]string
}

type pageNode struct {
	Name, Op, Provider, Time, Share, Note string
	Percent                               float64 // of the longest
}

// Page returns the profile as one HTML page without anything from elsewhere:
// no script, no network, in a light and a dark theme, readable on paper and by a
// screen reader. Runs are drawn where they are at hand: not in a profile that was read from a document.
func (p *Profile) Page() ([]byte, error) {
	t, err := template.New("profile").Funcs(template.FuncMap{"style": func() template.CSS { return draw.Style }, "clean": draw.Clean}).Parse(pageTemplate)
	if err != nil {
		return nil, fmt.Errorf("parsing the page's template: %v", err)
	}
	v := p.page()
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("writing the page: %v", err)
	}
	return b.Bytes(), nil
}

func (p *Profile) page() *page {
	v := &page{Profile: p, Title: "Profile"}
	if p.Static != nil {
		v.static(p.Static)
	}
	if p.Timed != nil {
		v.timed(p.Timed)
	}
	v.roofline(p.Roofline)
	if p.Advice != nil {
		v.advice(p.Advice)
	}
	if s := p.Sweep; s != nil {
		v.Sweeps, v.SweepRows, v.SweepBest = sweepFigures(s), sweepRows(s), sweepBests(s)
		v.Warnings = append(v.Warnings, s.Warnings...)
	}
	if l := p.Load; l != nil {
		v.load(l)
	}
	return v
}

func (v *page) tile(label, value, note string) {
	v.Tiles = append(v.Tiles, pageTile{label, value, note})
}

// static fills in what the file says.
func (v *page) static(s *StaticProfile) {
	fact := func(name, format string, args ...any) {
		v.Facts = append(v.Facts, [2]string{name, fmt.Sprintf(format, args...)})
	}
	if s.File != nil {
		v.Title = s.File.Name
		size := bytesText(s.File.Bytes)
		if s.File.ExternalBytes > 0 {
			size += " and " + bytesText(s.File.ExternalBytes) + " of weights beside it"
		}
		fact("file", "%s, %s", s.File.Name, size)
	}
	v.tile("Parameters", count(s.Weights.Parameters), bytesText(s.Weights.Bytes)+" of weights")
	v.tile("Arithmetic", count(s.Work.MACs)+" MACs", significant(s.Work.Intensity)+" FLOPs per byte")
	v.Headline = fmt.Sprintf("%s parameters, %s multiply-accumulates per inference", count(s.Weights.Parameters), count(s.Work.MACs))
	var opsets []string
	for _, o := range s.Opsets {
		opsets = append(opsets, fmt.Sprintf("%s %d", o.Domain, o.Version))
	}
	fact("format", "IR %d, %s%s", s.IRVersion, strings.Join(opsets, ", "), prefixed(", by ", s.Producer))
	for i, list := range [][]Port{s.Inputs, s.Outputs} {
		for _, p := range list[:min(len(list), 12)] {
			fact([]string{"input", "output"}[i], "%s %s%s", p.Name, p.Type, prefixed(" as ", p.Used))
		}
	}
	fact("traffic", "%s read, %s written", bytesText(s.Work.BytesRead), bytesText(s.Work.BytesWritten))
	fact("coverage", "%.4g %%: %d of %d nodes counted", s.Coverage.Percent, s.Coverage.Counted, s.Coverage.Nodes)
	for _, a := range s.Assumptions {
		fact("assumed", "%s", a)
	}
	for _, o := range s.Operators[:min(len(s.Operators), pageRows)] {
		v.OperatorRows = append(v.OperatorRows, []string{o.Op, fmt.Sprint(o.Count), count(o.MACs), count(o.FLOPs), count(o.Parameters)})
	}
	for _, x := range s.Types[:min(len(s.Types), pageRows)] {
		v.TypeRows = append(v.TypeRows, []string{x.Type, fmt.Sprint(x.Tensors), count(x.Elements), bytesText(x.Bytes)})
	}
	v.Memory = memoryFigure(s)
}

// timed fills in what running took.
func (v *page) timed(t *TimedProfile) {
	where := fmt.Sprintf("on %s with %d threads", orCPU(t.Device), t.Threads)
	var tiles []pageTile
	if q := t.Latency.P50; q != nil {
		tiles = append(tiles, pageTile{"Median latency", duration(q.MS), fmt.Sprintf("95 %% interval %s to %s", duration(q.CI95[0]), duration(q.CI95[1]))})
		v.Headline = fmt.Sprintf("%s per run %s", duration(q.MS), where) + prefixed("; ", v.Headline)
	}
	tiles = append(tiles, pageTile{"Throughput", significant(t.SamplesPerSecond) + "/s", fmt.Sprintf("samples back to back, batch %d", t.Batch)})
	if m := t.Memory; m != nil {
		tiles = append(tiles, pageTile{"Peak memory", bytesText(m.PeakBytes), bytesText(m.OwnBytes) + " by the model"})
	}
	tiles = append(tiles, pageTile{"Cold start", duration(t.Cold.OpenMS + t.Cold.FirstRunMS), "to the first result"})
	v.Tiles = append(tiles, v.Tiles...)
	v.Warnings = append(v.Warnings, t.Warnings...)
	v.Latency = pageLatency{Runs: runsChart(t), Cold: coldChart(&t.Cold)}
	for _, q := range []struct {
		name string
		q    *Quantile
		need int
	}{{"median", t.Latency.P50, 6}, {"90th percentile", t.Latency.P90, 36}, {"95th percentile", t.Latency.P95, 72}, {"99th percentile", t.Latency.P99, 368}} {
		text := fmt.Sprintf("not stated (needs %d runs)", q.need)
		if q.q != nil {
			text = fmt.Sprintf("%s [%s, %s]", duration(q.q.MS), duration(q.q.CI95[0]), duration(q.q.CI95[1]))
		}
		v.Latency.Quantiles = append(v.Latency.Quantiles, [2]string{q.name, text})
	}
	v.Latency.Facts = latencyFacts(t)
	v.Operators = operatorChart(t.Operators)
	v.nodes(t)
}

// latencyFacts says how it was measured and how quiet the machine was.
func latencyFacts(t *TimedProfile) [][2]string {
	l := &t.Latency
	out := [][2]string{
		{"runs", fmt.Sprintf("%d in %d fresh sessions, after %d to warm up", l.Runs, len(t.Sessions), warmups(t.Sessions))},
		{"mean", fmt.Sprintf("%s, standard deviation %s", duration(l.MeanMS), duration(l.SDMS))},
		{"fastest and slowest", fmt.Sprintf("%s and %s; %d far from the rest, none left out", duration(l.MinMS), duration(l.MaxMS), l.Outliers)},
		{"inputs", strings.Join(t.InputShapes, "; ")},
	}
	n := t.Noise
	if n == nil {
		return out
	}
	share := func(name string, x *float64) {
		if x != nil {
			out = append(out, [2]string{name, fmt.Sprintf("%.1f %% of the time", 100**x)})
		}
	}
	share("taken by the hypervisor", n.Steal)
	share("tasks waited for a processor", n.Pressure)
	if n.ThrottledPeriods != nil {
		out = append(out, [2]string{"periods stopped by the quota", fmt.Sprint(*n.ThrottledPeriods)})
	}
	if n.Switches != nil {
		out = append(out, [2]string{"times pre-empted", fmt.Sprint(*n.Switches)})
	}
	if n.Lag1 != nil {
		out = append(out, [2]string{"correlation of successive batches", fmt.Sprintf("%.2f", *n.Lag1)})
	}
	return out
}

func warmups(sessions []SessionRuns) int {
	n := 0
	for _, s := range sessions {
		n += s.Warmup
	}
	return n
}

// nodes fills in the table of nodes.
func (v *page) nodes(t *TimedProfile) {
	longest := 0.0
	for _, n := range t.Nodes {
		longest = max(longest, n.MS)
	}
	for i, n := range t.Nodes {
		if i == pageRows {
			v.NodesLeft = len(t.Nodes) - i
			break
		}
		row := pageNode{Name: n.Original, Op: n.Op, Provider: n.Provider, Time: duration(n.MS), Share: fmt.Sprintf("%.1f %%", 100*n.Share)}
		if row.Name == "" {
			row.Name, row.Note = n.Name, "made by the engine"
		}
		if n.OriginalOp != "" {
			row.Note = "was " + n.OriginalOp
		}
		if n.Launch {
			row.Note = "launch time"
		}
		if longest > 0 {
			row.Percent = 100 * n.MS / longest
		}
		if i < pageOpen {
			v.NodeRows = append(v.NodeRows, row)
		} else {
			v.MoreNodes = append(v.MoreNodes, row)
		}
	}
	if a := t.Accounting; a != nil {
		v.Reconciled = fmt.Sprintf("A run takes %s, and %s under the profiler: %.2f times as long. The nodes take %s of it; %s lie outside of nodes.",
			duration(a.WallMS), duration(a.ProfiledMS), a.Overhead, duration(a.NodesMS), duration(a.Unattributed))
	} else if t.Skipped != "" {
		v.Reconciled = "There are no times of nodes: " + t.Skipped + "."
	}
}

// advice fills in what to do.
func (v *page) advice(a *Advice) {
	for _, x := range a.Items {
		row := pageAdvice{What: x.What, Verdict: x.Verdict, Reason: x.Reason, Command: x.Command}
		if p := x.Predicted; p != nil {
			row.Gain = fmt.Sprintf("%s× the time [%s, %s]", significant(p.Ratio), significant(p.Low), significant(p.High))
		}
		if x.SizeRatio != nil {
			if row.Gain != "" {
				row.Gain += ", "
			}
			row.Gain += significant(*x.SizeRatio) + "× the size"
		}
		v.Advised = append(v.Advised, row)
	}
}

// load fills in what became of requests.
func (v *page) load(l *Load) {
	v.Warnings = append(v.Warnings, l.Warnings...)
	v.Load = loadFigure(l)
	for _, t := range l.Trials {
		row := []string{significant(t.Rate), fmt.Sprint(t.Requests), fmt.Sprintf("%.0f %%", 100*t.Busy), duration(t.WaitMS)}
		for _, q := range []*Quantile{t.P50, t.P90, t.P99} {
			text := "–"
			if q != nil {
				text = fmt.Sprintf("%s [%s, %s]", duration(q.MS), duration(q.CI95[0]), duration(q.CI95[1]))
			}
			row = append(row, text)
		}
		v.LoadRows = append(v.LoadRows, append(row, t.Verdict))
	}
	switch {
	case l.Highest != nil:
		v.LoadResult = append(v.LoadResult, fmt.Sprintf("%s requests a second keep %s of them within %s: %.0f %% of the capacity of %s a second back to back.",
			significant(l.Highest.PerSecond), trimmed(100*l.Objective.Quantile)+" %", duration(l.Objective.MS), 100*l.Highest.ShareOfCapacity, significant(l.Capacity)),
			"The objective is "+l.Highest.certainty()+".")
	case l.Impossible != "":
		v.LoadResult = append(v.LoadResult, "No rate keeps the objective: "+l.Impossible+".")
	}
}
