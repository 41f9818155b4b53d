package profile

import (
	"fmt"
	"unicode/utf8"
)

// advice writes what to do, with the commands, and what would not help.
func (t *table) advice(a *Advice) {
	t.line("")
	t.fact("advice", "%s", a.Basis)
	for _, x := range a.Items {
		head := x.What
		switch x.Verdict {
		case verdictFaster:
			head += ": faster"
		case verdictSmaller:
			head += ": smaller"
		case verdictUnknown:
			head += ": not known"
		default:
			head += ": no"
		}
		if p := x.Predicted; p != nil {
			head += fmt.Sprintf(", predicted %.2f× the time [%.2f, %.2f]", p.Ratio, p.Low, p.High)
		}
		if x.SizeRatio != nil && x.Verdict != verdictNo {
			head += fmt.Sprintf(", predicted %.2f× the size", *x.SizeRatio)
		}
		t.fact("", "%s; %s", head, x.Reason)
		if x.Command != "" {
			t.command(x.Command)
		}
	}
}

// command writes a command that can be pasted: long ones on several lines that
// end in a backslash. A single word may be wider than the table.
func (t *table) command(c string) {
	line, start := "    $", true
	for _, w := range shellWords(clean(c)) {
		if !start && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w)+2 > t.width {
			t.line(line + " \\")
			line = "       "
		}
		line, start = line+" "+w, false
	}
	t.line(line)
}

// shellWords splits a command at blanks outside of single quotes.
func shellWords(c string) []string {
	var out []string
	word, inside, escaped := "", false, false
	for _, r := range c {
		if escaped {
			word, escaped = word+string(r), false
			continue
		}
		escaped = r == '\\' && !inside
		if r == ' ' && !inside {
			if word != "" {
				out = append(out, word)
			}
			word = ""
			continue
		}
		inside = inside != (r == '\'')
		word += string(r)
	}
	if word != "" {
		out = append(out, word)
	}
	return out
}
