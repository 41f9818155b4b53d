// Package audit keeps a log of what was done, one JSON line per command, to which lines are only ever appended.
//
// Every entry holds the hash of the one before it and its own, so that changing, leaving out, moving or inserting an entry breaks the chain.
// What a chain alone cannot show is that its end was cut off, or that all of it was written anew: for that, keep the head somewhere else and
// have [Verify] expect it.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Entry is one line of the log.
type Entry struct {
	Seq       int64      `json:"seq"`                  // 1 for the first
	Time      time.Time  `json:"time"`                 // when the command ended, UTC; where that is not known, when it was found that it had
	Tool      string     `json:"tool"`                 // program and version
	Command   string     `json:"command"`              // such as "validate" or "policy lock"
	Args      []string   `json:"args"`                 // what it was given, and every flag that is not at its default; no secrets
	Inputs    []File     `json:"inputs,omitempty"`     // what it read, as it was before
	Outputs   []File     `json:"outputs,omitempty"`    // what it wrote
	Verdict   string     `json:"verdict,omitempty"`    // of commands that judge: pass, fail or inconclusive
	Exit      int        `json:"exit"`                 // its exit code; −1 where that is not known
	Outcome   string     `json:"outcome,omitempty"`    // interrupted (by a signal) or unfinished (it was killed, or the machine stopped); absent of one that came to its end
	Began     *time.Time `json:"began,omitempty"`      // when the command began its work, UTC
	Error     string     `json:"error,omitempty"`      // what it said where it failed
	Recovered *Torn      `json:"recovered,omitempty"`  // an incomplete line that was found at the end and cut off
	Prev      string     `json:"prev" schema:"sha256"` // hash of the entry before; zeros for the first
	Hash      string     `json:"hash" schema:"sha256"` // SHA-256 of this line, with an empty hash
}

// Outcomes of commands that did not come to their end.
const (
	Interrupted = "interrupted" // a signal ended it, and it said so itself
	Unfinished  = "unfinished"  // it began and never said that it ended: the next command did
)

// unknownExit is the exit code of a command that did not live to have one.
const unknownExit = -1

// File is a file by content.
type File struct {
	Name   string `json:"name"`                   // as it was given
	SHA256 string `json:"sha256" schema:"sha256"` // of the content; of a folder, of the names and digests of its files in order
	Bytes  int64  `json:"bytes" schema:"count"`   // size; of a folder, of all its files
}

// Torn is what a writer left behind that died in the middle of a line.
type Torn struct {
	Bytes  int    `json:"bytes" schema:"count"`   // length
	SHA256 string `json:"sha256" schema:"sha256"` // of what was cut off
}

// genesis is what the first entry follows.
var genesis = strings.Repeat("0", 64)

// maxLine bounds an entry in bytes.
const maxLine = 4 << 20

// BrokenError says that the log is not what was written into it.
type BrokenError struct {
	Path   string
	Line   int64 // counted from 1; 0 where it is about the whole log
	Detail string
}

func (e *BrokenError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Path, e.Detail)
	}
	return fmt.Sprintf("%s, line %d: %s", e.Path, e.Line, e.Detail)
}

// seal sets the entry's hash and returns its line, without the newline.
func (e *Entry) seal() ([]byte, error) {
	e.Hash = ""
	open, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	e.Hash = fmt.Sprintf("%x", sha256.Sum256(open))
	line, err := json.Marshal(e)
	if err == nil && len(line) >= maxLine {
		err = fmt.Errorf("an entry of %d bytes is too long", len(line))
	}
	return line, err
}

// parse reads a line, which must be byte by byte what seal makes of its content.
func parse(line []byte) (*Entry, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	e := new(Entry)
	if err := d.Decode(e); err != nil {
		return nil, fmt.Errorf("it is not an entry: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is something after the entry")
	}
	stated := e.Hash
	again, err := e.seal()
	if err != nil {
		return nil, err
	}
	if stated != e.Hash || !bytes.Equal(line, again) {
		return nil, fmt.Errorf("it was changed: its content has the hash %s, it states %q", e.Hash, stated)
	}
	return e, nil
}

// clean makes every text valid UTF-8, which JSON needs to come back as it was.
func (e *Entry) clean() {
	fix := func(s *string) { *s = strings.ToValidUTF8(*s, "\uFFFD") }
	fix(&e.Error)
	e.Time = e.Time.UTC().Round(0)
	if e.Began != nil {
		began := e.Began.UTC().Round(0)
		e.Began = &began
	}
	if e.Args == nil {
		e.Args = []string{}
	}
	for i := range e.Args {
		fix(&e.Args[i])
	}
	for _, list := range [][]File{e.Inputs, e.Outputs} {
		for i := range list {
			fix(&list[i].Name)
		}
	}
}
