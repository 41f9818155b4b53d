package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/audit"
	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/lapidary-ml/lapidary/internal/validate"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// onlyShow are the commands that neither write nor judge, and are not logged.
var onlyShow = []string{"", "help", "completion", "man", "doctor", "audit", "audit show", "audit verify", "audit head",
	"policy", "policy show", "runtime", "runtime list", "runtime which", "version"}

// commandName returns a command without the program's name, such as "policy lock".
func commandName(c *cobra.Command) string {
	_, name, _ := strings.Cut(c.CommandPath(), " ")
	return name
}

// record is the log entry of the command that runs, as far as it is known.
type record struct {
	entry   audit.Entry
	begun   *audit.Begun
	written []string // files that it says it wrote
	unnamed bool     // leave out names
}

// beginRecord prepares the log entry, with the digests of what the command reads:
// it may replace them. It errs where the log cannot be written, before any work. What
// an earlier command began and did not end is in the log from here on.
func (a *app) beginRecord(c *cobra.Command, args []string) error {
	name := commandName(c)
	if a.auditLog == "" || strings.HasPrefix(name, "completion ") {
		return nil
	}
	if err := audit.Ready(a.auditLog); err != nil {
		return err
	}
	a.record = &record{entry: audit.Entry{
		Tool: "lapidary " + version(), Command: name, Args: append(withoutSecrets(args), givenFlags(c)...), Inputs: fileDigests(c.Context(), inputsOf(c, args)),
	}}
	if f := c.Flags().Lookup("redact"); f != nil && f.Value.String() == "true" {
		a.record.unnamed = true
	}
	return a.beginWork()
}

// beginWork leaves a mark beside the log for as long as the command works.
func (a *app) beginWork() error {
	e := a.record.entry
	if a.record.unnamed {
		forget(&e)
	}
	begun, unfinished, err := audit.Begin(a.auditLog, e)
	for _, u := range unfinished {
		a.note("a command that began at %s did not come to its end: %s, now entry %d of %s", u.Began.Format(time.RFC3339), u.Command, u.Seq, a.auditLog)
	}
	var unmarked *audit.NoMarkError
	if errors.As(err, &unmarked) {
		a.warn("%v", err)
		err = nil
	}
	if err != nil {
		a.record = nil // it did not begin
		return err
	}
	a.record.begun = begun
	return nil
}

// forget takes out of an entry what a redacted report does not say either: names of
// files and values of options. The digests stay.
func forget(e *audit.Entry) {
	var args []string
	for _, s := range e.Args {
		if flag, _, ok := strings.Cut(s, "="); ok && strings.HasPrefix(s, "--") {
			args = append(args, flag)
		}
	}
	e.Args = args
	for _, list := range [][]audit.File{e.Inputs, e.Outputs} {
		for i := range list {
			list[i].Name = "redacted"
		}
	}
	if e.Error != "" {
		e.Error = "redacted"
	}
}

// quotedPart is what a message quotes, which may be a value of somebody's data.
var quotedPart = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// wrote notes files that the command wrote, for the log.
func (a *app) wrote(paths ...string) {
	if a.record != nil {
		a.record.written = append(a.record.written, paths...)
	}
}

// judged notes the verdict of a command that judges, for the log.
func (a *app) judged(verdict string) {
	if a.record != nil {
		a.record.entry.Verdict = verdict
	}
}

// endRecord appends the entry. The command's own error comes first.
func (a *app) endRecord(ctx context.Context, failure error) error {
	if a.record == nil {
		return failure
	}
	e := a.record.entry
	e.Time, e.Exit = time.Now(), exitCode(failure)
	var verdict verdictError
	if failure != nil && !errors.As(failure, &verdict) {
		e.Error = quotedPart.ReplaceAllString(failure.Error(), `"…"`)
		if ctx.Err() != nil {
			e.Outcome, e.Error = audit.Interrupted, context.Cause(ctx).Error()
		}
	}
	e.Outputs = fileDigests(context.WithoutCancel(ctx), a.record.written)
	if a.record.unnamed {
		forget(&e)
	}
	if _, err := a.record.begun.End(e); err != nil {
		return errors.Join(failure, err)
	}
	return failure
}

// notLogged are flags that say nothing of what was done.
var notLogged = []string{"audit-log", "progress", "quiet", "verbose", "format", "help"}

