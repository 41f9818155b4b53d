package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// Begun is a command that runs. Its mark lies beside the log, so that where it is killed the next command can say that it began.
type Begun struct {
	log   string
	time  time.Time
	since time.Time // the same, by a clock that nobody sets
	mark  *atomicfile.Mark
}

// NoMarkError says that a command that is killed would leave no entry.
type NoMarkError struct{ err error }

func (e *NoMarkError) Error() string { return e.err.Error() }
func (e *NoMarkError) Unwrap() error { return e.err }

// Begin says that a command begins, with what is known of it, and appends an entry for each earlier one that began and was killed before it
// ended; these are returned. Where no mark can be made beside the log the error is a [*NoMarkError], and the command may begin none the less.
func Begin(path string, e Entry) (*Begun, []Entry, error) {
	f, err := open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if _, _, _, err := tail(f, path); err != nil {
		return nil, nil, err
	}
	found, err := noteUnfinished(f, path)
	if err != nil {
		return nil, found, err
	}
	now := time.Now()
	b := &Begun{log: path, time: now.UTC().Round(0), since: now}
	e.Began = &b.time
	e.clean()
	line, err := json.Marshal(e)
	if err != nil {
		return nil, found, fmt.Errorf("writing the audit log %s: %v", path, err)
	}
	if b.mark, err = atomicfile.MakeMark(markPrefix(path), append(line, '\n')); err != nil {
		return b, found, &NoMarkError{fmt.Errorf("beside the audit log %s nothing can be written, so that a command that is killed leaves no entry: %w", path, err)}
	}
	return b, found, nil
}

// End appends the command's entry, and with that it has ended.
func (b *Begun) End(e Entry) (Entry, error) {
	e.Began = &b.time
	if e.Time.Before(b.time) { // the clock was set back meanwhile
		e.Time = b.time.Add(time.Since(b.since))
	}
	e, err := Append(b.log, e)
	if b.mark != nil && err == nil {
		b.mark.Remove() // where that fails, the next command finds the entry and removes it
	}
	return e, err
}

// markPrefix is where the marks of a log begin, by whatever name it is called.
func markPrefix(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lapidary-begun")
}

// noteUnfinished appends an entry for every mark whose process is gone and which has none. The log is locked, so that only one command does.
func noteUnfinished(f atomicfile.InPlace, path string) ([]Entry, error) {
	marks, err := atomicfile.Marks(markPrefix(path))
	if err != nil {
		return nil, nil // a folder that cannot be read holds none of ours
	}
	var found []Entry
	for _, name := range marks {
		m, err := atomicfile.TakeAbandoned(name)
		if err != nil || m == nil {
			continue // it runs, or belongs to somebody else
		}
		e, err := unfinished(f, path, m)
		if e != nil {
			found = append(found, *e)
		}
		if err != nil {
			return found, err
		}
		m.Remove()
	}
	return found, nil
}

// unfinished appends the entry of an abandoned mark. It is nil where the command had not yet begun, since the mark is not whole, or where it
// had ended and only its mark was left.
func unfinished(f atomicfile.InPlace, path string, m *atomicfile.Mark) (*Entry, error) {
	text, err := m.Read(maxLine)
	if err != nil || !bytes.HasSuffix(text, []byte("\n")) {
		return nil, nil
	}
	var e Entry
	if json.Unmarshal(text, &e) != nil || e.Began == nil {
		return nil, nil
	}
	if ended, err := ended(f, &e); ended || err != nil {
		return nil, err
	}
	e.Time, e.Exit, e.Outcome = time.Now(), unknownExit, Unfinished
	e, err = appendTo(f, path, e)
	return &e, err
}

// ended reports whether the log has an entry of the command that began as e did.
func ended(f atomicfile.InPlace, e *Entry) (bool, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 64<<10)
	for {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, failed(f.Name(), err)
		}
		other, err := parse(bytes.TrimSuffix(line, []byte("\n")))
		if err == nil && other.Began != nil && other.Began.Equal(*e.Began) && other.Command == e.Command {
			return true, nil
		}
	}
}
