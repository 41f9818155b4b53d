package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
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
	Results []sarifResult `json:"results"`
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
	Default          struct {
		Level string `json:"level"`
	} `json:"defaultConfiguration"`
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifResult struct {
	RuleID       string            `json:"ruleId"`
	Kind         string            `json:"kind"`
	Level        string            `json:"level"`
	Message      sarifText         `json:"message"`
	Locations    []sarifLocation   `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints"`
}

type sarifLocation struct {
	Physical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
	} `json:"physicalLocation"`
}

// maxSARIF bounds rules and results, far below what code hosts accept.
const maxSARIF = 1000

// SARIF returns the report as a SARIF 2.1.0 log: one rule per gate, one result per gate that did not pass, and a note per warning.
// The location is the candidate's file name.
func (r *Report) SARIF() ([]byte, error) {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "lapidary", Version: clean(r.Tool.Version), InformationURI: "https://lapidary-ml.github.io", Rules: []sarifRule{}}
	for _, g := range r.Gates[:min(len(r.Gates), maxSARIF)] {
		id := "gate/" + clean(g.Name)
		run.addRule(id, "The model must hold "+g.requirement()+".", "error")
		kind, level := "fail", "error"
		switch g.Verdict {
		case Pass:
			continue
		case Inconclusive:
			// A level other than none goes with kind fail only; viewers hide the rest.
			level = "warning"
		}
		message := fmt.Sprintf("%s is %s: %s.", clean(g.Name), clean(string(g.Verdict)), clean(g.Reason))
		run.addResult(id, kind, level, message, r.Candidate.Name, g.Metric+g.Operator)
	}
	warnings := r.allWarnings()
	if len(warnings) > 0 {
		run.addRule("warning", "The measurement is in doubt.", "note")
	}
	for _, w := range warnings[:min(len(warnings), maxSARIF)] {
		run.addResult("warning", "fail", "note", clean(w), r.Candidate.Name, w)
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

func (run *sarifRun) addRule(id, text, level string) {
	rule := sarifRule{ID: id, ShortDescription: sarifText{text}}
	rule.Default.Level = level
	run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
}

// addResult adds a result whose fingerprint depends on the rule and on what identifies the finding, not on the numbers, so that a
// code host recognises it from one run to the next.
func (run *sarifRun) addResult(rule, kind, level, message, file, identity string) {
	res := sarifResult{RuleID: rule, Kind: kind, Level: level, Message: sarifText{message}, Locations: make([]sarifLocation, 1)}
	res.Locations[0].Physical.Artifact.URI = (&url.URL{Path: clean(file)}).EscapedPath()
	res.Fingerprints = map[string]string{"gate/v1": fmt.Sprintf("%x", sha256.Sum256([]byte(rule+"\x00"+file+"\x00"+identity)))}
	run.Results = append(run.Results, res)
}
