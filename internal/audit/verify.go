package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// Summary is what a whole and unbroken log amounts to.
type Summary struct {
	Entries  int64  // how many
	Head     string // hash of the last; zeros where there is none
	Last     *Entry // nil where there is none
	Since    int64  // entries after the expected head; 0 where none was expected
	Recovers int64  // entries that cut off an incomplete line before them

	Interrupted int64 // commands that a signal ended
	Unfinished  int64 // commands that began and did not end
}

// Verify reads the whole log and checks every link. With expect, the hash of some entry must be that: a head that was noted
// elsewhere shows that nothing before it was cut off or replaced since. The error is a [*BrokenError] where the log was changed.
func Verify(path, expect string) (*Summary, error) {
	s := &Summary{Head: genesis}
	found := expect == "" || expect == genesis
	err := each(path, func(e *Entry, line int64) error {
		switch {
		case e.Seq != s.Entries+1:
			return &BrokenError{path, line, fmt.Sprintf("it is entry %d, want %d: entries are missing, repeated or moved", e.Seq, s.Entries+1)}
		case e.Prev != s.Head:
			return &BrokenError{path, line, fmt.Sprintf("it follows the entry %s, but that before it is %s", e.Prev, s.Head)}
		}
		s.Entries, s.Head, s.Last = e.Seq, e.Hash, e
		s.count(e)
		switch {
		case expect != "" && found:
			s.Since++
		case e.Hash == expect:
			found = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, &BrokenError{path, 0, fmt.Sprintf("none of its %d entries is the expected head %s: its end was cut off, or all of it was written anew", s.Entries, expect)}
	}
	return s, nil
}

func (s *Summary) count(e *Entry) {
	if e.Recovered != nil {
		s.Recovers++
	}
	switch e.Outcome {
	case Interrupted:
		s.Interrupted++
	case Unfinished:
		s.Unfinished++
	}
}

// Read calls yield for every entry. It checks each entry by itself, not the chain.
func Read(path string, yield func(*Entry) error) error {
	return each(path, func(e *Entry, _ int64) error { return yield(e) })
}

// each reads the log line by line while no other process writes to it.
func each(path string, yield func(e *Entry, line int64) error) error {
	f, _, err := readfile.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := atomicfile.LockShared(f); err != nil {
		return fmt.Errorf("reading the audit log %s: %w", path, err)
	}
	r := bufio.NewReaderSize(f, 64<<10)
	var disk *fs.PathError
	for n := int64(1); ; n++ {
		line, err := readLine(r)
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, io.EOF):
			return &BrokenError{path, n, "it is incomplete: a write was cut short; the next command that writes to the log records that and cuts it off"}
		case errors.As(err, &disk): // which says nothing of the log
			return fmt.Errorf("reading the audit log %s: %w", path, disk.Err)
		case err != nil:
			return &BrokenError{path, n, err.Error()}
		}
		e, err := parse(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			return &BrokenError{path, n, err.Error()}
		}
		if err := yield(e, n); err != nil {
			return err
		}
	}
}

// readLine reads up to and with the next newline.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > maxLine {
			return nil, fmt.Errorf("it is longer than an entry can be")
		}
	}
}
