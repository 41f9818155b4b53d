package fuse_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestSecondRun: there is nothing left to do on what fuse has made, and written
// again it is the same file. A fifth of the models is taken, all with
// LAPIDARY_CORPUS=all; each for standard operators and for those of a runtime.
func TestSecondRun(t *testing.T) {
	for _, target := range []string{fuse.TargetNames[0], "ort-cpu"} {
		t.Run(target, func(t *testing.T) {
			runs, settled := 0, 0
			for _, archive := range zootest.Archives(t) {
				dir := extract(t, archive)
				for _, file := range models(t, dir) {
					rel, _ := filepath.Rel(dir, file)
					if !zootest.Chosen(rel) {
						continue
					}
					m := readable(file)
					if m == nil {
						continue
					}
					runs++
					if err := secondRun(t, m, fuse.Options{Target: fuse.Target{Name: target}}); err != nil {
						t.Errorf("%s:%s: %v", archive, rel, err)
					} else {
						settled++
					}
					m.Close()
				}
			}
			t.Logf("%d of %d models are settled after one run", settled, runs)
			if runs < 100 {
				t.Errorf("only %d models were fused", runs)
			}
		})
	}
}

// readable returns the model of a file, nil where it is none or a broken one.
func readable(file string) *onnx.Model {
	m, err := onnxfile.Open(file, onnxfile.Options{})
	if err != nil {
		return nil
	}
	if _, err := m.Repair(); err != nil || m.Check() != nil {
		m.Close()
		return nil
	}
	return m
}

// secondRun fuses m, then what is read of its result.
func secondRun(t *testing.T, m *onnx.Model, o fuse.Options) error {
	if _, err := fuse.Model(t.Context(), m, o); err != nil {
		return err
	}
	first, err := onnxfile.Encode(m)
	if err != nil {
		return err
	}
	again, err := onnxfile.Decode(first)
	if err != nil { // its weights are in another file
		again = m.Clone()
	}
	log, err := fuse.Model(t.Context(), again, o)
	if err != nil {
		return fmt.Errorf("the second run: %w", err)
	}
	if len(log.Fired) > 0 {
		return fmt.Errorf("the second run did: %s", keysOf(log))
	}
	second, err := onnxfile.Encode(again)
	if err != nil {
		return err
	}
	if !bytes.Equal(first, second) {
		return fmt.Errorf("the second run did nothing, and wrote %d other bytes instead of %d", len(second), len(first))
	}
	return nil
}

// keysOf names what was done.
func keysOf(log *rewrite.Log) string {
	var out []string
	for _, f := range log.Fired {
		out = append(out, f.Key)
	}
	return strings.Join(out, ", ")
}
