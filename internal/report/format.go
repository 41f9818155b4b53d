package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

// Units of metrics.
const (
	UnitFraction   = "fraction"   // a share, shown in percent
	UnitDifference = "difference" // a difference of shares, shown in percentage points
	UnitRatio      = "ratio"      // candidate / baseline, shown with ×
	UnitDecibel    = "dB"
	UnitNats       = "nats"
	UnitMS         = "ms"
	UnitBytes      = "bytes"
	UnitNone       = ""
)

// FormatValue returns v for a reader: in percent, points, ×, dB, nats, milliseconds or binary bytes, as the unit says.
func FormatValue(unit string, v float64) string {
	switch unit {
	case UnitFraction:
		return trim(100*v, 2) + " %"
	case UnitDifference:
		return trim(100*v, 2) + " pt"
	case UnitRatio:
		return significant(v, 3) + "×"
	case UnitMS:
		return significant(v, 4) + " ms"
	case UnitBytes:
		return formatBytes(v)
	case UnitDecibel:
		return trim(v, 1) + " dB"
	case UnitNats:
		return significant(v, 3) + " nats"
	}
	return significant(v, 3)
}

// FormatLimit returns a threshold for a reader: in the same units as FormatValue, but unrounded, since a limit is stated and not measured.
func FormatLimit(unit string, v float64) string {
	exact := func(v float64) string { return strconv.FormatFloat(v, 'g', 10, 64) }
	switch unit {
	case UnitFraction:
		return exact(100*v) + " %"
	case UnitDifference:
		return exact(100*v) + " pt"
	case UnitRatio:
		return exact(v) + "×"
	case UnitBytes:
		return formatBytes(v)
	case UnitNone:
		return exact(v)
	}
	return exact(v) + " " + unit
}

// FormatInterval returns the two ends as FormatValue shows them, in brackets and without repeating the unit.
func FormatInterval(unit string, ci Interval) string {
	lo, hi := FormatValue(unit, ci[0]), FormatValue(unit, ci[1])
	if unit == UnitBytes {
		return "[" + lo + ", " + hi + "]"
	}
	bare := func(s string) string {
		s, _, _ = strings.Cut(s, " ")
		return strings.TrimSuffix(s, "×")
	}
	return "[" + bare(lo) + ", " + bare(hi) + "]"
}

// trim rounds to the given number of decimals and never returns a negative zero.
func trim(v float64, decimals int) string {
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Trim(s, "-0.") == "" {
		return strings.TrimPrefix(s, "-")
	}
	return s
}

// significant rounds to n significant digits without an exponent for everyday sizes.
func significant(v float64, n int) string {
	a := math.Abs(v)
	if v == 0 {
		return "0"
	}
	if a >= 1e9 || a < 1e-6 {
		return strconv.FormatFloat(v, 'g', n, 64)
	}
	decimals := n - 1 - int(math.Floor(math.Log10(a)))
	return strconv.FormatFloat(v, 'f', min(max(decimals, 0), 9), 64)
}

func formatBytes(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if math.Abs(v) >= u.size {
			return dropZeros(significant(v/u.size, 4)) + " " + u.name
		}
	}
	return strconv.FormatFloat(v, 'f', 0, 64) + " B"
}

// dropZeros removes zeros at the end of a decimal fraction.
func dropZeros(s string) string {
	if !strings.Contains(s, ".") {
		return s
	}
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// FormatCount groups the digits of n by thousands.
func FormatCount[T int | int64](n T) string {
	s := fmt.Sprint(n)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// shortDigest returns enough of a digest to recognise it.
func shortDigest(s string) string {
	if len(s) > 12 {
		return s[:12]
	}
	return s
}

// maxText bounds one string of the user's in a rendering, in characters.
const maxText = 400

// clean, plain and cut make strings of unknown origin fit for display; see package draw.
func clean(s string) string      { return draw.Clean(s) }
func plain(s string) string      { return draw.Plain(s) }
func cut(s string, n int) string { return draw.Cut(s, n) }
