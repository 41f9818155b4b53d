package profile

import (
	"fmt"
	"math"
	"strings"
	"unicode"
)

// count returns a number with three significant digits and a decimal prefix: 1.24 M.
func count(n int64) string { return scaled(float64(n), 1000, []string{"", "k", "M", "G", "T", "P"}) }

// bytesText returns a size with three significant digits and a binary prefix: 4.71 MiB.
func bytesText(n int64) string {
	return scaled(float64(n), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"})
}

func scaled(v, base float64, units []string) string {
	i := 0
	for math.Abs(v) >= base*0.9995 && i < len(units)-1 {
		v /= base
		i++
	}
	if i == 0 {
		return strings.TrimSpace(fmt.Sprintf("%.0f %s", v, units[0]))
	}
	return significant(v) + " " + units[i]
}

// duration returns milliseconds with three significant digits, in s, ms, us or ns.
func duration(ms float64) string {
	switch a := math.Abs(ms); {
	case a == 0:
		return "0"
	case a >= 999.5:
		return significant(ms/1e3) + " s"
	case a >= 0.9995:
		return significant(ms) + " ms"
	case a >= 0.0009995:
		return significant(ms*1e3) + " us"
	}
	return significant(ms*1e6) + " ns"
}

// significant returns v with three significant digits, without an exponent.
func significant(v float64) string {
	switch a := math.Abs(v); {
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// clean returns s without what could steer a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// fit returns s cut to width columns; of a name the end tells more than the start.
func fit(s string, width int) string {
	r := []rune(clean(s))
	if len(r) <= width {
		return string(r)
	}
	if width <= 3 {
		return string(r[len(r)-max(width, 0):])
	}
	return "..." + string(r[len(r)-width+3:])
}

// bar returns share of width as a bar, one character for any share above 0.
func bar(share float64, width int) string {
	if !(share > 0) || width < 1 {
		return ""
	}
	return strings.Repeat("#", min(width, max(1, int(math.Round(share*float64(width))))))
}
