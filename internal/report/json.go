package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// JSON returns the canonical form of the report: indented by two spaces, fields in the order of their declaration, one final
// newline; equal reports give equal bytes. It fails where a number is not finite (see [Report.Normalize]).
func (r *Report) JSON() ([]byte, error) {
	out := *r
	if out.Gates == nil {
		out.Gates = []Gate{}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		return nil, fmt.Errorf("encoding the report: %v", err)
	}
	return buf.Bytes(), nil
}

// CheckSchema returns an error where the report does not say that it is one, or is of a major version that this code does not know.
func (r *Report) CheckSchema() error {
	if r.Schema != SchemaURI {
		return fmt.Errorf("the schema is %q, want %q", r.Schema, SchemaURI)
	}
	if major, _, _ := strings.Cut(r.SchemaVersion, "."); major != "1" {
		return fmt.Errorf("the schema version is %q, want 1.x; a later lapidary may read it", r.SchemaVersion)
	}
	return nil
}
