// Package report holds what a validation found, as plain values, and writes it in every form that a reader may want:
// canonical JSON (the signed predicate), HTML, Markdown, JUnit, SARIF, the Go benchmark format and a terminal table.
//
// The package knows nothing of ONNX, engines or statistics. Whoever measures fills a [Report]; a section that was not
// measured stays nil and is then absent from every form, so that a gate on it fails instead of reading a zero.
package report

import "time"

const (
	// SchemaURI names the JSON Schema of report.json; the schema itself is docs/schemas/report-v1.json.
	SchemaURI = "https://lapidary-ml.github.io/schemas/report-v1.json"

	// SchemaVersion is the version of the fields below. A reader of 1.x must accept every 1.y and ignore fields it does not know.
	SchemaVersion = "1.0"

	// PredicateType is the in-toto predicate type under which a report is signed.
	PredicateType = "https://lapidary-ml.github.io/attestations/onnx-validation/v1"
)

// Verdict is the three-valued answer of a gate and of a whole report.
type Verdict string

const (
	Pass         Verdict = "pass"         // the evidence shows that the requirement holds
	Fail         Verdict = "fail"         // the evidence shows that the requirement does not hold, or there is no evidence at all
	Inconclusive Verdict = "inconclusive" // the evidence is too weak to decide
)

// A Report is the outcome of comparing a candidate model with its baseline.
//
// Counts and sizes are JSON numbers below 2^53; seeds are decimal strings, because another reader's number type may
// not hold 64 bits. No field ever holds NaN or an infinity: such a value is absent (see [Report.Normalize]).
type Report struct {
	Schema        string       `json:"schema"`                // URI of the JSON Schema of this document
	SchemaVersion string       `json:"schemaVersion"`         // version of the fields, major.minor
	Tool          Tool         `json:"tool"`                  // the program that measured
	Seed          string       `json:"seed" schema:"decimal"` // seed of everything random in the measurement, in decimal
	Started       time.Time    `json:"started"`               // when the measurement began, UTC
	Finished      time.Time    `json:"finished"`              // when the measurement ended, UTC
	Verdict       Verdict      `json:"verdict"`               // fail if any gate failed, else inconclusive if any is, else pass
	Baseline      Model        `json:"baseline"`              // the model that is in use
	Candidate     Model        `json:"candidate"`             // the model that would replace it
	Data          *Data        `json:"data,omitempty"`        // the validation data; digests and counts only
	Environment   Environment  `json:"environment"`           // the machine and the runtime
	Accuracy      *Accuracy    `json:"accuracy,omitempty"`    // paired comparison of predictions
	Latency       *Latency     `json:"latency,omitempty"`     // paired comparison of run times
	Explanation   *Explanation `json:"explanation,omitempty"` // comparison of what the two models look at
	Skipped       []Skip       `json:"skipped,omitempty"`     // sections that were not measured, and why
	Warnings      []string     `json:"warnings,omitempty"`    // doubts about the measurement, one sentence each
	Policy        *Policy      `json:"policy,omitempty"`      // where the gates came from
	Gates         []Gate       `json:"gates"`                 // one entry per requirement, in the policy's order
}

// Tool identifies the program that made the report.
type Tool struct {
	Name    string `json:"name"`                             // program name
	Version string `json:"version"`                          // release or module version
	SHA256  string `json:"sha256,omitempty" schema:"sha256"` // digest of the executable file
	Command string `json:"command,omitempty"`                // the command line that made the report, without secrets
}

// Skip says that a section was left out and why.
type Skip struct {
	Section string `json:"section"` // name of the absent field: data, accuracy, latency or explanation, or a part such as latency.energy
	Reason  string `json:"reason"`  // one sentence
}

// Policy says where the gates of a report came from, so that loosening one is visible.
type Policy struct {
	Source string        `json:"source"`                 // "default", "flags", or the name of the configuration file or of the locked policy
	SHA256 string        `json:"sha256" schema:"sha256"` // digest of the canonical JSON of the gates' names, metrics, operators and thresholds, and of the rules where there are any
	Locked *LockedPolicy `json:"locked,omitempty"`       // the policy that was signed before the measurement; absent where none was
}

// LockedPolicy names the signed policy that a measurement was bound to before it began.
type LockedPolicy struct {
	Name       string     `json:"name"`                   // as the policy calls itself
	SHA256     string     `json:"sha256" schema:"sha256"` // digest of the signed policy: of the predicate, byte by byte
	Key        string     `json:"key"`                    // fingerprint of the key that signed it
	Registered time.Time  `json:"registered_at"`          // when it was signed, as it states itself, UTC
	Expires    *time.Time `json:"expires_at,omitempty"`   // when it ends, UTC; absent where it does not
}

// Gate is one requirement and its outcome.
type Gate struct {
	Name      string    `json:"name"`                        // unique within the report
	Metric    string    `json:"metric"`                      // path into the report, a derived metric such as bytes_ratio, or "rule" for an expression, which is 1 where it holds and else 0
	Unit      string    `json:"unit,omitempty"`              // unit of threshold and observed: fraction, difference (of fractions), ratio, dB, nats, ms or bytes; absent for a plain number
	Operator  string    `json:"operator" schema:"<=|>=|<|>"` // one of <=, >=, <, >
	Threshold float64   `json:"threshold"`                   // the limit, in the metric's unit
	Observed  *float64  `json:"observed,omitempty"`          // point estimate; absent when the metric is missing
	CI95      *Interval `json:"ci95,omitempty"`              // 95 % confidence interval; absent when the metric is exact
	Verdict   Verdict   `json:"verdict"`                     // of this gate alone
	Reason    string    `json:"reason"`                      // one sentence that explains the verdict
	CEL       string    `json:"cel,omitempty"`               // the expression of a rule, in CEL over this report
	Message   string    `json:"message,omitempty"`           // what the policy says where a rule does not hold
}

// Interval is a closed interval [lo, hi].
type Interval [2]float64
