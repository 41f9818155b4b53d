package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// JSON returns the canonical form of the report: indented by two spaces, fields in the order of their declaration, one final
// newline; equal reports give equal bytes. It fails where a number is not finite (see [Report.Normalize]).
func (r *Report) JSON() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encoding the report: %v", err)
	}
	return buf.Bytes(), nil
}

// Decode reads a report. Because two readers must never see two different reports in the same bytes, it refuses what JSON
// libraries disagree on: a key given twice, a key that differs from a known one only in case, and anything after the document.
// Keys that it does not know are ignored, so that a report of a later 1.x can be read.
func Decode(data []byte) (*Report, error) {
	if err := checkKeys(data); err != nil {
		return nil, fmt.Errorf("reading the report: %v", err)
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("reading the report: %v", err)
	}
	if r.Schema != SchemaURI {
		return nil, fmt.Errorf("reading the report: schema is %q, want %q", r.Schema, SchemaURI)
	}
	if major, _, _ := strings.Cut(r.SchemaVersion, "."); major != "1" {
		return nil, fmt.Errorf("reading the report: schema version is %q, want 1.x", r.SchemaVersion)
	}
	return &r, nil
}

// checkKeys walks the tokens of one JSON document and refuses ambiguous keys.
func checkKeys(data []byte) error {
	known := map[string]string{}
	collectKeys(reflect.TypeFor[Report](), known)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := checkValue(dec, known, 0); err != nil {
		return err
	}
	if dec.InputOffset() < int64(len(bytes.TrimRight(data, " \t\r\n"))) {
		return fmt.Errorf("data after the end of the document at byte %d", dec.InputOffset())
	}
	return nil
}

// maxDepth bounds the nesting of a report; its own types need 6.
const maxDepth = 64

// checkValue consumes one value at the given depth.
func checkValue(dec *json.Decoder, known map[string]string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested more than %d deep at byte %d", maxDepth, dec.InputOffset())
	}
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if delim == '{' {
			tok, err := dec.Token()
			if err != nil {
				return err
			}
			key := tok.(string)
			folded := fold(key)
			if seen[folded] {
				return fmt.Errorf("key %q is given twice before byte %d", key, dec.InputOffset())
			}
			seen[folded] = true
			if want, ok := known[folded]; ok && want != key {
				return fmt.Errorf("key %q before byte %d must be written %q", key, dec.InputOffset(), want)
			}
		}
		if err := checkValue(dec, known, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// collectKeys adds every JSON key of a struct type and of what it contains, by its lower-case form.
func collectKeys(t reflect.Type, keys map[string]string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		collectKeys(t.Elem(), keys)
	case reflect.Struct:
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name == "" {
				continue
			}
			keys[fold(name)] = name
			collectKeys(t.Field(i).Type, keys)
		}
	}
}

// fold maps strings that encoding/json takes for the same key to the same string. That includes the two letters outside ASCII
// that fold to ASCII ones, the long s and the Kelvin sign.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, s)
}
