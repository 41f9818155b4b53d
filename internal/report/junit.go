package report

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"time"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"`
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
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// JUnit returns the gates as JUnit XML: one suite per section of the report, one case per gate. An inconclusive gate is a skipped case.
func (r *Report) JUnit() ([]byte, error) {
	total := junitSuites{Name: "lapidary validate", Time: seconds(r.Finished.Sub(r.Started))}
	for _, g := range r.Gates {
		section, _, _ := strings.Cut(clean(g.Metric), ".")
		i := slices.IndexFunc(total.Suites, func(s junitSuite) bool { return s.Name == section })
		if i < 0 {
			i = len(total.Suites)
			total.Suites = append(total.Suites, junitSuite{
				Name: section, Time: seconds(0), Timestamp: r.Started.UTC().Format("2006-01-02T15:04:05"),
				Properties: []junitProperty{
					{"baseline", clean(r.Baseline.Name)}, {"baseline.sha256", clean(r.Baseline.SHA256)},
					{"candidate", clean(r.Candidate.Name)}, {"candidate.sha256", clean(r.Candidate.SHA256)},
				},
			})
		}
		s := &total.Suites[i]
		c := junitCase{Class: "validate." + section, Name: clean(g.Name), Time: seconds(0)}
		s.Tests++
		switch g.Verdict {
		case Pass:
		case Inconclusive:
			s.Skipped++
			c.Skipped = &junitMessage{Message: "inconclusive: " + clean(g.Reason)}
		default:
			s.Failures++
			c.Failure = &junitMessage{Message: clean(g.Reason), Type: "GateFailed", Text: "requires " + g.requirement() + ", observed " + g.observation()}
		}
		s.Cases = append(s.Cases, c)
	}
	for _, s := range total.Suites {
		total.Tests += s.Tests
		total.Failures += s.Failures
		total.Skipped += s.Skipped
	}
	out, err := xml.MarshalIndent(total, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the JUnit report: %v", err)
	}
	return append(append([]byte(xml.Header), out...), '\n'), nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", max(d, 0).Seconds()) }
