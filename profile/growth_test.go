package profile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/growth"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// TestLinear: the static profile, and the comparison of two, of twice as many nodes allocates about twice as much.
func TestLinear(t *testing.T) {
	for _, net := range []string{"chain", "deep", "fan", "branches"} {
		var static, compared []growth.Allocated
		for _, nodes := range []int{1000, 2000} {
			dir := t.TempDir()
			path := filepath.Join(dir, "model.onnx")
			if err := nets.Write(path, net, nets.Options{Nodes: nodes}, onnxfile.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			var s *StaticProfile
			static = append(static, growth.Allocations(func() {
				var err error
				if s, err = StaticFile(path, StaticOptions{}); err != nil {
					t.Fatal(err)
				}
			}))
			a, b := document(t, dir, "a.json", s, 1), document(t, dir, "b.json", s, 2)
			compared = append(compared, growth.Allocations(func() {
				if _, err := DiffFiles(a, b); err != nil {
					t.Fatal(err)
				}
			}))
		}
		if !static[0].Linear(static[1]) {
			t.Errorf("static profile of %s: %+v for 1000 nodes, %+v for 2000", net, static[0], static[1])
		}
		if !compared[0].Linear(compared[1]) {
			t.Errorf("difference of profiles of %s: %+v for 1000 nodes, %+v for 2000", net, compared[0], compared[1])
		}
	}
}

// document writes a profile in which every node took so many milliseconds.
func document(t *testing.T, dir, name string, s *StaticProfile, ms float64) string {
	type timed struct {
		Name string  `json:"name"`
		Op   string  `json:"op"`
		MS   float64 `json:"ms"`
	}
	var nodes []timed
	for _, n := range s.Nodes {
		nodes = append(nodes, timed{n.Name, n.Op, ms})
	}
	b, err := json.Marshal(map[string]any{"schema": SchemaURI, "schemaVersion": "1.0", "static": s,
		"timed": map[string]any{"nodes": nodes, "operators": []any{}, "latency": map[string]any{}, "cold": map[string]any{}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
