package report

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"` // of skipped cases only the suites tell, as Jenkins has it
	Time     string       `xml:"time,attr,omitempty"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Timestamp  string          `xml:"timestamp,attr,omitempty"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// JUnit returns the gates as JUnit XML: one suite per section of the report, one case per gate. An inconclusive gate is a skipped
// case, or a failed one where the options are strict.
func (r *Report) JUnit(o Options) ([]byte, error) {
	total := junitSuites{Name: "lapidary validate"}
	if d := r.Finished.Sub(r.Started); d > 0 {
		total.Time = fmt.Sprintf("%.3f", d.Seconds())
	}
	for _, g := range r.Gates {
		section, _, _ := strings.Cut(clean(g.Metric), ".")
		i := slices.IndexFunc(total.Suites, func(s junitSuite) bool { return s.Name == section })
		if i < 0 {
			i = len(total.Suites)
			total.Suites = append(total.Suites, r.junitSuite(section))
		}
		total.Suites[i].add(&g, o.Strict)
	}
	for _, s := range total.Suites {
		total.Tests += s.Tests
		total.Failures += s.Failures
	}
	out, err := xml.MarshalIndent(total, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the JUnit report: %v", err)
	}
	return append(append([]byte(xml.Header), out...), '\n'), nil
}

func (r *Report) junitSuite(section string) junitSuite {
	s := junitSuite{Name: section, Properties: []junitProperty{
		{"baseline", clean(r.Baseline.Name)}, {"baseline.sha256", clean(r.Baseline.SHA256)},
		{"candidate", clean(r.Candidate.Name)}, {"candidate.sha256", clean(r.Candidate.SHA256)},
	}}
	if !r.Started.IsZero() {
		s.Timestamp = r.Started.UTC().Format("2006-01-02T15:04:05")
	}
	return s
}

// add adds the case of one gate.
func (s *junitSuite) add(g *Gate, strict bool) {
	c := junitCase{Class: "validate." + s.Name, Name: clean(g.Name)}
	details := "requires " + g.requirement() + ", observed " + g.observation()
	s.Tests++
	switch {
	case g.Verdict == Pass:
		c.Output = details
	case g.Verdict == Inconclusive && !strict:
		s.Skipped++
		c.Skipped = &junitMessage{Message: "inconclusive: " + clean(g.Reason)}
		c.Output = details
	case g.Verdict == Inconclusive:
		s.Failures++
		c.Failure = &junitMessage{Message: "inconclusive: " + clean(g.Reason), Type: "GateInconclusive", Text: details}
	default:
		s.Failures++
		c.Failure = &junitMessage{Message: clean(g.Reason), Type: "GateFailed", Text: details}
	}
	s.Cases = append(s.Cases, c)
}
