package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/audit"
	"github.com/spf13/cobra"
)

func (a *app) auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show and check the log of what was done here",
		Long: `With --audit-log FILE (also LAPIDARY_AUDIT_LOG, and audit-log or audit in the
configuration) every command that writes or judges appends a line to FILE: command,
arguments without secrets, digests of what it read and wrote, verdict and time. Each
line holds the hash of the one before, so that none can be changed or taken out
unnoticed. Keep the head somewhere else, to notice that the end was cut off too. A
command that is killed is noted by the next one.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return usagef("audit does nothing by itself; use show, verify or head")
		},
	}
	for _, sub := range []*cobra.Command{a.auditShow(), a.auditVerify(), a.auditHead()} {
		sub.Args = asUsage(cobra.MaximumNArgs(1))
		c.AddCommand(sub)
	}
	return c
}

// logFile returns the log that a command is about.
func (a *app) logFile(args []string) (string, error) {
	switch {
	case len(args) > 0:
		return args[0], nil
	case a.auditLog != "":
		return a.auditLog, nil
	}
	return "", usagef("no log; name its file, or set one with --audit-log")
}

// brokenLog makes a broken chain evidence that is rejected.
func brokenLog(path string, err error) error {
	var broken *audit.BrokenError
	if errors.As(err, &broken) {
		return &attest.RejectedError{Reason: attest.ReasonDigest, Detail: broken.Error()}
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("reading the audit log %s: %w", path, pe.Err)
	}
	return err
}

func (a *app) auditShow() *cobra.Command {
	var last int
	c := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print the entries of the log",
		RunE: func(c *cobra.Command, args []string) error {
			path, err := a.logFile(args)
			if err != nil {
				return err
			}
			if last < 0 {
				return usagef("--last must not be negative")
			}
			entries := []*audit.Entry{}
			err = audit.Read(path, func(e *audit.Entry) error {
				if entries = append(entries, e); last > 0 && len(entries) > last {
					entries = entries[1:]
				}
				return nil
			})
			if err != nil {
				return brokenLog(path, err)
			}
			return a.printEntries(entries)
		},
	}
	c.Flags().IntVar(&last, "last", 0, "print only that many of the last entries; 0: all")
	return c
}

func (a *app) printEntries(entries []*audit.Entry) error {
	if a.json() {
		return writeJSON(a.env.stdout, struct {
			Schema  string         `json:"schema"`
			Entries []*audit.Entry `json:"entries"`
		}{schemaURI("audit-show-v1"), entries})
	}
	w := a.env.stdout
	for _, e := range entries {
		fmt.Fprintf(w, "%d  %s  %s  %s\n", e.Seq, e.Time.Format(time.RFC3339), e.Command, outcomeOf(e))
		if len(e.Args) > 0 {
			words := make([]string, len(e.Args))
			for i, x := range e.Args {
				words[i] = quoted(x)
			}
			fmt.Fprintf(w, "   %s\n", strings.Join(words, " "))
		}
		for _, f := range e.Inputs {
			fmt.Fprintf(w, "   read  sha256:%s %s\n", f.SHA256, f.Name)
		}
		for _, f := range e.Outputs {
			fmt.Fprintf(w, "   wrote sha256:%s %s\n", f.SHA256, f.Name)
		}
		if e.Error != "" {
			fmt.Fprintf(w, "   error: %s\n", strings.Join(strings.Fields(e.Error), " "))
		}
		if e.Recovered != nil {
			fmt.Fprintf(w, "   before it, %d bytes of an incomplete line were cut off (sha256:%s)\n", e.Recovered.Bytes, e.Recovered.SHA256)
		}
	}
	return nil
}

// outcomeOf says how a command ended.
func outcomeOf(e *audit.Entry) string {
	outcome := e.Verdict
	switch {
	case e.Outcome == audit.Unfinished && e.Began != nil:
		return fmt.Sprintf("did not come to its end, began %s", e.Began.Format(time.RFC3339))
	case e.Outcome != "":
		outcome = e.Outcome
	case outcome == "":
		outcome = map[bool]string{true: "done", false: "failed"}[e.Exit == 0]
	}
	return fmt.Sprintf("%s (exit code %d)", outcome, e.Exit)
}

// auditChecked is the JSON document of audit verify and audit head.
type auditChecked struct {
	Schema   string     `json:"schema"`
	File     string     `json:"file"`
	Entries  int64      `json:"entries"`
	Head     string     `json:"head"` // hash of the last entry; zeros where there is none
	Last     *time.Time `json:"last,omitempty"`
	Since    int64      `json:"since_expected,omitempty"` // entries after the expected head
	Recovers int64      `json:"recovered,omitempty"`      // incomplete lines that were cut off

	Interrupted int64 `json:"interrupted,omitempty"` // commands that a signal ended
	Unfinished  int64 `json:"unfinished,omitempty"`  // commands that began and did not end
}

func (a *app) auditVerify() *cobra.Command {
	var expect string
	c := &cobra.Command{
		Use:     "verify [FILE]",
		Short:   "Check that no entry of the log was changed, moved or taken out",
		Example: "  lapidary audit verify audit.jsonl --expect-head 9f2c…",
		RunE: func(c *cobra.Command, args []string) error {
			path, err := a.logFile(args)
			if err != nil {
				return err
			}
			if expect = strings.ToLower(strings.TrimPrefix(expect, "sha256:")); expect != "" && (len(expect) != 64 || strings.Trim(expect, "0123456789abcdef") != "") {
				return usagef("--expect-head %q is no head; want the 64 hexadecimal digits that audit head prints", expect)
			}
			s, err := audit.Verify(path, expect)
			if err != nil {
				return brokenLog(path, err)
			}
			return a.printChecked(path, s, expect != "", false)
		},
	}
	c.Flags().StringVar(&expect, "expect-head", "", "`HASH` that was the head once: no entry up to it may be missing or other")
	return c
}

func (a *app) auditHead() *cobra.Command {
	return &cobra.Command{
		Use:   "head [FILE]",
		Short: "Check the log and print the hash of its last entry, to be kept elsewhere",
		RunE: func(c *cobra.Command, args []string) error {
			path, err := a.logFile(args)
			if err != nil {
				return err
			}
			s, err := audit.Verify(path, "")
			if err != nil {
				return brokenLog(path, err)
			}
			return a.printChecked(path, s, false, true)
		},
	}
}

func (a *app) printChecked(path string, s *audit.Summary, expected, headOnly bool) error {
	if a.json() {
		d := auditChecked{schemaURI("audit-verify-v1"), path, s.Entries, s.Head, nil, s.Since, s.Recovers, s.Interrupted, s.Unfinished}
		if s.Last != nil {
			d.Last = &s.Last.Time
		}
		return writeJSON(a.env.stdout, d)
	}
	w := a.env.stdout
	if headOnly {
		fmt.Fprintln(w, s.Head)
		return nil
	}
	fmt.Fprintf(w, "%s: %d entries, none changed\n", path, s.Entries)
	if s.Last != nil {
		fmt.Fprintf(w, "  last  %s, %s\n", s.Last.Time.Format(time.RFC3339), s.Last.Command)
	}
	fmt.Fprintf(w, "  head  %s\n", s.Head)
	if s.Recovers > 0 {
		fmt.Fprintf(w, "  %d incomplete lines were cut off and recorded\n", s.Recovers)
	}
	if s.Interrupted+s.Unfinished > 0 {
		fmt.Fprintf(w, "  %d commands were interrupted, %d began and did not come to their end\n", s.Interrupted, s.Unfinished)
	}
	if expected {
		fmt.Fprintf(w, "  the expected head is there, %d entries before the end\n", s.Since)
	} else {
		fmt.Fprintf(w, "  whether the end was cut off is not known; keep the head elsewhere and give it with --expect-head\n")
	}
	return nil
}
