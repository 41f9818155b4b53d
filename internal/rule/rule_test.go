package rule

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Value *float64    `json:"value,omitempty"`
	CI    *[2]float64 `json:"ci,omitempty"`
	Name  string      `json:"name"`
}

type outer struct {
	Count    int       `json:"count"`
	Flag     bool      `json:"flag,omitempty"`
	At       time.Time `json:"at"`
	Inner    *inner    `json:"inner,omitempty"`
	List     []inner   `json:"list,omitempty"`
	Secret   string    `json:"secret"`
	Untagged int
}

func testEnv(t testing.TB) *Env {
	t.Helper()
	e, err := NewEnv("doc", reflect.TypeFor[outer](), "secret")
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const full = `{"count": 5, "flag": true, "at": "2026-01-02T03:04:05Z", "inner": {"value": 0.5, "ci": [0.4, 0.6], "name": "x"},
 "list": [{"name": "a", "value": 1}, {"name": "b", "value": 2}, {"name": "c"}], "unknown": 1, "secret": "s"}`

func TestEval(t *testing.T) {
	tests := []struct {
		expr, doc string
		want      bool
		err       string // of the evaluation
		absent    string // path of an AbsentError
	}{
		{"doc.count == 5", full, true, "", ""},
		{"doc.count > 5.5", full, false, "", ""},
		{"doc.flag && doc.inner.value < 1", full, true, "", ""},
		{"doc.inner.ci[1] <= 0.6", full, true, "", ""},
		{"doc.inner.ci[2] <= 0.6", full, false, "index out of bounds", ""},
		{"doc.list.exists(x, x.name == 'b')", full, true, "", ""},
		{"doc.list.filter(x, has(x.value)).all(x, x.value >= 1.0)", full, true, "", ""},
		{"doc.list.all(x, x.value >= 1.0)", full, false, "", "list[2].value"},
		{"size(doc.list) == 3", full, true, "", ""},
		{"doc.at.startsWith('2026-')", full, true, "", ""},
		{"has(doc.inner)", full, true, "", ""},
		{"has(doc.inner)", `{}`, false, "", ""},
		{"has(doc.inner.value)", `{}`, false, "", ""},
		{"doc.inner.value > 0.0", `{}`, false, "", "inner"},
		{"doc.inner.value > 0.0", `{"inner": {}}`, false, "", "inner.value"},
		{"doc.inner.value > 0.0", `{"inner": {"value": null}}`, false, "", "inner.value"},
		{"doc.count >= 0", `{}`, false, "", "count"},
		{"doc.inner.value > 0.0 || doc.count == 1", `{"count": 1}`, true, "", ""},       // three values: one side decides
		{"doc.inner.value > 0.0 || doc.count == 2", `{"count": 1}`, false, "", "inner"}, // or does not
		{"doc.inner.value > 0.0 && doc.count == 2", `{"count": 1}`, false, "", ""},
		{"doc.count > 0", `{"count": "five"}`, false, "count is not of the type int", ""},
		{"doc.count > 0", `{"count": 1.5}`, false, "not a whole number", ""},
		{"doc.inner.value > 0.0", `{"inner": {"value": 1e999}}`, false, "not a number that can be held", ""},
		{"doc.list.size() > 0", `{"list": [1]}`, false, "list[0] is not of the type", ""},
		{"doc.count > 0", `[]`, false, "reading the document", ""},
		{"doc.count / 0 == 1", full, false, "division by zero", ""},
	}
	e := testEnv(t)
	for _, tt := range tests {
		p, err := e.Compile(tt.expr)
		if err != nil {
			t.Errorf("%s: %v", tt.expr, err)
			continue
		}
		got, err := p.Eval([]byte(tt.doc))
		var absent *AbsentError
		switch {
		case tt.absent != "":
			if !errors.As(err, &absent) || absent.Path != tt.absent {
				t.Errorf("%s on %s: %v, %v; want %s to be absent", tt.expr, tt.doc, got, err, tt.absent)
			}
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) || errors.As(err, &absent) {
				t.Errorf("%s on %s: %v, %v; want the error %q", tt.expr, tt.doc, got, err, tt.err)
			}
		case err != nil || got != tt.want:
			t.Errorf("%s on %s: %v, %v; want %v", tt.expr, tt.doc, got, err, tt.want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	tests := []struct{ expr, err string }{
		{"", "mismatched input"},
		{"doc.count ==", "column 13"},
		{"doc.count\n == \n 'a'", "line 2, column 2"},
		{"doc.cuont == 5", "undefined field 'cuont'"},
		{"doc.secret == ''", "undefined field 'secret'"},
		{"doc.Untagged == 1", "undefined field 'Untagged'"},
		{"report.count == 5", "undeclared reference to 'report'"},
		{"doc.count + 1", "of type int, want bool"},
		{"doc.inner.value == 'a'", "no matching overload"},
		{"true", "looks at no field"},
		{"doc == doc", "looks at no field"},
		{"timestamp(doc.at) < timestamp('2030-01-01T00:00:00Z')", "undeclared reference to 'timestamp'"},
		{"duration('1s') > duration('0s')", "undeclared reference to 'duration'"},
		{"now() > doc.at", "undeclared reference to 'now'"},
		{"dyn(doc).anything == 1", "undeclared reference to 'dyn'"},
		{"google.protobuf.Timestamp{seconds: doc.count} == google.protobuf.Timestamp{}", "undeclared reference"},
		{"doc.at.matches('(a{900}){900}')", "column"},
		{"doc.count == " + strings.Repeat("1 + ", 2000) + "1", "exceeds"},
		{strings.Repeat("(", 100) + "doc.flag" + strings.Repeat(")", 100), "recursion"},
	}
	e := testEnv(t)
	for _, tt := range tests {
		_, err := e.Compile(tt.expr)
		if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60s: %v, want %q", tt.expr, err, tt.err)
		}
	}
}

// TestCostLimit gives an expression whose work grows with the fifth power of a list.
func TestCostLimit(t *testing.T) {
	doc := `{"list": [` + strings.Repeat(`{"name": "a"},`, 99) + `{"name": "b"}]}`
	p, err := testEnv(t).Compile("doc.list.all(a, doc.list.all(b, doc.list.all(c, doc.list.all(d, a.name + b.name + c.name + d.name != ''))))")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Eval([]byte(doc)); err == nil || !strings.Contains(err.Error(), "cost") {
		t.Errorf("%v, want the cost limit", err)
	}
}

func TestReads(t *testing.T) {
	p, err := testEnv(t).Compile("[doc].all(d, !has(d.inner) || d.count > 1)")
	if err != nil {
		t.Fatal(err)
	}
	if !p.Reads("inner") || !p.Reads("count") || p.Reads("list") || p.Reads("value") {
		t.Errorf("reads %v, want count and inner", p.reads)
	}
}

// FuzzCompile holds that nothing that is written as a rule panics, and that the value is never both an error and true.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"doc.count == 5", "doc.list.exists(x, x.name == 'b')", "has(doc.inner.value)", "doc.at.matches('a*')", "(((", "doc.list[0].ci[1] < 1.0 ? true : doc.flag"} {
		f.Add(s)
	}
	e := testEnv(f)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := e.Compile(s)
		if err != nil {
			return
		}
		if ok, err := p.Eval([]byte(full)); ok && err != nil {
			t.Errorf("true and %v", err)
		}
	})
}
