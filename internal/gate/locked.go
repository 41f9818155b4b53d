package gate

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/report"
)

const (
	// LockedPredicateType is the in-toto predicate type of a locked policy.
	LockedPredicateType = "https://lapidary-ml.github.io/attestations/policy/v1"

	// LockedSchemaURI names the JSON Schema of the predicate; the schema itself is docs/schemas/policy-v1.json.
	LockedSchemaURI = "https://lapidary-ml.github.io/schemas/policy-v1.json"

	// LockedVersion is the version of its fields.
	LockedVersion = "1.0"
)

// ReasonPolicy says that evidence is not what a locked policy asks for, or that the locked policy itself is not to be used.
const ReasonPolicy attest.Reason = "policy"

// Locked is a policy that was signed before anything was measured: what will be required, on which data, with which seed. Whoever signs
// it cannot choose the limits after seeing the numbers. (The idea of pre-registration; in-toto/attestation#587 proposes it for evaluations.)
type Locked struct {
	Schema        string       `json:"schema"`                // URI of the JSON Schema of this document
	SchemaVersion string       `json:"schemaVersion"`         // version of the fields, major.minor
	Name          string       `json:"name"`                  // what people call the policy
	Gates         []Gate       `json:"gates"`                 // requirements on metrics, in the order in which they are reported
	Rules         []Rule       `json:"rules,omitempty"`       // requirements as expressions
	Data          DataLock     `json:"data"`                  // the data that must be validated on
	Seed          string       `json:"seed" schema:"decimal"` // seed of everything random in the measurement, in decimal
	Baseline      *ModelLock   `json:"baseline,omitempty"`    // the model to be compared with; absent where any may be
	Requires      Requirements `json:"requires"`              // on how it is measured
	Registered    time.Time    `json:"registered_at"`         // when the policy was signed, UTC
	Expires       *time.Time   `json:"expires_at,omitempty"`  // from when on it is no longer to be used, UTC
	Tool          string       `json:"tool,omitempty"`        // program and version that made this document
}

// DataLock identifies validation data by content.
type DataLock struct {
	Name    string `json:"name,omitempty"`         // base name of the file or folder, for people
	Digest  string `json:"digest" schema:"sha256"` // digest over the rows in order, labels included, as a report states it
	Samples int    `json:"samples" schema:"count"` // number of rows
}

// ModelLock identifies a model file by content.
type ModelLock struct {
	Name   string `json:"name"`                   // base name, for people
	SHA256 string `json:"sha256" schema:"sha256"` // digest of the model file
}

// Requirements are on the measurement, not on what it finds.
type Requirements struct {
	MinSamples int      `json:"min_samples,omitempty" schema:"count"` // least number of validation rows
	MinPairs   int      `json:"min_pairs,omitempty" schema:"count"`   // least number of interleaved pairs, where latency is measured
	Devices    []string `json:"devices,omitempty"`                    // devices that may be measured on, such as cpu or cuda; any where absent
	Engines    []string `json:"engines,omitempty"`                    // engines that may be used; any where absent
}

// Policy returns what is required.
func (l *Locked) Policy() Policy {
	return Policy{Source: "policy " + l.Name, Gates: l.Gates, Rules: l.Rules}
}

// Check returns an error where the document cannot be a policy that decides anything.
func (l *Locked) Check() error {
	switch {
	case l.Schema != LockedSchemaURI:
		return fmt.Errorf("the schema is %q, want %q", l.Schema, LockedSchemaURI)
	case !strings.HasPrefix(l.SchemaVersion, "1."):
		return fmt.Errorf("the schema version is %q, want 1.x; a later lapidary may read it", l.SchemaVersion)
	case l.Name == "":
		return fmt.Errorf("the policy has no name; give it one")
	case l.Policy().Empty():
		return fmt.Errorf("the policy requires nothing; give it gates or rules")
	case l.Data.Samples <= 0 || len(l.Data.Digest) != 64:
		return fmt.Errorf("the policy names no data")
	case l.Registered.IsZero():
		return fmt.Errorf("the policy does not say when it was registered")
	case l.Expires != nil && !l.Expires.After(l.Registered):
		return fmt.Errorf("the policy expires %s, before it was registered", l.Expires.Format(time.RFC3339))
	case l.Requires.MinSamples < 0 || l.Requires.MinPairs < 0:
		return fmt.Errorf("the least numbers that the policy requires must not be negative")
	case l.Requires.MinSamples > l.Data.Samples:
		return fmt.Errorf("the policy requires at least %d samples, but its data has %d", l.Requires.MinSamples, l.Data.Samples)
	}
	if _, err := strconv.ParseUint(l.Seed, 10, 64); err != nil {
		return fmt.Errorf("the policy's seed is %q, want a number", l.Seed)
	}
	return l.Policy().Check()
}

