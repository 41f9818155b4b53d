package attest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

const statementType = "https://in-toto.io/Statement/v1"

// Subject is a file that a statement is about.
type Subject struct {
	// Name is the model's file name, or the path of one of its external data
	// files relative to the model's folder, with slashes. Statements of others
	// may have any name.
	Name string
	// SHA256 is the digest of the file's content, as 64 lower-case hex digits.
	SHA256 string
}

// Statement is an in-toto Statement v1.
type Statement struct {
	// PredicateType is the URI of the predicate's schema.
	PredicateType string
	// Subjects has at least one element, each with a name of its own.
	Subjects []Subject
	// Predicate is a JSON object. Its bytes are signed, and come back from Verify,
	// as they are, but for white space around the object.
	Predicate json.RawMessage
}

// wireStatement is the form of a statement in JSON.
type wireStatement struct {
	Type          string          `json:"_type"`
	Subject       []wireSubject   `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

type wireSubject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// marshal returns the payload to sign. The predicate stands in it byte by byte,
// which json.Marshal would not do.
func (st Statement) marshal() ([]byte, error) {
	predicate := bytes.TrimSpace(st.Predicate)
	if err := checkObject(predicate); err != nil {
		return nil, fmt.Errorf("making a statement: predicate: %v", err)
	}
	if err := st.check(); err != nil {
		return nil, fmt.Errorf("making a statement: %v", err)
	}
	w := wireStatement{Type: statementType, PredicateType: st.PredicateType, Predicate: json.RawMessage("0")}
	for _, s := range st.Subjects {
		w.Subject = append(w.Subject, wireSubject{Name: s.Name, Digest: map[string]string{"sha256": s.SHA256}})
	}
	head, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("making a statement: %v", err)
	}
	head = bytes.TrimSuffix(head, []byte("0}"))
	payload := append(append(head, predicate...), '}')
	if _, err := parseStatement(payload); err != nil {
		return nil, fmt.Errorf("making a statement: %v", err)
	}
	return payload, nil
}

// parseStatement reads a payload whose signature has been verified.
func parseStatement(payload []byte) (Statement, error) {
	var w wireStatement
	if err := UnmarshalStrict(payload, &w, JSONOptions{AllowUnknown: true}); err != nil {
		return Statement{}, err
	}
	if w.Type != statementType {
		return Statement{}, fmt.Errorf("_type is %q, want %q", w.Type, statementType)
	}
	if err := checkObject(w.Predicate); err != nil {
		return Statement{}, fmt.Errorf("predicate: %v", err)
	}
	st := Statement{PredicateType: w.PredicateType, Predicate: w.Predicate}
	for _, s := range w.Subject {
		st.Subjects = append(st.Subjects, Subject{Name: s.Name, SHA256: s.Digest["sha256"]})
	}
	if err := st.check(); err != nil {
		return Statement{}, err
	}
	return st, nil
}

// check looks at everything but the predicate.
func (st Statement) check() error {
	if st.PredicateType == "" {
		return fmt.Errorf("predicateType is missing")
	}
	if len(st.Subjects) == 0 {
		return fmt.Errorf("it has no subject")
	}
	return checkFiles(st.Subjects)
}

// checkFiles checks names, their uniqueness and the form of the digests.
func checkFiles(files []Subject) error {
	seen := map[string]bool{}
	for i, s := range files {
		switch {
		case s.Name == "":
			return fmt.Errorf("subject %d has no name", i)
		case !utf8.ValidString(s.Name):
			return fmt.Errorf("subject %d: its name %q is not valid UTF-8", i, s.Name)
		case seen[s.Name]:
			return fmt.Errorf("subject %q appears twice", s.Name)
		case !isDigest(s.SHA256):
			return fmt.Errorf("subject %q: its sha256 digest is %q, want 64 lower-case hex digits", s.Name, s.SHA256)
		}
		seen[s.Name] = true
	}
	return nil
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && hex.EncodeToString(b) == s
}

// checkObject checks that data is one JSON object without repeated fields.
func checkObject(data []byte) error {
	if len(data) == 0 || data[0] != '{' {
		return fmt.Errorf("want a JSON object")
	}
	var fields map[string]json.RawMessage
	return UnmarshalStrict(data, &fields, JSONOptions{})
}
