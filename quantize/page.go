package quantize

import (
	"bytes"
	"html/template"
	"math"
)

// Page is the result as one HTML page without anything from elsewhere: every
// layer with its codes, what it is off by, what it costs, and why it stays in
// float32.
func (r *Result) Page() ([]byte, error) {
	rows := make([]pageRow, 0, len(r.Layers))
	checks, gains := map[string]NodeCheck{}, map[string]float64{}
	most := 0.
	for _, c := range r.Checks {
		checks[c.Output] = c
	}
	for _, s := range r.Sensitivity {
		gains[s.Layer] = s.Gain
		most = math.Max(most, s.Gain)
	}
	for _, l := range r.Layers {
		row := pageRow{Layer: l}
		if c, ok := checks[l.Output]; ok {
			row.Checked, row.Noise, row.Times = true, -10*math.Log10(math.Max(c.Noise, 1e-30)), c.Noise/c.Expected
		}
		if g, ok := gains[l.Output]; ok {
			row.Ranked, row.Gain = true, g
			if most > 0 {
				row.Bar = math.Max(g, 0) / most * 100
			}
		}
		rows = append(rows, row)
	}
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, struct {
		*Result
		Rows []pageRow
	}{r, rows})
	return b.Bytes(), err
}

type pageRow struct {
	Layer
	Checked      bool
	Noise, Times float64 // dB below the signal; times what rounding explains
	Ranked       bool
	Gain, Bar    float64 // dB; percent of the largest
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Scheme}}: {{.Output.Path}}</title>
<style>
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#0f172a;background:#fff}
h1{font-size:1.4rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #e2e8f0;vertical-align:top}th{position:sticky;top:0;background:#f8fafc}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}code{font-size:.85em;overflow-wrap:anywhere}
.float{color:#9a3412}.bar{background:#2563eb;height:.5rem;border-radius:2px}small{color:#475569}
</style></head><body>
<h1>{{.Scheme}} of {{.Output.Path}}</h1>
<p>{{.Quantized}} nodes quantized, {{.Kept}} with weights kept in float32; {{.Weights.Before}} bytes of weights became {{.Weights.After}}.
{{with .Calibration}}Ranges by {{.Method}} on {{.Samples}} samples, SHA-256 <code>{{.Digest}}</code>.{{end}}</p>
{{with .Search}}<p>Budget of {{.Budget}}: {{if .Met}}kept{{else}}not kept{{end}} on {{.Samples}} held-out samples.</p>{{end}}
{{range .Predictions}}<p>{{.ISA}}: {{printf "%.1f" .Quality.SQNR}} dB.</p>{{end}}
<table><thead><tr><th>layer</th><th>type</th><th>input</th><th>weights</th><th>result</th><th>noise by itself</th><th>gain in float32</th></tr></thead><tbody>
{{range .Rows}}<tr><td><code>{{.Layer.Output}}</code><br><small>{{.Op}}</small></td>
<td>{{if .Reason}}<span class="float">float32</span><br><small>{{.Reason}}</small>{{else}}{{.Type}}{{end}}</td>
<td class="n">{{with .Input}}{{template "codes" .}}{{end}}</td><td class="n">{{with .Weight}}{{template "codes" .}}{{end}}</td><td class="n">{{with .Layer.Result}}{{template "codes" .}}{{end}}</td>
<td class="n">{{if .Checked}}{{printf "−%.1f dB" .Noise}}<br><small>{{printf "%.1f×" .Times}} what rounding explains</small>{{end}}</td>
<td class="n">{{if .Ranked}}{{printf "%+.2f dB" .Gain}}<div class="bar" style="width:{{printf "%.0f%%" .Bar}}"></div>{{end}}</td></tr>
{{end}}</tbody></table></body></html>
{{define "codes"}}{{.Type}}, step {{printf "%.3g" .Scale}}<br><small>{{printf "%.3g … %.3g" .Min .Max}}{{if .Channels}}, {{.Channels}} channels{{else}}, zero {{.ZeroPoint}}{{end}}</small>{{end}}
`))