// Statement returns the policy as what is to be signed. Its subject is the data.
func (l *Locked) Statement() (attest.Statement, error) {
	if err := l.Check(); err != nil {
		return attest.Statement{}, err
	}
	predicate, err := json.Marshal(l)
	if err != nil {
		return attest.Statement{}, fmt.Errorf("encoding the policy: %v", err)
	}
	name := l.Data.Name
	if name == "" {
		name = "data"
	}
	return attest.Statement{
		PredicateType: LockedPredicateType,
		Subjects:      []attest.Subject{{Name: name, SHA256: l.Data.Digest}},
		Predicate:     predicate,
	}, nil
}

// Signed is a locked policy as somebody signed it.
type Signed struct {
	Locked
	SHA256 string // of the predicate, byte by byte
	Key    string // fingerprint of the key; "" where nobody's signature was checked
}

// ReadLocked reads a policy out of verified evidence. The error is an [*attest.RejectedError].
func ReadLocked(v *attest.Verified) (*Signed, error) {
	s, err := Unverified(v.Statement())
	if err != nil {
		return nil, err
	}
	s.Key = v.Key().Fingerprint()
	return s, nil
}

// Unverified reads a policy out of a statement whose signature nobody checked: to look at it, never to judge by it.
func Unverified(st attest.Statement) (*Signed, error) {
	if st.PredicateType != LockedPredicateType {
		return nil, reject(attest.ReasonSchema, "it is of type %q, want the policy type %q", st.PredicateType, LockedPredicateType)
	}
	s := &Signed{SHA256: fmt.Sprintf("%x", sha256.Sum256(st.Predicate))}
	// A field that is not known here may be a requirement: it must not be passed over.
	if err := attest.UnmarshalStrict(st.Predicate, &s.Locked, attest.JSONOptions{}); err != nil {
		return nil, reject(attest.ReasonSchema, "the policy cannot be read: %v", err)
	}
	if err := s.Check(); err != nil {
		return nil, reject(attest.ReasonSchema, "the policy cannot be used: %v", err)
	}
	if len(st.Subjects) != 1 || st.Subjects[0].SHA256 != s.Data.Digest {
		return nil, reject(attest.ReasonDigest, "the policy is signed for other data than it names")
	}
	return s, nil
}

// Reference returns how a report names the policy.
func (s *Signed) Reference() *report.LockedPolicy {
	return &report.LockedPolicy{Name: s.Name, SHA256: s.SHA256, Key: s.Key, Registered: s.Registered, Expires: s.Expires}
}

// Valid returns an [*attest.RejectedError] where the policy must not be used at that time.
func (s *Signed) Valid(now time.Time) error {
	switch {
	case s.Expires != nil && !now.Before(*s.Expires):
		return reject(ReasonPolicy, "the policy %q expired %s", s.Name, s.Expires.Format(time.RFC3339))
	case now.Before(s.Registered):
		return reject(ReasonPolicy, "the policy %q was registered %s, which is yet to come by the clock of this machine", s.Name, s.Registered.Format(time.RFC3339))
	}
	return nil
}

// Covers returns an [*attest.RejectedError] where what the report measured is not what the policy was locked for. It looks at the
// measurement only, not at gates.
func (s *Signed) Covers(r *report.Report) error {
	fail := func(format string, args ...any) error {
		return reject(ReasonPolicy, "the policy %q is for %s", s.Name, fmt.Sprintf(format, args...))
	}
	req := s.Requires
	device, _, _ := strings.Cut(r.Environment.Device, ":")
	switch {
	case r.Data == nil || r.Data.Origin != report.OriginFiles:
		return fail("data of the user's own, and the report has none")
	case r.Data.Digest != s.Data.Digest:
		return fail("the data %s, and the report is on %s", s.Data.Digest, r.Data.Digest)
	case r.Data.Samples != s.Data.Samples:
		return fail("%d samples, and the report is on %d", s.Data.Samples, r.Data.Samples)
	case r.Seed != s.Seed:
		return fail("the seed %s, and the report has %s", s.Seed, r.Seed)
	case s.Baseline != nil && r.Baseline.SHA256 != s.Baseline.SHA256:
		return fail("the baseline %s (%s), and the report is against %s", s.Baseline.Name, s.Baseline.SHA256, r.Baseline.SHA256)
	case r.Started.Before(s.Registered):
		return reject(ReasonPolicy, "the policy %q was registered %s, after the measurement had begun (%s): limits may not be chosen after seeing the numbers",
			s.Name, s.Registered.Format(time.RFC3339), r.Started.Format(time.RFC3339))
	case s.Expires != nil && !r.Started.Before(*s.Expires):
		return reject(ReasonPolicy, "the policy %q expired %s, before the measurement began (%s)", s.Name, s.Expires.Format(time.RFC3339), r.Started.Format(time.RFC3339))
	case r.Data.Samples < req.MinSamples:
		return fail("at least %d samples, and the report is on %d", req.MinSamples, r.Data.Samples)
	case r.Latency != nil && r.Latency.Pairs < req.MinPairs:
		return fail("at least %d pairs of timings, and the report has %d", req.MinPairs, r.Latency.Pairs)
	case len(req.Devices) > 0 && !slices.Contains(req.Devices, r.Environment.Device) && !slices.Contains(req.Devices, device):
		return fail("the devices %s, and the report is of %s", strings.Join(req.Devices, ", "), r.Environment.Device)
	case len(req.Engines) > 0 && !slices.Contains(req.Engines, r.Environment.Runtime.Name):
		return fail("the engines %s, and the report is of %s", strings.Join(req.Engines, ", "), r.Environment.Runtime.Name)
	}
	return nil
}

