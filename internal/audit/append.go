package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// Append adds an entry to the log at path, which it makes (mode 0600) where it is missing, and returns the entry with its number and hashes. It
// holds the file's lock meanwhile, so that commands that run at once do not mix, and returns once the entry is on the disk.
//
// An incomplete last line, of a writer that died, is cut off and recorded in the entry. A last entry that was changed is a [*BrokenError]:
// nothing is added to a log that cannot be trusted.
func Append(path string, e Entry) (Entry, error) {
	f, err := open(path)
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	return appendTo(f, path, e)
}

// appendTo is Append to the open and locked log.
func appendTo(f atomicfile.InPlace, path string, e Entry) (Entry, error) {
	last, end, torn, err := tail(f, path)
	if err != nil {
		return Entry{}, err
	}
	e.clean()
	e.Seq, e.Prev, e.Recovered = 1, genesis, torn
	if last != nil {
		e.Seq, e.Prev = last.Seq+1, last.Hash
	}
	line, err := e.seal()
	if err != nil {
		return Entry{}, fmt.Errorf("writing the audit log %s: %v", path, err)
	}
	if torn != nil {
		if err := f.Truncate(end); err != nil {
			return Entry{}, failed(path, err)
		}
	}
	_, err = f.WriteAt(append(line, '\n'), end)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Truncate(end) // a full disk leaves no half of an entry
		return Entry{}, failed(path, err)
	}
	return e, nil
}

// Ready returns an error where Append would fail, so that a command can say so before it does anything. It makes the log where it is missing.
func Ready(path string) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, _, err = tail(f, path)
	return err
}

// open opens the log for writing and locks it.
func open(path string) (atomicfile.InPlace, error) {
	f, err := atomicfile.OpenInPlace(path, os.O_RDWR|os.O_CREATE|readfile.NoWait, 0o600)
	if err != nil {
		return f, failed(path, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err == nil {
		err = atomicfile.Lock(f.File)
	}
	if err != nil {
		f.Close()
		return f, failed(path, err)
	}
	return f, nil
}

func failed(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("writing the audit log %s: %w", path, err)
}

// tail returns the last whole entry, nil where there is none, where the next one begins, and what lies there incomplete.
func tail(f atomicfile.InPlace, path string) (last *Entry, end int64, torn *Torn, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, nil, failed(path, err)
	}
	from := max(info.Size()-2*maxLine, 0)
	data := make([]byte, info.Size()-from)
	if _, err := io.ReadFull(io.NewSectionReader(f, from, int64(len(data))), data); err != nil {
		return nil, 0, nil, failed(path, err)
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	end = from + int64(whole)
	if rest := data[whole:]; len(rest) > 0 {
		torn = &Torn{Bytes: len(rest), SHA256: fmt.Sprintf("%x", sha256.Sum256(rest))}
	}
	if whole == 0 {
		if from > 0 {
			return nil, 0, nil, &BrokenError{path, 0, "its last line is longer than an entry can be; move the file away to begin a new log"}
		}
		return nil, 0, torn, nil
	}
	begin := bytes.LastIndexByte(data[:whole-1], '\n') + 1
	if last, err = parse(data[begin : whole-1]); err != nil {
		return nil, 0, nil, &BrokenError{path, 0, fmt.Sprintf("the last entry cannot be continued: %v; see lapidary audit verify, and move the file away to begin a new log", err)}
	}
	return last, end, torn, nil
}
