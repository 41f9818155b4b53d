package onnxfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Late is a text in a model's metadata that becomes known while the model is being
// written, such as the digest of a file that is read at the same time.
type Late struct {
	Stands string                 // what the metadata has in its place, once; as long as the text
	Text   func() (string, error) // waits for it
}

// postpone makes r write l's text where the one that stands for it is.
func (r *rope) postpone(l *Late) error {
	n := len(l.Stands)
	at := bytes.LastIndex(r.buf, []byte(l.Stands))
	if at < 0 || n == 0 || bytes.Contains(r.buf[:at], []byte(l.Stands)) {
		return errors.New("the text that is to come later has no place of its own")
	}
	r.buf = append(r.buf[:at:at], r.buf[at+n:]...)
	i := len(r.refs)
	for i > 0 && r.refs[i-1].at > at {
		i--
		r.refs[i].at -= n
	}
	r.refs = append(r.refs[:i:i], append([]ref{{at, lateText{l}}}, r.refs[i:]...)...)
	return nil
}

// lateText is content that is not known yet.
type lateText struct{ *Late }

// Len returns the number of bytes.
func (l lateText) Len() int64 { return int64(len(l.Stands)) }

// Bytes waits for the text.
func (l lateText) Bytes() ([]byte, error) {
	s, err := l.Text()
	if err == nil && len(s) != len(l.Stands) {
		err = fmt.Errorf("a text of %d bytes came for one of %d", len(s), len(l.Stands))
	}
	return []byte(s), err
}

// WriteTo waits for the text and writes it.
func (l lateText) WriteTo(w io.Writer) (int64, error) {
	b, err := l.Bytes()
	if err != nil {
		return 0, err
	}
	n, err := w.Write(b)
	return int64(n), err
}
