package report

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// Format is one form of the report.
type Format struct {
	File   string // name of the file in the report's folder
	Render func(*Report) ([]byte, error)
}

// Formats returns every form, in the order in which Write writes them: report.json, which the others only show, comes last, so that a
// folder that holds it is complete.
func Formats() []Format {
	plain := func(render func(*Report) []byte) func(*Report) ([]byte, error) {
		return func(r *Report) ([]byte, error) { return render(r), nil }
	}
	return []Format{
		{"report.html", (*Report).HTML},
		{"report.md", plain((*Report).Markdown)},
		{"junit.xml", (*Report).JUnit},
		{"report.sarif", (*Report).SARIF},
		{"bench.txt", plain((*Report).Bench)},
		{"bom.cdx.json", (*Report).BOM},
		{"report.json", (*Report).JSON},
	}
}

// Write normalizes the report (see [Report.Normalize]) and writes every form of it into dir, which it makes where it is missing.
// All forms are rendered before the first is written, and each file is replaced atomically. It returns the bytes of report.json, which are
// what is to be signed.
func Write(dir string, r *Report) ([]byte, error) {
	r.Normalize()
	formats := Formats()
	rendered := make([][]byte, len(formats))
	for i, f := range formats {
		data, err := f.Render(r)
		if err != nil {
			return nil, fmt.Errorf("rendering %s: %v", f.File, err)
		}
		rendered[i] = data
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("making the report's folder: %w", err)
	}
	for i, f := range formats {
		if err := atomicfile.WriteFile(filepath.Join(dir, f.File), rendered[i], 0o666); err != nil {
			return nil, fmt.Errorf("writing %s: %w", f.File, err)
		}
	}
	return rendered[len(rendered)-1], nil
}
