package calibrate

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// FuzzSnapshot reads a file of statistics that is of the right model and data, and
// else says anything: it is refused, or its statistics give ranges and merge with new ones.
func FuzzSnapshot(f *testing.F) {
	wants := []Want{{Tensor: "x", Channels: true, Axis: 1}, {Tensor: "y", Extremes: true}}
	path := filepath.Join(f.TempDir(), "seed")
	fresh, err := openSnapshot(&Options{Snapshot: path, Key: "k"}, wants)
	if err != nil {
		f.Fatal(err)
	}
	more := seedStats([]float32{-1, 0, 2.5, 100})
	fresh.Stats["x"], fresh.Stats["y"] = more, &Stats{Runs: 1, Count: 2, Max: 3}
	fresh.Done = true
	seed, err := json.Marshal(fresh)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(seed))
	for _, s := range []string{
		`{"version":1,"stats":{"x":null}}`,
		`{"version":1,"stats":{"x":{"runs":1,"histogram":{"exp":-2000000000,"first":9223372036854775807,"counts":[1]}}}}`,
		`{"version":1,"stats":{"x":{"runs":1,"Min":-1,"Max":1,"histogram":{"exp":1,"first":0,"counts":[]}}}}`,
		`{"version":1,"stats":{"x":{"runs":1,"channels":{"sum":[1],"peak":[]}}}}`,
		`{"version":1,"done":true,"group":-1,"stats":{}}`,
	} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		file := map[string]any{}
		if json.Unmarshal([]byte(text), &file) != nil {
			return
		}
		file["key"] = fresh.Key
		text2, err := json.Marshal(file)
		if err != nil {
			return
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(text2)
		z.Close()
		path := filepath.Join(dir, filepath.Base(t.TempDir()))
		if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		s, err := openSnapshot(&Options{Snapshot: path, Key: "k"}, wants)
		if err != nil {
			return
		}
		s.complete(wants)
		for _, x := range s.Stats {
			for _, name := range Methods() {
				m, err := ParseMethod(name)
				if err != nil {
					t.Fatal(err)
				}
				if m.NeedsHistogram() && x.Histogram == nil || x.Runs == 0 {
					continue
				}
				r := m.Range(x, Codes{Levels: 256})
				if !finite(r.Min) || !finite(r.Max) {
					t.Fatalf("%s gives the range %v to %v of %+v", name, r.Min, r.Max, x)
				}
			}
			x.Merge(more)
		}
	})
}

// seedStats are the statistics of one run.
func seedStats(x []float32) *Stats {
	b := make([]byte, 0, 4*len(x))
	lo, hi := float32(math.Inf(1)), float32(math.Inf(-1))
	for _, v := range x {
		u := math.Float32bits(v)
		b = append(b, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
		lo, hi = min(lo, v), max(hi, v)
	}
	s := &Stats{}
	s.extremes(lo, hi, 0)
	s.enter(newHistogram(b, lo, hi))
	s.channels(b, []int64{1, int64(len(x))}, 1)
	return s
}
