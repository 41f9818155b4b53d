package profile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/session"
)

// SweepAxis is one setting of a sweep and the values that it takes.
type SweepAxis struct {
	Name   string   `json:"name"`   // as the flag is called; dim.NAME is a dimension, a name with a dot a setting of the engine
	Values []string `json:"values"` // in the order given
}

// Setting is one setting with one value.
type Setting struct {
	Name  string `json:"name"`  // of its axis
	Value string `json:"value"` // as given
}

// maxSettings bounds how many combinations one sweep times.
const maxSettings = 64

// dimPrefix begins the name of an axis that is a symbolic dimension.
const dimPrefix = "dim."

// sweepChoices are the values of axes that take words.
var sweepChoices = map[string][]string{
	"level": {"all", "off", "basic", "extended"}, "spin": {"false", "true"}, "arena": {"true", "false"}, "flush-denormals": {"false", "true"},
}

// ParseSweep reads axes such as threads=1,2 and refuses what is not known, what
// is given twice, and more than 64 combinations.
func ParseSweep(specs []string) ([]SweepAxis, error) {
	var axes []SweepAxis
	combinations := 1
	for _, spec := range splitAxes(specs) {
		name, list, ok := strings.Cut(spec, "=")
		if !ok || name == "" || list == "" {
			return nil, fmt.Errorf("%q: give a setting and its values, as in threads=1,2", spec)
		}
		a := SweepAxis{Name: name, Values: strings.Split(list, ",")}
		for i, v := range a.Values {
			if err := checkSweepValue(name, v); err != nil {
				return nil, fmt.Errorf("%q: %w", spec, err)
			}
			if slices.Contains(a.Values[:i], v) {
				return nil, fmt.Errorf("%q: %s is given twice", spec, v)
			}
		}
		if slices.ContainsFunc(axes, func(b SweepAxis) bool { return b.Name == name }) {
			return nil, fmt.Errorf("%q: %s is swept twice", spec, name)
		}
		axes = append(axes, a)
		if combinations *= len(a.Values); combinations > maxSettings {
			return nil, fmt.Errorf("more than %d combinations; sweep fewer values at once", maxSettings)
		}
	}
	return axes, nil
}

// splitAxes takes axes apart that stand in one text: a part with an equals sign
// begins the next one.
func splitAxes(specs []string) []string {
	var out []string
	for part := range strings.SplitSeq(strings.Join(specs, ","), ",") {
		if strings.Contains(part, "=") || len(out) == 0 {
			out = append(out, part)
		} else {
			out[len(out)-1] += "," + part
		}
	}
	return out
}

func checkSweepValue(name, value string) error {
	choices, words := sweepChoices[name]
	switch {
	case name == "threads" || name == "batch" || strings.HasPrefix(name, dimPrefix) && name != dimPrefix:
		if n, err := strconv.ParseInt(value, 10, 32); err != nil || n < 1 {
			return fmt.Errorf("%s must be a number from 1, not %q", name, value)
		}
	case words:
		if !slices.Contains(choices, value) {
			return fmt.Errorf("%s is one of %s, not %q", name, strings.Join(choices, ", "), value)
		}
	case name == "device" || strings.Contains(name, ".") && name != dimPrefix:
		if value == "" {
			return fmt.Errorf("a value of %s is empty", name)
		}
	default:
		return fmt.Errorf("%s is no setting; sweep threads, batch, dim.NAME, device, level, spin, arena, flush-denormals, or a setting of the engine by its full name", name)
	}
	return nil
}

// combinations returns every combination of the axes' values, the last axis
// changing fastest.
func combinations(axes []SweepAxis) [][]Setting {
	out := [][]Setting{nil}
	for _, a := range axes {
		var next [][]Setting
		for _, c := range out {
			for _, v := range a.Values {
				next = append(next, append(c[:len(c):len(c)], Setting{a.Name, v}))
			}
		}
		out = next
	}
	return out
}

// ParseLevel reads how far the engine may rewrite the model: all, off, basic or extended.
func ParseLevel(s string) (session.Level, error) {
	levels := map[string]session.Level{"all": session.LevelAll, "off": session.LevelOff, "basic": session.LevelBasic, "extended": session.LevelExtended}
	l, ok := levels[s]
	if !ok {
		return 0, fmt.Errorf("level %q is unknown; want all, off, basic or extended", s)
	}
	return l, nil
}

// apply puts settings, checked before, into a session's options, the size of a
// batch and the dimensions.
func apply(settings []Setting, o *session.Options, batch *int, dims map[string]int64) error {
	for _, s := range settings {
		n, _ := strconv.Atoi(s.Value)
		switch s.Name {
		case "threads":
			o.Threads = n
		case "batch":
			*batch = n
		case "device":
			o.Device = s.Value
		case "level":
			l, err := ParseLevel(s.Value)
			if err != nil {
				return err
			}
			o.Level = l
		case "spin":
			o.Spin = s.Value == "true"
		case "arena":
			o.NoArena = s.Value == "false"
		case "flush-denormals":
			o.Flush = s.Value == "true"
		default:
			if dim, ok := strings.CutPrefix(s.Name, dimPrefix); ok {
				dims[dim] = int64(n)
				continue
			}
			config := map[string]string{s.Name: s.Value}
			for k, v := range o.Config {
				if k != s.Name {
					config[k] = v
				}
			}
			o.Config = config
		}
	}
	return nil
}

// flags returns the flags that choose settings on the command line.
func flags(settings []Setting) string {
	var out []string
	for _, s := range settings {
		dim, isDim := strings.CutPrefix(s.Name, dimPrefix)
		switch {
		case isDim:
			out = append(out, "--dim "+dim+"="+s.Value)
		case strings.Contains(s.Name, "."):
			out = append(out, "--session-option "+s.Name+"="+s.Value)
		case sweepChoices[s.Name] != nil && s.Name != "level":
			out = append(out, "--"+s.Name+"="+s.Value)
		default:
			out = append(out, "--"+s.Name+" "+s.Value)
		}
	}
	return strings.Join(out, " ")
}
