// Package rule decides true or false about a JSON document by an expression in CEL, the Common Expression Language
// (github.com/cel-expr/cel-spec), over the fields of a Go type.
//
// The environment is closed: an expression sees one variable, the document, and the standard functions without those of time. It
// cannot read a clock, a file or the network, it has no loops but the bounded macros, and what it may cost is limited, so that an
// expression out of somebody else's evidence is safe to evaluate and has the same value everywhere.
//
// It is typed by the json tags of the Go type: a field that does not exist is an error when the expression is compiled. A
// field that exists and that the document lacks is an error when it is touched, never a zero. CEL's || and && take the side that is
// known where it decides, so that the logic has three values: true, false, and not known.
package rule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
)

// Limits of an expression.
const (
	maxSource = 4096      // characters
	maxDepth  = 64        // of nesting
	maxNodes  = 4096      // after macros are expanded
	maxRegexp = 1000      // instructions of a compiled regular expression
	maxCost   = 2_000_000 // units of CEL's cost model: a comparison is 1
)

// timeFunctions are the standard functions that this environment does not have, and dyn, which would switch the types off.
var timeFunctions = []string{
	"timestamp", "duration", "getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek",
	"getHours", "getMinutes", "getSeconds", "getMilliseconds", "dyn",
}

// Env compiles expressions over documents of one type.
type Env struct {
	variable string
	schema   *schema
	env      *cel.Env
}

// NewEnv returns the environment in which variable is a document of the struct type t. The hidden fields of t do not exist in it.
func NewEnv(variable string, t reflect.Type, hidden ...string) (*Env, error) {
	s, err := schemaOf(variable, t, hidden)
	if err != nil {
		return nil, err
	}
	without := env.NewLibrarySubset()
	for _, name := range timeFunctions {
		without.AddExcludedFunctions(env.NewFunction(name))
	}
	e, err := cel.NewCustomEnv(
		cel.CustomTypeProvider(s), cel.CustomTypeAdapter(s),
		cel.StdLib(cel.StdLibSubset(without)),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(maxSource), cel.ParserRecursionLimit(maxDepth),
		cel.ExpressionNodeLimit(maxNodes), cel.RegexProgramSizeLimit(maxRegexp), cel.ASTValidators(cel.ValidateRegexLiterals()),
		cel.Variable(variable, s.root.typ),
	)
	if err != nil {
		return nil, fmt.Errorf("making the environment of rules: %v", err)
	}
	return &Env{variable, s, e}, nil
}

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	env     *Env
	program cel.Program
	reads   map[string]bool
}

// Compile checks an expression, which must be of type bool and look at the document.
func (e *Env) Compile(expression string) (*Program, error) {
	checked, issues := e.env.Compile(expression)
	if err := issues.Err(); err != nil {
		return nil, issue(issues)
	}
	if t := checked.OutputType(); t != types.BoolType {
		return nil, fmt.Errorf("the expression is of type %s, want bool: what must hold", t)
	}
	p := &Program{env: e, reads: e.readsOf(checked.NativeRep())}
	if len(p.reads) == 0 {
		return nil, fmt.Errorf("the expression looks at no field of %s, so it would say the same of any", e.variable)
	}
	var err error
	p.program, err = e.env.Program(checked, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptTrackCost))
	if err != nil {
		return nil, fmt.Errorf("planning the expression: %v", err)
	}
	return p, nil
}

// issue returns the first fault of an expression in one line.
func issue(issues *cel.Issues) error {
	if list := issues.Errors(); len(list) > 0 {
		e := list[0]
		text := strings.Join(strings.Fields(e.Message), " ")
		text = strings.TrimSuffix(text, " (in container '')")
		if e.Location.Line() > 1 {
			return fmt.Errorf("line %d, column %d: %s", e.Location.Line(), e.Location.Column()+1, text)
		}
		return fmt.Errorf("column %d: %s", e.Location.Column()+1, text)
	}
	return errors.New(strings.Join(strings.Fields(issues.String()), " "))
}

// readsOf returns the fields of the document itself that an expression names anywhere, also only to ask whether they are there.
func (e *Env) readsOf(a *ast.AST) map[string]bool {
	reads := map[string]bool{}
	for _, n := range ast.MatchDescendants(ast.NavigateAST(a), ast.KindMatcher(ast.SelectKind)) {
		sel := n.AsSelect()
		if t := a.GetType(sel.Operand().ID()); t != nil && t.TypeName() == e.schema.root.typ.TypeName() {
			reads[sel.FieldName()] = true
		}
	}
	return reads
}

// Reads reports whether the expression names the field of the document itself.
func (p *Program) Reads(field string) bool { return p.reads[field] }

// AbsentError says that an expression touched a field that the document does not have.
type AbsentError struct {
	Path string // such as "accuracy.ci95"
}

func (e *AbsentError) Error() string { return "the document has no " + e.Path }

// Eval evaluates the expression on a JSON document. The error is an [*AbsentError] where the value is not known because of
// a field that the document lacks.
func (p *Program) Eval(document []byte) (bool, error) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var tree map[string]any
	if err := d.Decode(&tree); err != nil {
		return false, fmt.Errorf("reading the document: %v", err)
	}
	v, _, err := p.program.Eval(map[string]any{p.env.variable: &object{of: p.env.schema.root, fields: tree}})
	if err != nil {
		var absent *AbsentError
		if errors.As(err, &absent) {
			return false, absent
		}
		return false, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	b, ok := v.Value().(bool)
	if !ok {
		return false, fmt.Errorf("the value is %v, not true or false", v)
	}
	return b, nil
}