// Matches returns an [*attest.RejectedError] where the report was not judged by exactly this policy: another one, a loosened one, or none.
func (s *Signed) Matches(r *report.Report) error {
	switch {
	case r.Policy == nil || r.Policy.Locked == nil:
		return reject(ReasonPolicy, "the report was judged under no locked policy, want %q (%s)", s.Name, s.SHA256)
	case r.Policy.Locked.SHA256 != s.SHA256:
		return reject(ReasonPolicy, "the report was judged under the policy %q (%s), want %q (%s)", r.Policy.Locked.Name, r.Policy.Locked.SHA256, s.Name, s.SHA256)
	case !sameReference(r.Policy.Locked, s.Reference()):
		return reject(ReasonPolicy, "the report describes the policy %q otherwise than it is", s.Name)
	}
	if name := difference(s.Policy(), r.Gates); name != "" {
		return reject(ReasonPolicy, "the report was not judged by the gates of the policy %q: %s", s.Name, name)
	}
	return s.Covers(r)
}

func sameReference(a, b *report.LockedPolicy) bool {
	expires := a.Expires == nil && b.Expires == nil || a.Expires != nil && b.Expires != nil && a.Expires.Equal(*b.Expires)
	return expires && a.Name == b.Name && a.Key == b.Key && a.Registered.Equal(b.Registered)
}

// difference names the first requirement that recorded gates and the policy do not share; "" where they are the same.
func difference(p Policy, gates []report.Gate) string {
	q, err := policyOf(gates)
	if err != nil {
		return err.Error()
	}
	return p.Differs(q)
}

// Differs says in which requirement q is not p; "" where they require the same in the same order.
func (p Policy) Differs(q Policy) string {
	for i, g := range p.Gates {
		switch {
		case i >= len(q.Gates):
			return fmt.Sprintf("the gate %q is missing", g.Name)
		case q.Gates[i] != g:
			return fmt.Sprintf("the gate %q is %s, the policy has %s", q.Gates[i].Name, q.Gates[i], g)
		}
	}
	for i, r := range p.Rules {
		switch {
		case i >= len(q.Rules):
			return fmt.Sprintf("the rule %q is missing", r.Name)
		case q.Rules[i] != r:
			return fmt.Sprintf("the rule %q is not that of the policy", r.Name)
		}
	}
	if n := len(p.Gates); len(q.Gates) > n {
		return fmt.Sprintf("the gate %q is none of the policy", q.Gates[n].Name)
	}
	if n := len(p.Rules); len(q.Rules) > n {
		return fmt.Sprintf("the rule %q is none of the policy", q.Rules[n].Name)
	}
	return ""
}

// String writes what a gate requires for people.
func (g Gate) String() string {
	m, _ := lookup(g.Metric)
	return fmt.Sprintf("%s %s %s", g.Metric, g.Operator, report.FormatLimit(m.Unit, g.Threshold))
}

// Texts writes the requirements for people, one each.
func (r Requirements) Texts() []string {
	var out []string
	if r.MinSamples > 0 {
		out = append(out, fmt.Sprintf("at least %d samples", r.MinSamples))
	}
	if r.MinPairs > 0 {
		out = append(out, fmt.Sprintf("at least %d pairs of timings", r.MinPairs))
	}
	if len(r.Devices) > 0 {
		out = append(out, "device "+strings.Join(r.Devices, " or "))
	}
	if len(r.Engines) > 0 {
		out = append(out, "engine "+strings.Join(r.Engines, " or "))
	}
	return out
}

// Refuse returns an [*attest.RejectedError] of what a locked policy does not permit.
func Refuse(format string, args ...any) error { return reject(ReasonPolicy, format, args...) }

// Asks returns an error where the caller asks for a gate or rule that is not the policy's own.
func (s *Signed) Asks(own Policy) error {
	for _, g := range own.Gates {
		i := slices.IndexFunc(s.Gates, func(o Gate) bool { return o.Name == g.Name })
		switch {
		case i < 0:
			return fmt.Errorf("the gate %q is none of the locked policy %q; leave it out", g.Name, s.Name)
		case s.Gates[i] != g:
			return fmt.Errorf("the gate %q is asked for as %s, but the policy %q is locked with %s; leave it out", g.Name, g, s.Name, s.Gates[i])
		}
	}
	for _, r := range own.Rules {
		if !slices.Contains(s.Rules, r) {
			return fmt.Errorf("the rule %q is none of the locked policy %q; leave it out", r.Name, s.Name)
		}
	}
	return nil
}
