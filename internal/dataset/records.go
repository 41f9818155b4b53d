package dataset

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// cell is one value of a row: the text of a CSV field or of a JSON value.
type cell struct {
	text   string
	quoted bool // a JSON string, unquoted
}

// records reads the rows of a table one after another.
type records interface {
	// next returns the next row's cells in the order of the columns, and the
	// offset in the file at which the row can be read again; io.EOF at the end.
	next() ([]cell, int64, error)
}

// tableForm reads one kind of table.
type tableForm struct {
	// header returns the column names and the offset of the first row.
	header func(f io.ReaderAt, limit int64) ([]string, int64, error)
	// rows reads from offset from.
	rows func(f io.ReaderAt, from int64, cols []string, limit int64) records
}

var tableForms = map[string]tableForm{
	".csv":   {csvHeader, newCSVRows},
	".tsv":   {tsvHeader, newTSVRows},
	".jsonl": {jsonHeader, newJSONRows},
}

const byteOrderMark = "\xef\xbb\xbf"

// rationed fails after left bytes, which bounds what one row may take.
type rationed struct {
	r     io.Reader
	left  int64
	limit int64
}

func (r *rationed) Read(b []byte) (int, error) {
	if r.left <= 0 {
		return 0, fmt.Errorf("a row takes more than %d bytes; is a quote or a line end missing?", r.limit)
	}
	n, err := r.r.Read(b[:min(int64(len(b)), r.left)])
	r.left -= int64(n)
	return n, err
}

// csvRows reads comma-separated values, RFC 4180.
type csvRows struct {
	r     *csv.Reader
	src   *rationed
	base  int64
	limit int64
}

// readAhead is more than the buffer of a csv.Reader.
const readAhead = 1 << 16

func newCSV(f io.ReaderAt, from, limit int64) *csvRows {
	src := &rationed{r: io.NewSectionReader(f, from, 1<<62), left: limit + readAhead, limit: limit}
	r := csv.NewReader(src)
	r.ReuseRecord = true
	r.TrimLeadingSpace = true
	return &csvRows{r: r, src: src, base: from, limit: limit}
}

func csvHeader(f io.ReaderAt, limit int64) ([]string, int64, error) {
	rows := newCSV(f, markSize(f), limit)
	rec, err := rows.r.Read()
	if err != nil {
		return nil, 0, shortFile(err, "the header line")
	}
	return trimmed(rec), rows.base + rows.r.InputOffset(), nil
}

// markSize returns the size of a byte order mark at the start of f.
func markSize(f io.ReaderAt) int64 {
	var b [len(byteOrderMark)]byte
	if n, _ := f.ReadAt(b[:], 0); string(b[:n]) == byteOrderMark {
		return int64(n)
	}
	return 0
}

func trimmed(v []string) []string {
	out := make([]string, len(v))
	for i, s := range v {
		out[i] = strings.TrimSpace(s)
	}
	return out
}

func newCSVRows(f io.ReaderAt, from int64, cols []string, limit int64) records {
	rows := newCSV(f, from, limit)
	rows.r.FieldsPerRecord = len(cols)
	return rows
}

func (c *csvRows) next() ([]cell, int64, error) {
	at := c.base + c.r.InputOffset()
	c.src.left = c.limit + readAhead
	rec, err := c.r.Read()
	var pe *csv.ParseError
	if errors.As(err, &pe) {
		err = pe.Err // its line number is that since the last seek
	}
	out := make([]cell, len(rec))
	for i, text := range rec {
		out[i].text = text
	}
	return out, at, err
}

// lines reads lines that are not blank.
type lines struct {
	r     *bufio.Reader
	at    int64 // offset of what comes next
	limit int64
	buf   []byte
}

func newLines(f io.ReaderAt, from, limit int64) *lines {
	return &lines{r: bufio.NewReaderSize(io.NewSectionReader(f, from, 1<<62), 1<<16), at: from, limit: limit}
}

// next returns a line without its end, valid until the next call, and its offset.
func (l *lines) next() ([]byte, int64, error) {
	for {
		start := l.at
		line, err := l.line()
		if err != nil {
			return nil, 0, err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return bytes.TrimRight(line, "\r\n"), start, nil
		}
	}
}

func (l *lines) line() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.at += int64(len(part))
		l.buf = append(l.buf, part...)
		switch {
		case int64(len(l.buf)) > l.limit:
			return nil, fmt.Errorf("a line takes more than %d bytes", l.limit)
		case err == nil, err == io.EOF && len(l.buf) > 0:
			return l.buf, nil
		case err != bufio.ErrBufferFull:
			return nil, err
		}
	}
}

// tsvRows reads tab-separated values, in which nothing is quoted.
type tsvRows struct {
	*lines
	cols int
}

func tsvHeader(f io.ReaderAt, limit int64) ([]string, int64, error) {
	l := newLines(f, markSize(f), limit)
	line, _, err := l.next()
	if err != nil {
		return nil, 0, shortFile(err, "the header line")
	}
	return trimmed(strings.Split(string(line), "\t")), l.at, nil
}

func newTSVRows(f io.ReaderAt, from int64, cols []string, limit int64) records {
	return &tsvRows{newLines(f, from, limit), len(cols)}
}

func (t *tsvRows) next() ([]cell, int64, error) {
	line, at, err := t.lines.next()
	if err != nil {
		return nil, at, err
	}
	fields := strings.Split(string(line), "\t")
	if len(fields) != t.cols {
		return nil, at, fmt.Errorf("%d fields where the header has %d", len(fields), t.cols)
	}
	out := make([]cell, len(fields))
	for i, text := range fields {
		out[i].text = text
	}
	return out, at, nil
}

// jsonRows reads one JSON object per line. The first line's keys, in its
// order, are the columns; every other line must have the same.
type jsonRows struct {
	*lines
	cols []string
}

func jsonHeader(f io.ReaderAt, limit int64) ([]string, int64, error) {
	from := markSize(f)
	line, _, err := newLines(f, from, limit).next()
	if err != nil {
		return nil, 0, shortFile(err, "the first line")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return nil, 0, errors.New("the first line is not a JSON object")
	}
	var cols []string
	for d.More() {
		key, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("the first line is not a JSON object: %v", err)
		}
		cols = append(cols, key.(string))
	}
	return cols, from, nil
}

func newJSONRows(f io.ReaderAt, from int64, cols []string, limit int64) records {
	return &jsonRows{newLines(f, from, limit), cols}
}

func (j *jsonRows) next() ([]cell, int64, error) {
	line, at, err := j.lines.next()
	if err != nil {
		return nil, at, err
	}
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(line, &obj); err != nil {
		return nil, at, fmt.Errorf("not a JSON object: %v", err)
	}
	out := make([]cell, len(j.cols))
	for i, name := range j.cols {
		raw, ok := obj[name]
		if !ok {
			return nil, at, fmt.Errorf("no key %q, which the first line has", name)
		}
		delete(obj, name)
		if out[i], err = jsonCell(raw); err != nil {
			return nil, at, err
		}
	}
	for name := range obj {
		return nil, at, fmt.Errorf("key %q is not in the first line", name)
	}
	return out, at, nil
}

func jsonCell(raw json.RawMessage) (cell, error) {
	switch {
	case len(raw) > 0 && raw[0] == '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return cell{s, true}, err
	case string(raw) == "null":
		return cell{}, nil
	}
	return cell{text: string(slices.Clone(raw))}, nil
}
