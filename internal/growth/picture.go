package growth

import (
	"fmt"
	"math"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

// Places in a panel of the picture, in user units.
const (
	panelWidth  = 460.0
	panelHeight = 300.0
	panelLeft   = 66.0
	panelRight  = 20.0
	panelTop    = 34.0
	panelBottom = 46.0
	legendLine  = 20.0
)

// shades are the colours of lines, for light pages and for dark ones.
var shades = [][2]string{{"#0f766e", "#3cc4b4"}, {"#b45309", "#f0a94b"}, {"#1d4ed8", "#7fa6ff"}, {"#b3261e", "#ff8a80"}, {"#6d28d9", "#b79cff"},
	{"#4d7c0f", "#a3d65c"}, {"#be185d", "#ff8cc0"}, {"#475569", "#9fb0c7"}, {"#0369a1", "#5cc3ff"}, {"#854d0e", "#d9b35c"},
	{"#166534", "#5fd08a"}, {"#7f1d1d", "#e07a7a"}, {"#3f3f46", "#d4d4d8"}, {"#a16207", "#ffd84d"}, {"#115e59", "#8fe3d8"}}

// Picture draws time and memory of every row over the size, less what a command takes to start, all by their
// logarithms: what is linear is a line of the slope of the dashed one. It is an SVG file that follows the reader's theme.
func Picture(series []*Series) []byte {
	names := commands(series)
	columns := 3
	rows := (len(names) + columns - 1) / columns
	width, height := 2*panelWidth, panelHeight*float64(len(series))+legendLine*float64(rows)+24
	d := draw.New("growth", width, height, "Growth of time and memory", "Every command over the size of the model, by logarithms, with a dashed line of slope one.")
	for i, s := range series {
		y := panelHeight * float64(i)
		panel(d, s, names, 0, y, "time from start to end", func(c Cost) float64 { return c.Wall.Seconds() },
			func(v float64) string { return shortSeconds(v) })
		panel(d, s, names, panelWidth, y, "peak of memory", func(c Cost) float64 { return float64(c.Peak) }, Bytes)
	}
	for i, name := range names {
		x := 20 + float64(i%columns)*(width-40)/float64(columns)
		y := panelHeight*float64(len(series)) + legendLine*float64(i/columns) + 20
		d.Rect(fmt.Sprintf("f%d", i%len(shades)), x, y-10, 11, 11)
		d.Text("small", "start", x+17, y, draw.Cut(name, 46))
	}
	svg := strings.Replace(string(d.HTML()), "<svg ", `<svg xmlns="http://www.w3.org/2000/svg" `, 1)
	return []byte(strings.Replace(svg, "<title", "<style>"+pictureStyle()+"</style><title", 1) + "\n")
}

// commands lists the commands of all series, each once.
func commands(series []*Series) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range series {
		for _, r := range s.Rows {
			if !seen[r.Command] {
				seen[r.Command] = true
				out = append(out, r.Command)
			}
		}
	}
	return out
}

// pictureStyle is a style sheet for a file by itself: the page around it has none.
func pictureStyle() string {
	var light, dark strings.Builder
	for i, c := range shades {
		fmt.Fprintf(&light, ".s%d{stroke:%s}.f%d{fill:%s}", i, c[0], i, c[0])
		fmt.Fprintf(&dark, ".s%d{stroke:%s}.f%d{fill:%s}", i, c[1], i, c[1])
	}
	const shared = "text{font:13px system-ui,-apple-system,Segoe UI,Roboto,Arial,sans-serif;fill:#16202c}.small{font-size:12px;fill:#566273}" +
		".axis{stroke:#566273}.grid{stroke:#d9dee5}.paper{fill:#fff}.curve{fill:none;stroke-width:1.75}.one{fill:none;stroke:#7c8aa0;stroke-dasharray:4 4}"
	const night = "text{fill:#e7ebf0}.small{fill:#a3afbe}.axis{stroke:#a3afbe}.grid{stroke:#313b48}.paper{fill:#12171e}.one{stroke:#8fa0b8}"
	return shared + light.String() + "@media (prefers-color-scheme:dark){" + night + dark.String() + "}"
}

// panel draws one quantity of a series.
func panel(d *draw.Drawing, s *Series, names []string, left, top float64, title string, of func(Cost) float64, label func(float64) string) {
	var values []float64
	lines := map[*Row][]float64{} // size and value in turn
	for _, r := range s.Rows {
		for _, p := range r.Samples {
			if v := of(p.Cost) - of(r.Start); v > 0 {
				lines[r] = append(lines[r], p.Size, v)
				values = append(values, v)
			}
		}
	}
	d.Rect("paper", left, top, panelWidth, panelHeight)
	d.Text("", "start", left+panelLeft, top+20, draw.Cut(fmt.Sprintf("%s: %s", s.Title, title), 60))
	if len(values) == 0 {
		return
	}
	x := draw.NewLogScale(left+panelLeft, left+panelWidth-panelRight, 0.04, s.Sizes...)
	y := draw.NewLogScale(top+panelHeight-panelBottom, top+panelTop, 0.06, values...)
	d.Grid(y, x.From, x.To, 5, label)
	d.Line("axis", x.From, y.From, x.To, y.From)
	for i, n := range s.Sizes {
		if i > 0 && x.At(n)-x.At(s.Sizes[i-1]) < 40 { // no room for another label
			continue
		}
		d.Line("axis", x.At(n), y.From, x.At(n), y.From+5)
		d.Text("small", "middle", x.At(n), y.From+19, s.Label(n))
	}
	slopeOne(d, s, x, y)
	for k, name := range names {
		for _, r := range s.Rows {
			if r.Command != name || len(lines[r]) < 4 {
				continue
			}
			var path []float64
			for i := 0; i < len(lines[r]); i += 2 {
				path = append(path, x.At(lines[r][i]), y.At(lines[r][i+1]))
			}
			d.Path(fmt.Sprintf("curve s%d", k%len(shades)), path...)
			for i := 0; i < len(path); i += 2 {
				d.Dot(fmt.Sprintf("f%d", k%len(shades)), path[i], path[i+1], 2.6, fmt.Sprintf("%s, %s: %s", name, s.Label(lines[r][i]), label(lines[r][i+1])))
			}
		}
	}
}

// slopeOne draws a line of the slope of linear growth through the middle of a panel.
func slopeOne(d *draw.Drawing, s *Series, x, y draw.Scale) {
	lo, hi := s.Sizes[0], s.Sizes[len(s.Sizes)-1]
	middle := math.Sqrt(y.Lo * y.Hi)
	center := math.Sqrt(lo * hi)
	var path []float64
	for i := range 33 { // the part of it within the panel
		n := lo * math.Pow(hi/lo, float64(i)/32)
		if v := middle * n / center; v >= y.Lo && v <= y.Hi {
			path = append(path, x.At(n), y.At(v))
		}
	}
	d.Path("one", path...)
}

func shortSeconds(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%.3g ms", v*1000)
	}
	return fmt.Sprintf("%.3g s", v)
}
