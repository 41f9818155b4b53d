package measure

import "fmt"

// Severity says how far a warning reaches.
type Severity int

const (
	// Note: worth knowing, changes no conclusion.
	Note Severity = iota
	// Warn: the numbers stand, but are weaker than they look.
	Warn
	// Severe: no conclusion should be drawn; a gate on these numbers is inconclusive.
	Severe
)

// String returns "note", "warn" or "severe".
func (s Severity) String() string {
	switch s {
	case Note:
		return "note"
	case Warn:
		return "warn"
	case Severe:
		return "severe"
	}
	return fmt.Sprintf("severity(%d)", int(s))
}

// MarshalText writes the severity by name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Warning is a doubt about a measurement, kept as data beside it.
type Warning struct {
	Code     string   // kebab-case identifier, stable: "few-processes", "trend"
	Severity Severity // how far it reaches
	Value    float64  // the number that raised it, in the unit that Message names
	Message  string   // one sentence
}

// Worst returns the highest severity among the warnings and whether there is any warning at all.
func Worst(warnings []Warning) (Severity, bool) {
	worst := Note
	for _, w := range warnings {
		worst = max(worst, w.Severity)
	}
	return worst, len(warnings) > 0
}
