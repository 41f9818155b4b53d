package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"
)

type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver sarifDriver `json:"driver"`
	} `json:"tool"`
	Automation  sarifAutomation   `json:"automationDetails"`
	Invocations []sarifInvocation `json:"invocations"`
	Results     []sarifResult     `json:"results"`
}

// sarifAutomation tells the runs of one repository apart: a code host keeps the findings of each model by itself.
type sarifAutomation struct {
	ID string `json:"id"`
}

type sarifInvocation struct {
	Successful bool   `json:"executionSuccessful"`
	Start      string `json:"startTimeUtc,omitempty"`
	End        string `json:"endTimeUtc,omitempty"`
}

type sarifDriver struct {
	Name           string      `json:"name"`
	Version        string      `json:"version,omitempty"`
	InformationURI string      `json:"informationUri"`
	Rules          []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID               string    `json:"id"`
	ShortDescription sarifText `json:"shortDescription"`
	FullDescription  sarifText `json:"fullDescription"`
	Help             sarifText `json:"help"`
	Default          struct {
		Level string `json:"level"`
	} `json:"defaultConfiguration"`
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifResult struct {
	RuleID       string            `json:"ruleId"`
	RuleIndex    int               `json:"ruleIndex"`
	Kind         string            `json:"kind"`
	Level        string            `json:"level"`
	Message      sarifText         `json:"message"`
	Locations    []sarifLocation   `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints"`
}

type sarifLocation struct {
	Physical struct {
		Artifact struct {
			URI  string `json:"uri"`
			Base string `json:"uriBaseId"`
		} `json:"artifactLocation"`
		Region struct {
			Line int `json:"startLine"`
		} `json:"region"`
	} `json:"physicalLocation"`
}

// maxSARIF bounds rules and results, far below what code hosts accept (25,000 results, 5,000 of them shown).
const maxSARIF = 1000

// SARIF returns the report as a SARIF 2.1.0 log: one rule per gate, one result per gate that did not pass, and a note per warning.
// The location is the candidate's path within its repository as the options name it, else its file name.
func (r *Report) SARIF(o Options) ([]byte, error) {
	file := repositoryPath(o.Path)
	if file == "" {
		file = plain(r.Candidate.Name)
	}
	run := sarifRun{Results: []sarifResult{}, Automation: sarifAutomation{"lapidary/validate/" + clean(file) + "/"}, Invocations: []sarifInvocation{{Successful: true}}}
	if !r.Started.IsZero() && !r.Finished.IsZero() {
		run.Invocations[0].Start, run.Invocations[0].End = r.Started.UTC().Format(time.RFC3339), r.Finished.UTC().Format(time.RFC3339)
	}
	run.Tool.Driver = sarifDriver{Name: "lapidary", Version: clean(r.Tool.Version), InformationURI: "https://lapidary-ml.github.io", Rules: []sarifRule{}}
	for _, g := range r.urgentGates(maxSARIF) {
		rule := run.addRule("gate/"+clean(g.Name), "Requirement "+clean(g.Name), "The model must hold "+g.requirement()+".", "error")
		level := "error"
		switch g.Verdict {
		case Pass:
			continue
		case Inconclusive:
			// A level other than none goes with kind fail only; viewers hide the rest.
			level = "warning"
		}
		message := fmt.Sprintf("%s is %s: %s. Observed %s, required %s.", clean(g.Name), clean(string(g.Verdict)), clean(g.Reason), g.observation(), g.requirement())
		run.addResult(rule, level, message, file, g.Metric+g.Operator)
	}
	warnings := r.allWarnings()
	if len(warnings) > 0 {
		rule := run.addRule("warning", "Doubt about the measurement", "The measurement is in doubt.", "note")
		for _, w := range warnings[:min(len(warnings), maxSARIF)] {
			run.addResult(rule, "note", clean(w), file, w)
		}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	log := sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}}
	if err := enc.Encode(log); err != nil {
		return nil, fmt.Errorf("encoding the SARIF report: %v", err)
	}
	return buf.Bytes(), nil
}

// repositoryPath returns a path with slashes that stays within the repository, or "".
func repositoryPath(p string) string {
	if p = plain(p); p == "" {
		return ""
	}
	p = path.Clean(p)
	if p == "." || p == ".." || strings.HasPrefix(p, "../") || path.IsAbs(p) {
		return ""
	}
	return p
}

// addRule adds a rule and returns its index.
func (run *sarifRun) addRule(id, short, full, level string) int {
	rule := sarifRule{ID: id, ShortDescription: sarifText{short}, FullDescription: sarifText{full}, Help: sarifText{full + " The report beside this file says how it was measured."}}
	rule.Default.Level = level
	run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
	return len(run.Tool.Driver.Rules) - 1
}

// addResult adds a result whose fingerprint depends on the rule and on what identifies the finding, not on the numbers, so that a
// code host recognises it from one run to the next. A model has no lines; hosts ask for one.
func (run *sarifRun) addResult(rule int, level, message, file, identity string) {
	id := run.Tool.Driver.Rules[rule].ID
	res := sarifResult{RuleID: id, RuleIndex: rule, Kind: "fail", Level: level, Message: sarifText{message}, Locations: make([]sarifLocation, 1)}
	at := &res.Locations[0].Physical
	at.Artifact.URI, at.Artifact.Base = (&url.URL{Path: file}).EscapedPath(), "%SRCROOT%"
	at.Region.Line = 1
	print := fmt.Sprintf("%x", sha256.Sum256([]byte(id+"\x00"+file+"\x00"+identity)))
	res.Fingerprints = map[string]string{"gate/v1": print, "primaryLocationLineHash": print[:16] + ":1"}
	run.Results = append(run.Results, res)
}
