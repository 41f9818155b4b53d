package calibrate

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// snapshotVersion is that of the file's form.
const snapshotVersion = 1

// maxSnapshot bounds the file and its uncompressed text, in bytes: about 10,000
// tensors with histograms take as much.
const maxSnapshot = 256 << 20

// snapshot is what was measured so far, in memory and in a file.
type snapshot struct {
	Version int               `json:"version"`
	Key     string            `json:"key"`
	Group   int               `json:"group"`   // the first that is not measured in full
	Batches int64             `json:"batches"` // of that group that are
	Samples int64             `json:"samples"`
	Done    bool              `json:"done"` // all groups are
	Stats   map[string]*Stats `json:"stats"`

	path string
}

// openSnapshot reads o.Snapshot, or begins an empty one where there is none or
// it is of something else.
func openSnapshot(o *Options, wants []Want) (*snapshot, error) {
	text, err := json.Marshal(wants)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s", o.Key, o.MaxBytes, text))
	fresh := &snapshot{Version: snapshotVersion, Key: hex.EncodeToString(sum[:]), Stats: map[string]*Stats{}, path: o.Snapshot}
	if o.Snapshot == "" {
		return fresh, nil
	}
	b, err := readfile.All(o.Snapshot, maxSnapshot)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return nil, err
	}
	s := &snapshot{path: o.Snapshot}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err == nil {
		b, err = io.ReadAll(io.LimitReader(z, maxSnapshot))
	}
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is no file of calibration statistics (%w); name another file, or remove it", o.Snapshot, err)
	}
	if s.Version != snapshotVersion || s.Key != fresh.Key || s.Stats == nil {
		return fresh, nil
	}
	if err := s.check(wants); err != nil {
		return nil, fmt.Errorf("%s: %w; remove the file, and calibration begins anew", o.Snapshot, err)
	}
	return s, nil
}

// complete reports whether all wants were measured in full.
func (s *snapshot) complete(wants []Want) bool {
	if !s.Done {
		return false
	}
	for _, w := range wants {
		if s.Stats[w.key()] == nil {
			return false
		}
	}
	return true
}

// of returns the statistics of a key, empty ones at first.
func (s *snapshot) of(key string) *Stats {
	if s.Stats[key] == nil {
		s.Stats[key] = &Stats{}
	}
	return s.Stats[key]
}

// save writes the file, where there is to be one.
func (s *snapshot) save(group int, batches, samples int64) error {
	s.Group, s.Batches, s.Samples = group, batches, samples
	if s.path == "" {
		return nil
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := atomicfile.WriteFile(s.path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing calibration statistics: %w", err)
	}
	return nil
}

func (s *snapshot) finish(groups int, samples int64) error {
	s.Done = true
	return s.save(groups, 0, samples)
}
