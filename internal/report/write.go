package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// Options choose how some forms are written.
type Options struct {
	Strict bool   // what is not decided is a failure in JUnit, not a skipped case
	Path   string // the candidate's path from the root of its repository, with slashes, for SARIF; "": its file name
}

// Format is one form of the report.
type Format struct {
	File   string // name of the file in the report's folder
	Render func(*Report, Options) ([]byte, error)
}

// Formats returns every form, in the order in which Write writes them: report.json, which the others only show, comes last, so that a
// folder that holds it is complete.
func Formats() []Format {
	fixed := func(render func(*Report) ([]byte, error)) func(*Report, Options) ([]byte, error) {
		return func(r *Report, _ Options) ([]byte, error) { return render(r) }
	}
	plain := func(render func(*Report) []byte) func(*Report, Options) ([]byte, error) {
		return func(r *Report, _ Options) ([]byte, error) { return render(r), nil }
	}
	return []Format{
		{"report.html", fixed((*Report).HTML)},
		{"report.md", plain((*Report).Markdown)},
		{"junit.xml", (*Report).JUnit},
		{"report.sarif", (*Report).SARIF},
		{"report.csv", fixed((*Report).CSV)},
		{"bench.txt", plain((*Report).Bench)},
		{"bom.cdx.json", fixed((*Report).BOM)},
		{"report.json", fixed((*Report).JSON)},
	}
}

// Write normalizes the report (see [Report.Normalize]) and writes every form of it into dir, which it makes where it is missing.
// All forms are rendered before the first is written, and each file is replaced atomically. It returns the bytes of report.json, which are
// what is to be signed.
func Write(dir string, r *Report, o Options) ([]byte, error) {
	r.Normalize()
	data, err := r.JSON()
	if err != nil {
		return nil, fmt.Errorf("rendering report.json: %v", err)
	}
	return data, WriteAgain(dir, r, data, o)
}

// WriteAgain writes every form of a report that was read from data, which becomes report.json as it is: fields that this version
// does not know stay in it.
func WriteAgain(dir string, r *Report, data []byte, o Options) error {
	formats := Formats()
	rendered := make([][]byte, len(formats))
	for i, f := range formats {
		if f.File == "report.json" {
			rendered[i] = data
			continue
		}
		out, err := f.Render(r, o)
		if err != nil {
			return fmt.Errorf("rendering %s: %v", f.File, err)
		}
		rendered[i] = out
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("making the report's folder: %w", err)
	}
	return replaceAll(dir, formats, rendered)
}

// replaceAll writes the forms in full before it puts the first in place: a full
// disk costs nothing. The report.json of another report goes before, so that at
// no time one lies beside forms that are not its own.
func replaceAll(dir string, formats []Format, rendered [][]byte) error {
	files := make([]*atomicfile.File, len(formats))
	for i, f := range formats {
		file, err := atomicfile.Create(filepath.Join(dir, f.File), 0o666)
		if err != nil {
			return err
		}
		defer file.Abort()
		if _, err := file.Write(rendered[i]); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		files[i] = file
	}
	last := len(formats) - 1
	path := filepath.Join(dir, formats[last].File)
	if old, err := os.ReadFile(path); err == nil && !bytes.Equal(old, rendered[last]) {
		if err := atomicfile.Remove(path); err != nil {
			return fmt.Errorf("replacing %s: %w", path, errors.Unwrap(err))
		}
	}
	for _, f := range files {
		if err := f.Commit(); err != nil {
			return err
		}
	}
	return nil
}
