package profile

import "fmt"

// proof writes what follows from the times: machine, roofline, GPU, cost and advice.
func (t *table) proof(p *Profile) {
	if p.Machine != nil {
		t.line("")
		t.machine(p.Machine)
	}
	if p.GPU != nil {
		t.gpu(p.GPU)
	}
	if p.Roofline != nil {
		t.roofline(p.Roofline)
	}
	if p.Cost != nil {
		t.cost(p.Cost)
	}
	if p.Advice != nil {
		t.advice(p.Advice)
	}
}

// roofline writes the distance from the roof and what binds.
func (t *table) roofline(r *Roofline) {
	if r.Skipped != "" {
		t.fact("roofline", "none: %s", r.Skipped)
		return
	}
	t.fact("roofline", "%s of the roof: %s of %s at this machine's peaks", percent(r.Attained), duration(r.RoofMS), duration(r.MeasuredMS))
	var bound string
	for i, b := range r.Bounds {
		if i > 0 {
			bound += ", "
		}
		bound += fmt.Sprintf("%s %s in %s", b.Bound, percent(b.Share), several(b.Nodes, "node"))
	}
	t.fact("bound by", "%s; outside of nodes %s of the run", bound, percent(r.Outside/r.MeasuredMS))
	t.peaks(r.Peaks)
	var rows [][]string
	for i, n := range r.Nodes {
		if i == t.rows {
			rows = append(rows, []string{fmt.Sprintf("and %d more", len(r.Nodes)-i), "", "", "", "", ""})
			break
		}
		attained := percent(n.Attained)
		if n.Bound == boundUnknown {
			attained = "-"
		}
		rows = append(rows, []string{n.Name, n.Bound, duration(n.MS), duration(max(n.ComputeMS, n.MemoryMS)), attained, bar(min(1, n.Attained), 10)})
	}
	t.line("")
	t.grid([]column{{"node", false}, {"bound by", false}, {"time", true}, {"roof", true}, {"attained", true}, {"", false}}, rows)
}

func (t *table) peaks(p *Peaks) {
	t.fact("peaks", "float32 %s", p.Float32.text("GFLOP/s", p.Threads))
	if p.Int8 != nil {
		t.fact("", "int8 %s", p.Int8.text("GOP/s", p.Threads))
	}
	m := p.mainMemory()
	t.fact("", "memory %s GB/s read, %s copy, %s triad on %d threads; a node's overhead %s", significant(m.All.Read), significant(m.All.Copy),
		significant(m.All.Triad), p.Threads, duration(p.OverheadUS/1e3))
	if p.Disturbed() {
		t.fact("warn", "%s of the processors were busy with something else when the peaks were measured: they are too low, and what is predicted from them is rough; measure again by --roofline=fresh on a quiet machine", percent(*p.Busy))
	}
}

func (a *PeakRate) text(unit string, threads int) string {
	s := fmt.Sprintf("%s %s on one thread", significant(a.One), unit)
	if threads > 1 {
		s += fmt.Sprintf(", %s on %d", significant(a.All), threads)
	}
	if a.Theory != nil {
		s += fmt.Sprintf(" (in theory %s: %s)", significant(*a.Theory), a.Basis)
	}
	return s
}

func percent(share float64) string {
	if share > 0 && share < 0.0005 {
		return "<0.1 %"
	}
	return fmt.Sprintf("%.1f %%", 100*share)
}

// several writes a number of things.
func several(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
