package report

import "strings"

// verdictClass returns the class of a verdict; anything unknown looks like a failure.
func verdictClass(v Verdict) string {
	switch v {
	case Pass, Inconclusive:
		return string(v)
	}
	return string(Fail)
}

// verdictSymbol returns a sign that tells verdicts apart without colour.
func verdictSymbol(v Verdict) string {
	switch v {
	case Pass:
		return "✓"
	case Inconclusive:
		return "?"
	}
	return "✕"
}

// verdictWord returns a verdict as a heading.
func verdictWord(v Verdict) string {
	s := clean(string(v))
	if s == "" {
		return "No verdict"
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
