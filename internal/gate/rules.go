package gate

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/rule"
)

// RuleMetric is the metric under which a rule is reported: 1 where it holds and else 0.
const RuleMetric = "rule"

// Rule is a requirement as an expression over the report, in CEL, for what no single metric says.
type Rule struct {
	Name    string `json:"name" yaml:"name"`                           // unique among gates and rules
	CEL     string `json:"cel" yaml:"cel"`                             // of type bool, over the variable report; see package rule
	Message string `json:"message,omitempty" yaml:"message,omitempty"` // what is said where it does not hold
}

// environment is that of all rules. What a report concludes is hidden: a rule is about what was measured.
var environment = sync.OnceValues(func() (*rule.Env, error) {
	return rule.NewEnv("report", reflect.TypeFor[report.Report](), "verdict", "gates", "policy")
})

// maxMessage bounds the message of a rule in bytes.
const maxMessage = 500

func (r Rule) compile() (*rule.Program, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	return env.Compile(r.CEL)
}

func (r Rule) check() error {
	switch {
	case r.Name == "":
		return fmt.Errorf("the rule %q has no name; give it one", r.CEL)
	case strings.TrimSpace(r.CEL) == "":
		return fmt.Errorf("rule %q has no expression; give it one as cel", r.Name)
	case len(r.Message) > maxMessage:
		return fmt.Errorf("rule %q: the message has %d bytes, at most %d are accepted", r.Name, len(r.Message), maxMessage)
	}
	if _, err := r.compile(); err != nil {
		return fmt.Errorf("rule %q: %v", r.Name, err)
	}
	return nil
}

// evaluateRules decides rules on what the report measured.
func evaluateRules(r *report.Report, rules []Rule) []report.Gate {
	if len(rules) == 0 {
		return nil
	}
	measured := *r
	measured.Gates, measured.Policy, measured.Verdict = nil, nil, ""
	document, err := measured.JSON()
	var out []report.Gate
	for _, x := range rules {
		g := report.Gate{Name: x.Name, Metric: RuleMetric, Operator: ">=", Threshold: 1, CEL: x.CEL, Message: x.Message, Verdict: report.Fail}
		if err != nil {
			g.Reason = err.Error()
		} else {
			decideRule(r, x, document, &g)
		}
		out = append(out, g)
	}
	return out
}

// decideRule fills in what a rule comes to. A rule that touches what was not measured fails and says so; it has no value then.
func decideRule(r *report.Report, x Rule, document []byte, g *report.Gate) {
	p, err := x.compile()
	if err != nil {
		g.Reason = err.Error()
		return
	}
	if why := notReal(r); why != "" && (p.Reads("accuracy") || p.Reads("explanation") || p.Reads("data")) {
		g.Reason = why
		return
	}
	holds, err := p.Eval(document)
	var absent *rule.AbsentError
	switch {
	case errors.As(err, &absent):
		g.Reason = missing(r, Metric{Name: absent.Path})
	case err != nil:
		g.Reason = "the rule cannot be evaluated: " + err.Error()
	case holds:
		g.Observed, g.Verdict, g.Reason = report.Num(1), report.Pass, "the rule holds"
	default:
		g.Observed, g.Reason = report.Num(0), "the rule does not hold"
	}
	if x.Message != "" && g.Verdict != report.Pass {
		g.Reason += ": " + x.Message
	}
}

// RulesFromConfig reads a rules section: a list of maps of name, cel and, if wanted, message.
func RulesFromConfig(source string, section []any) (Policy, error) {
	p := Policy{Source: source}
	for i, item := range section {
		fields, ok := item.(map[string]any)
		if !ok {
			return Policy{}, fmt.Errorf("%s: rules[%d]: want a map of name, cel and message", source, i)
		}
		var r Rule
		for _, key := range sortedKeys(fields) {
			text, ok := fields[key].(string)
			if !ok {
				return Policy{}, fmt.Errorf("%s: rules[%d].%s: want a text, have %T", source, i, key, fields[key])
			}
			switch key {
			case "name":
				r.Name = text
			case "cel":
				r.CEL = text
			case "message":
				r.Message = text
			default:
				return Policy{}, fmt.Errorf("%s: rules[%d]: unknown key %q, want name, cel and message", source, i, key)
			}
		}
		p.Rules = append(p.Rules, r)
	}
	if err := p.Check(); err != nil {
		return Policy{}, fmt.Errorf("%s: %v", source, err)
	}
	return p, nil
}
