package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// The exit codes of every command.
const (
	exitOK           = 0
	exitFailed       = 1 // the work failed
	exitUsage        = 2 // wrong usage or configuration
	exitGate         = 3 // a gate failed
	exitInconclusive = 4 // the evidence is too weak to decide
	exitRejected     = 5 // evidence rejected
)

// usageError is a mistake in flags, arguments or configuration.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// verdictError carries the verdict of a command that did its work and whose
// answer is not "pass". Its result is printed already.
type verdictError struct{ verdict report.Verdict }

func (e verdictError) Error() string { return "the verdict is " + string(e.verdict) }

// gateError is a result that does not meet what it is for, and was not written.
type gateError struct{ err error }

func (e gateError) Error() string { return e.err.Error() }
func (e gateError) Unwrap() error { return e.err }

// exitCode maps an error to the exit code.
func exitCode(err error) int {
	var usage usageError
	var verdict verdictError
	var rejected *attest.RejectedError
	var gate gateError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &verdict) && verdict.verdict == report.Inconclusive:
		return exitInconclusive
	case errors.As(err, &verdict), errors.As(err, &gate):
		return exitGate
	case errors.As(err, &rejected):
		return exitRejected
	case errors.As(err, &usage):
		return exitUsage
	}
	return exitFailed
}

// failure is the JSON document of a command that failed.
type failure struct {
	Schema string `json:"schema"`
	Error  string `json:"error"`
	Code   int    `json:"code"`
}

// lineBreak is what several errors have between them, and parsers in their own ones.
var lineBreak = regexp.MustCompile(`:?\s*\n\s*`)

// complain reports err to the user, once.
func complain(a *app, err error) {
	var verdict verdictError
	if errors.As(err, &verdict) {
		return
	}
	message := lineBreak.ReplaceAllString(strings.TrimSpace(err.Error()), "; ")
	if errors.Is(err, context.Canceled) {
		message = "interrupted; nothing was written"
	}
	var late session.TooLong
	var full session.OutOfMemory
	switch {
	case errors.As(err, &full) && full.Watched:
		message += "; to let it have all that there is, give --max-worker-memory 0"
	case !errors.As(err, &late):
	case late.Loading:
		message += "; where the model loads at all, give it more with --max-run-time"
	default:
		message += "; where the model ends at all, give it more with --max-run-time, or smaller inputs"
	}
	if a.jsonFailure {
		writeJSON(a.env.stdout, failure{schemaURI("error-v1"), message, exitCode(err)})
	}
	fmt.Fprintf(a.env.stderr, "lapidary: error: %s\n", message)
}

// schemaURI names one of the JSON Schemas in docs/schemas.
func schemaURI(name string) string {
	return "https://lapidary-ml.github.io/schemas/" + name + ".json"
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
