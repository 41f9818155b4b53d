package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/lapidary-ml/lapidary/quantize"
)

// printLayersNamed prints all that is known of the nodes with word in their name, or in
// that of their output.
func printLayersNamed(w io.Writer, r *quantize.Result, word string) {
	for _, l := range r.Layers {
		if strings.Contains(l.Node, word) || strings.Contains(l.Output, word) {
			printLayerNamed(w, r, l)
		}
	}
}

func printLayerNamed(w io.Writer, r *quantize.Result, l quantize.Layer) {
	fmt.Fprintf(w, "  %s\n", l.Node)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "    %-8s %s\n", name, fmt.Sprintf(format, args...))
	}
	if l.Reason != "" {
		line("float32", "%s", l.Reason)
		return
	}
	if l.Note != "" {
		line("note", "%s", l.Note)
	}
	if l.Weights != nil {
		line("weight", "%s", strings.TrimPrefix(weightText(l.Weights), ", "))
	}
	for _, x := range []struct {
		name string
		p    *quantize.Params
	}{{"input", l.Input}, {"weight", l.Weight}, {"output", l.Result}} {
		if x.p != nil {
			line(x.name, "%s", paramsText(x.p))
		}
	}
	for _, c := range r.Checks {
		if c.Node == l.Node {
			line("error", "%.2g of the signal by itself (NMSE), %.1f times what rounding explains", c.Noise, c.Noise/c.Expected)
		}
	}
	for _, s := range r.Sensitivity {
		if s.Layer == l.Output {
			line("cost", "%+.2f dB for the model if it alone were in float32", s.Gain)
		}
	}
	switch f := l.Fate; {
	case f == nil && l.Result != nil && l.Input == nil && l.Weight == nil:
		line("engine", "gone: the codes of its result do what it did")
	case f != nil:
		line("engine", "%s", engineText(f))
		for _, p := range f.Pairs {
			line("", "%s", pairText(p))
		}
	}
}

// paramsText says how a tensor is coded.
func paramsText(p *quantize.Params) string {
	scale := fmt.Sprintf("scale %.4g", p.Scale)
	if p.Channels > 0 {
		scale = fmt.Sprintf("%d scales up to %.4g", p.Channels, p.Scale)
	}
	text := fmt.Sprintf("%s: %s, %s, zero point %d, range %.4g to %.4g", p.Tensor, p.Type, scale, p.ZeroPoint, p.Min, p.Max)
	if p.Clipped != nil {
		text += fmt.Sprintf(", %.3g %% clipped, error %.2g of its power foretold", 100**p.Clipped, *p.Error)
	}
	return text
}

// engineText says which operator of the engine computes a node.
func engineText(f *quantize.Fate) string {
	switch {
	case f.Engine == "":
		return "no operator of its name is left: taken into another one"
	case f.Codes:
		return f.Engine + ", on codes"
	}
	return f.Engine
}

// pairText says what is left of a pair.
func pairText(p quantize.PairFate) string {
	text := fmt.Sprintf("%s %s: ", p.Side, p.Tensor)
	switch {
	case p.Quantize && p.Dequantize:
		return text + "both conversions are left"
	case p.Quantize:
		return text + "the conversion to codes is left"
	case p.Dequantize:
		return text + "the conversion from codes is left"
	}
	return text + "taken in, no conversion is left"
}

// fateText sums up a fate for a line.
func fateText(f *quantize.Fate) string {
	if f == nil {
		return ""
	}
	left := 0
	for _, p := range f.Pairs {
		if p.Quantize || p.Dequantize {
			left++
		}
	}
	text := ", in the engine " + engineText(f)
	if left > 0 {
		text += fmt.Sprintf(" with conversions at %d of %d tensors", left, len(f.Pairs))
	}
	return text
}
