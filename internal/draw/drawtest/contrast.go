package drawtest

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Pair is a foreground on a background, both named by their variables, and the contrast that it needs.
type Pair struct {
	Front, Back string
	Least       float64
}

// Text returns the pairs of text in each of some colours on each of some grounds: 4.5 by WCAG 2.2, 1.4.3.
func Text(fronts, backs string) []Pair { return pairs(fronts, backs, 4.5) }

// Graphic is [Text] for lines and areas that carry meaning: 3 by WCAG 2.2, 1.4.11.
func Graphic(fronts, backs string) []Pair { return pairs(fronts, backs, 3) }

func pairs(fronts, backs string, least float64) []Pair {
	var out []Pair
	for _, f := range strings.Fields(fronts) {
		for _, b := range strings.Fields(backs) {
			out = append(out, Pair{f, b, least})
		}
	}
	return out
}

// Contrast computes each pair's contrast from the page's own style sheet, in the light and in the dark theme and on paper, and
// returns those that are too weak or that have no colour.
func Contrast(page []byte, pairs []Pair) []string {
	var out []string
	for _, theme := range []string{"", "prefers-color-scheme:dark", "print"} {
		colours := variables(string(page), theme)
		for _, p := range pairs {
			f, okf := luminance(colours[p.Front])
			b, okb := luminance(colours[p.Back])
			if !okf || !okb {
				out = append(out, fmt.Sprintf("theme %q: %s or %s is no colour", theme, p.Front, p.Back))
				continue
			}
			if c := (max(f, b) + 0.05) / (min(f, b) + 0.05); c < p.Least {
				out = append(out, fmt.Sprintf("theme %q: --%s on --%s has a contrast of %.2f, want %.1f", theme, p.Front, p.Back, c, p.Least))
			}
		}
	}
	slices.Sort(out)
	return out
}

// variables returns the colours of the theme: those of :root outside of any condition, and over them those under the condition.
func variables(page, theme string) map[string]string {
	out := map[string]string{}
	block := regexp.MustCompile(`(@media[^{]*\(?([a-z:-]+)\)?\s*\{)?:root\{([^}]*)\}`)
	for _, m := range block.FindAllStringSubmatch(page, -1) {
		if m[1] != "" && (theme == "" || !strings.Contains(m[1], theme)) {
			continue
		}
		for _, d := range strings.Split(m[3], ";") {
			if name, value, ok := strings.Cut(d, ":"); ok {
				out[strings.TrimPrefix(strings.TrimSpace(name), "--")] = strings.TrimSpace(value)
			}
		}
	}
	return out
}

// luminance returns the relative luminance of #rgb or #rrggbb (WCAG 2.2, definitions).
func luminance(colour string) (float64, bool) {
	hex, ok := strings.CutPrefix(colour, "#")
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	v, err := strconv.ParseUint(hex, 16, 32)
	if !ok || len(hex) != 6 || err != nil {
		return 0, false
	}
	channel := func(shift int) float64 {
		c := float64(v>>shift&255) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*channel(16) + 0.7152*channel(8) + 0.0722*channel(0), true
}
