package growth

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// Series is rows over the same sizes.
type Series struct {
	Title string
	Unit  string // "bytes" or "nodes"
	Sizes []float64
	Rows  []*Row
	Note  string // a paragraph in front of the tables
}

// Write writes the tables of s: time, then memory.
func (s *Series) Write(w io.Writer) error {
	out := &printer{w: w}
	out.f("## %s\n\n%s\n\n", s.Title, s.Note)
	s.times(out)
	s.memory(out)
	return out.err
}

func (s *Series) times(out *printer) {
	out.f("Time from start to end, and in parentheses of all processors together, of which the engine's behind a plus:\n\n")
	s.head(out, "| wall | processors, own |\n", "|--:|--:|\n")
	for _, r := range s.Rows {
		s.line(out, r, func(c Cost) string { return fmt.Sprintf("%s (%s)", Seconds(c.Wall), processors(c)) })
		out.f("| %s | %s%s |\n", exponent(r.Wall()), exponent(r.CPU()), mark(r.timeLinear()))
	}
	out.f("\n")
}

func (s *Series) memory(out *printer) {
	byBytes := s.Unit == "bytes"
	out.f("Peak of memory, and in parentheses without pages of files:\n\n")
	if byBytes {
		s.head(out, "| exponent | per byte of the model |\n", "|--:|--:|\n")
	} else {
		s.head(out, "| exponent |\n", "|--:|\n")
	}
	for _, r := range s.Rows {
		s.line(out, r, func(c Cost) string { return fmt.Sprintf("%s (%s)", Bytes(float64(c.Peak)), Bytes(float64(c.Own))) })
		out.f("| %s%s |", exponent(r.Memory()), mark(r.Memory().Linear()))
		if byBytes {
			all, own := r.PerSize()
			out.f(" %.2f (%.2f) |", all, own)
		}
		out.f("\n")
	}
	out.f("\n")
}

// head writes the first lines of a table; more are the columns after the sizes.
func (s *Series) head(out *printer, more, ruler string) {
	out.f("| command | start ")
	for _, n := range s.Sizes {
		out.f("| %s ", s.Label(n))
	}
	out.f("%s|---|--:", more)
	out.f("%s%s", strings.Repeat("|--:", len(s.Sizes)), ruler)
}

// line writes the cells of r up to the last size.
func (s *Series) line(out *printer, r *Row, cell func(Cost) string) {
	out.f("| `%s` | %s ", r.Command, cell(r.Start))
	for i := range s.Sizes {
		switch {
		case i < len(r.Samples):
			out.f("| %s ", cell(r.Samples[i].Cost))
		case i == len(r.Samples) && r.Failed != "":
			out.f("| %s ", strings.ReplaceAll(r.Failed, "|", "/"))
		default:
			out.f("| – ")
		}
	}
}

// Label writes a size.
func (s *Series) Label(n float64) string {
	if s.Unit == "bytes" {
		return Bytes(n)
	}
	return fmt.Sprintf("%.0f", n)
}

func exponent(f Fit) string {
	if !f.Known() {
		return "–"
	}
	return fmt.Sprintf("%.2f", f.Exponent)
}

func mark(linear bool) string {
	if linear {
		return ""
	}
	return " **not linear**"
}

func processors(c Cost) string {
	if c.Below == 0 {
		return Seconds(c.CPU)
	}
	return Seconds(c.CPU-c.Below) + " + " + Seconds(c.Below)
}

// Bytes writes a size for people, in powers of ten.
func Bytes(n float64) string {
	for _, u := range []struct {
		of   float64
		name string
	}{{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if math.Abs(n) >= u.of {
			return strings.TrimSuffix(fmt.Sprintf("%.3g", n/u.of), ".0") + " " + u.name
		}
	}
	return fmt.Sprintf("%.0f B", n)
}

// Seconds writes a time for people.
func Seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}

// printer keeps its first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