// givenFlags lists the flags that are not at their default, wherever they were set.
func givenFlags(c *cobra.Command) []string {
	var out []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(notLogged, f.Name) && f.Value.String() != f.DefValue {
			out = append(out, "--"+f.Name+"="+strings.Trim(f.Value.String(), "[]"))
		}
	})
	return withoutSecrets(out)
}

// secrets are values that stand in the text of an argument: pins in the URI of a
// key, and passwords in addresses.
var secrets = regexp.MustCompile(`(?i)((?:pin-value|pin|password|passphrase|secret|token-value)=)[^&;,\s]+|(://[^/:@\s]*:)[^/@\s]+@`)

// attributes are the parts of the address of a key on a token.
var attributes = regexp.MustCompile(`[^;&?]+`)

// withoutBare takes out of the address of a key on a token what is no NAME=VALUE, as a PIN put there by mistake is none.
func withoutBare(s string) string {
	before, address, ok := strings.Cut(s, "pkcs11:")
	if !ok {
		return s
	}
	return before + "pkcs11:" + attributes.ReplaceAllStringFunc(address, func(a string) string {
		if strings.Contains(a, "=") {
			return a
		}
		return "…"
	})
}

func withoutSecrets(args []string) []string {
	out := make([]string, len(args))
	for i, s := range args {
		out[i] = secrets.ReplaceAllStringFunc(withoutBare(s), func(m string) string {
			if at := strings.Index(m, "="); at >= 0 && !strings.HasPrefix(m, "://") {
				return m[:at+1] + "…"
			}
			return m[:strings.LastIndex(m, ":")+1] + "…@"
		})
	}
	return out
}

// readFlags are the flags that name files which a command reads. Private keys are
// not among them: not even a digest of one belongs into a log.
var readFlags = []string{"config", "data", "calibration-data", "calibrate-data", "policy", "policy-key", "model", "baseline", "against", "preprocess", "statistics"}

// inputsOf returns the files that the command is given to read and that are there.
func inputsOf(c *cobra.Command, args []string) []string {
	paths := slices.Clone(args)
	if name := commandName(c); name == "keygen" {
		paths = nil
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(readFlags, f.Name) && (f.Name != "key" || !strings.HasSuffix(commandName(c), "verify")) {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			paths = append(paths, list.GetSlice()...)
		} else {
			paths = append(paths, strings.Split(f.Value.String(), ",")...)
		}
	})
	return paths
}

// fileDigests returns the digests of the files that are there, models with the data
// files that they read.
func fileDigests(ctx context.Context, paths []string) []audit.File {
	var out []audit.File
	seen := map[string]bool{}
	add := func(path string) {
		if path == "" || seen[path] {
			return
		}
		seen[path] = true
		if f, err := digestFile(ctx, path); err == nil {
			out = append(out, f)
		}
	}
	for _, path := range paths {
		add(path)
		if filepath.Ext(path) != ".onnx" {
			continue
		}
		external, err := validate.ExternalFiles(path)
		if err != nil {
			continue // the command says what is wrong with it
		}
		for _, name := range external {
			add(filepath.Join(filepath.Dir(path), filepath.FromSlash(name)))
		}
	}
	return out
}

func digestFile(ctx context.Context, path string) (audit.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return audit.File{}, err
	}
	h := sha256.New()
	f := audit.File{Name: path}
	switch {
	case info.IsDir():
		f.Bytes, err = hashFolder(ctx, h, path)
	case info.Mode().IsRegular():
		f.Bytes, err = hashInto(ctx, h, path)
	default:
		err = errors.New("neither a file nor a folder")
	}
	f.SHA256 = fmt.Sprintf("%x", h.Sum(nil))
	return f, err
}

// hashFolder writes a line of name and digest for each file below dir.
func hashFolder(ctx context.Context, w io.Writer, dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		h := sha256.New()
		n, err := hashInto(ctx, h, path)
		if err != nil {
			return err
		}
		total += n
		rel, err := filepath.Rel(dir, path)
		fmt.Fprintf(w, "%x %q\n", h.Sum(nil), filepath.ToSlash(rel))
		return err
	})
	return total, err
}

func hashInto(ctx context.Context, w io.Writer, path string) (int64, error) {
	f, _, err := readfile.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return io.Copy(w, f)
}
