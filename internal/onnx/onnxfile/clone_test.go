package onnxfile

import (
	"bytes"
	"testing"
)

// TestCorpusClone checks on every model that a copy encodes to the same bytes,
// and that sorting and checking agree.
func TestCorpusClone(t *testing.T) {
	faults := 0
	eachModel(t, func(name string, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		want, err := Encode(m)
		if err != nil {
			return
		}
		got, err := Encode(m.Clone())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the clone encodes differently (%v)", name, err)
		}
		if _, err := m.Sort(); err != nil {
			t.Logf("%s: %v", name, err)
			return
		}
		if err := m.Check(); err != nil {
			faults++
			t.Logf("%s: %v", name, err)
		}
	})
	t.Logf("%d models fail Check", faults)
}
