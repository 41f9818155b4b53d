package report

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// redactedPrefix begins every name that was redacted.
const redactedPrefix = "redacted-"

// RedactedName returns what stands for a name in a redacted report: the first 16 hexadecimal digits of the HMAC-SHA256 of the name under the key,
// so that equal names stay equal within a report, and nobody without the key can try names out.
func RedactedName(key []byte, name string) string {
	if name == "" || IsRedacted(name) {
		return name
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(name))
	return fmt.Sprintf("%s%x", redactedPrefix, h.Sum(nil)[:8])
}

// IsRedacted reports whether a name is one of RedactedName's.
func IsRedacted(name string) bool { return redactedForm.MatchString(name) }

var redactedForm = regexp.MustCompile(`^` + redactedPrefix + `[0-9a-f]{16}$`)

// Redact replaces the names of files, nodes, inputs, outputs, classes, slices and samples by [RedactedName]: in their own fields, and where they
// stand in sentences. The words are names that such sentences may hold: of the models' nodes and values. It comes before
// gates are evaluated, so that their reasons hold no other names.
//
// What an option of a step or of the command line was set to may be a name and is dropped, unless it is a number, a switch, or one of the
// words that the options themselves define.
func (r *Report) Redact(key []byte, words []string) {
	d := &redactor{key: key, known: map[string]bool{}}
	for _, w := range words {
		d.learn(w)
	}
	for _, name := range r.names() {
		d.learn(*name)
	}
	d.sort()
	for _, name := range r.names() {
		*name = d.name(*name)
	}
	for _, text := range r.sentences() {
		*text = d.sentence(*text)
	}
	r.Tool.Command = d.command(r.Tool.Command)
	for _, m := range []*Model{&r.Baseline, &r.Candidate} {
		for i := range m.History {
			for k, o := range m.History[i].Options {
				m.History[i].Options[k] = d.option(o)
			}
		}
	}
}

// names returns the fields that are names.
func (r *Report) names() []*string {
	var out []*string
	for _, m := range []*Model{&r.Baseline, &r.Candidate} {
		out = append(out, &m.Name)
		for i := range m.External {
			out = append(out, &m.External[i].Path)
		}
	}
	if r.Data != nil && r.Data.Origin != OriginSynthetic {
		out = append(out, &r.Data.Name)
	}
	if a := r.Accuracy; a != nil {
		for i := range a.Outputs {
			out = append(out, &a.Outputs[i].Name)
		}
		for i := range a.Slices {
			out = append(out, &a.Slices[i].Name)
		}
		for i := range a.Confusion {
			out = append(out, &a.Confusion[i].Label, &a.Confusion[i].Predicted)
		}
		if a.Flips != nil {
			for i := range a.Flips.Samples {
				f := &a.Flips.Samples[i]
				out = append(out, &f.ID, &f.Label, &f.Baseline, &f.Candidate)
			}
		}
	}
	if a := r.Accuracy; a != nil && a.Worst != nil {
		out = append(out, &a.Worst.Name)
	}
	if r.Explanation != nil {
		out = append(out, r.Explanation.names()...)
	}
	return out
}

// names returns the fields that are names, also of further methods.
func (e *Explanation) names() []*string {
	var out []*string
	for i := range e.Flips {
		f := &e.Flips[i]
		out = append(out, &f.ID, &f.Baseline, &f.Candidate)
		if f.Map != nil {
			out = append(out, &f.Map.ID)
		}
	}
	for i := range e.Maps {
		out = append(out, &e.Maps[i].ID)
	}
	if e.MeanMap != nil {
		out = append(out, &e.MeanMap.ID)
	}
	for i := range e.Others {
		out = append(out, e.Others[i].names()...)
	}
	return out
}

// sentences returns the fields that are written for people.
func (r *Report) sentences() []*string {
	var out []*string
	for i := range r.Warnings {
		out = append(out, &r.Warnings[i])
	}
	for i := range r.Skipped {
		out = append(out, &r.Skipped[i].Reason)
	}
	if r.Latency != nil && r.Latency.Noise != nil {
		for i := range r.Latency.Noise.Warnings {
			out = append(out, &r.Latency.Noise.Warnings[i])
		}
	}
	return out
}

// redactor replaces names.
type redactor struct {
	key   []byte
	known map[string]bool
	order []string // known names, longest first
}

func (d *redactor) learn(name string) {
	if name != "" {
		d.known[name] = true
	}
}

func (d *redactor) sort() {
	for name := range d.known {
		d.order = append(d.order, name)
	}
	slices.SortFunc(d.order, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
}

// name replaces a name. That of a class says that it is one: "class=7" becomes "class=redacted-…".
func (d *redactor) name(s string) string {
	if class, ok := strings.CutPrefix(s, "class="); ok {
		return "class=" + RedactedName(d.key, class)
	}
	return RedactedName(d.key, s)
}

var (
	quotedText = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	singleText = regexp.MustCompile(`(^|[\s(:=])'([^']*)'`) // not the apostrophe within a word
	pathText   = regexp.MustCompile(`[^\s"'(),;:]*[/\\][^\s"'(),;:]+`)
)

// sentence replaces what a sentence quotes, paths, and known names that stand as words of their own.
func (d *redactor) sentence(s string) string {
	s = quotedText.ReplaceAllStringFunc(s, func(q string) string { return q[:1] + RedactedName(d.key, q[1:len(q)-1]) + q[len(q)-1:] })
	s = singleText.ReplaceAllStringFunc(s, func(q string) string {
		m := singleText.FindStringSubmatch(q)
		return m[1] + "'" + RedactedName(d.key, m[2]) + "'"
	})
	s = pathText.ReplaceAllStringFunc(s, func(p string) string { return RedactedName(d.key, p) })
	for _, name := range d.order {
		s = replaceWord(s, name, RedactedName(d.key, name))
	}
	return s
}

// replaceWord replaces name in s where it is not part of a longer word.
func replaceWord(s, name, by string) string {
	var out strings.Builder
	for {
		at := strings.Index(s, name)
		if at < 0 {
			out.WriteString(s)
			return out.String()
		}
		end := at + len(name)
		if at > 0 && isWord(s[at-1]) || end < len(s) && isWord(s[end]) {
			out.WriteString(s[:at+1])
			s = s[at+1:]
			continue
		}
		out.WriteString(s[:at] + by)
		s = s[end:]
	}
}

func isWord(c byte) bool {
	return c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// plainValue is what an option may keep: numbers, switches and the words of options that name no file and no part of a model.
var plainValue = regexp.MustCompile(`^(?:[-+0-9.,eE%x]+(?:pt|ms|s|dB|MiB|GiB)?|true|false|int8|uint8|int4|int16|uint16|fp16|bf16|auto|cpu|never|always|keep|minmax|entropy|percentile|kl|mse|qdq|qoperator|channels|heads|layers|unstructured)$`)

// option redacts the value of "--name=value".
func (d *redactor) option(s string) string {
	flag, value, ok := strings.Cut(s, "=")
	if !ok || plainValue.MatchString(value) {
		return s
	}
	return flag + "=" + RedactedName(d.key, value)
}

// command redacts a command line, word by word.
func (d *redactor) command(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		switch {
		case i < 2:
		case strings.HasPrefix(w, "--"):
			words[i] = d.option(w)
		default:
			words[i] = RedactedName(d.key, w)
		}
	}
	return strings.Join(words, " ")
}
