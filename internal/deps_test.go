package internal

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/lapidary-ml/lapidary/"

// rows is the import policy: a package may import the packages of the rows
// above its own. DO NOT CHANGE THIS TABLE
// TO FIX A BUILD: it is the architecture.
var rows = [][]string{
	{"internal", "internal/atomicfile", "internal/readfile", "internal/parallel", "internal/fuzzing", "internal/linalg", "internal/draw", "internal/draw/drawtest", "internal/rule"},
	{"internal/onnx", "internal/attest", "internal/report", "internal/device", "internal/measured", "internal/audit"},
	{
		"internal/onnx/onnxfile", "internal/onnx/onnxtext", "internal/opset", "internal/session", "internal/measure", "internal/measure/measuretest",
		"internal/score", "internal/gate", "internal/report/schematest", "internal/ort/ortlib", "internal/growth",
	},
	{
		"internal/eval", "internal/compare", "internal/dataset", "internal/explain",
		"internal/ort", "internal/gonnx", "internal/worker", "internal/session/sessiontest", "internal/kernels", "internal/quiet",
		"internal/signer", "internal/evidence", "internal/randgraph", "internal/growth/growthrun",
	},
	{"internal/calibrate", "internal/rewrite", "internal/algebra", "internal/upgrade", "internal/nets"},
	{"internal/rewrite/rewritetest", "internal/produce", "internal/trial", "internal/zootest", "internal/nets/netgen", "internal/grad"},
	{"internal/meaning"},
	{"fuse", "prune", "quantize", "profile", "internal/validate", "internal/bisect"},
	{"cmd/lapidary", "internal/release"},
}

// engines are for the command only: everything else takes a session.Opener.
var engines = []string{"internal/ort", "internal/ort/ortlib", "internal/gonnx", "internal/worker"}

// programs may import them: cmd/lapidary runs models, and release puts a runtime into it.
var programs = []string{"cmd/lapidary", "internal/release"}

// testOnly are packages that only tests import, and programs of their own below them.
var testOnly = []string{"internal/zootest", "internal/randgraph", "internal/nets", "internal/draw/drawtest", "internal/measure/measuretest", "internal/growth", "internal/meaning"}

// ignorant may not import the model or anything that does.
var ignorant = map[string][]string{
	"internal/report":   {"internal/draw"},
	"internal/attest":   nil,
	"internal/gate":     {"internal/report", "internal/attest", "internal/rule"},
	"internal/signer":   {"internal/attest"},
	"internal/evidence": {"internal/report", "internal/attest"},
	"internal/measure":  nil,
	"internal/device":   nil,
	"internal/draw":     nil,
	"internal/audit":    nil,
	"internal/rule":     nil,
}

// beneath are packages that know nothing, so that all may import them.
var beneath = []string{"internal/atomicfile", "internal/readfile", "internal/parallel"}

// TestImports reads every import of the module with go/parser, so that no
// result can come from a test cache that does not know the files.
func TestImports(t *testing.T) {
	row := map[string]int{}
	for i, list := range rows {
		for _, p := range list {
			row[p] = i
		}
	}
	for dir, imports := range readImports(t) {
		r, ok := row[dir]
		if !ok {
			t.Errorf("package %s is not in the import policy", dir)
			continue
		}
		for _, imp := range imports {
			s, known := row[imp]
			switch {
			case !known:
				t.Errorf("%s imports %s, which is not in the import policy", dir, imp)
			case s >= r:
				t.Errorf("%s (row %d) must not import %s (row %d)", dir, r, imp, s)
			case slices.Contains(testOnly, imp) && !slices.Contains(testOnly, dir) && !strings.HasPrefix(dir, imp+"/"):
				t.Errorf("%s must not import %s: it is for tests", dir, imp)
			case slices.Contains(engines, imp) && !slices.Contains(programs, dir) && !slices.Contains(testOnly, dir) && !strings.HasPrefix(dir, "internal/ort"):
				t.Errorf("%s must not import the engine %s; take a session.Opener", dir, imp)
			}
			if only, strict := ignorant[dir]; strict && !slices.Contains(only, imp) && !slices.Contains(beneath, imp) {
				t.Errorf("%s must not import %s", dir, imp)
			}
		}
	}
}

// readImports returns the module's own imports of each package, without those
// of its tests.
func readImports(t *testing.T) map[string][]string {
	out := map[string][]string{}
	root := ".."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(rel)
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if own, ok := strings.CutPrefix(p, module); ok && !slices.Contains(out[dir], own) {
				out[dir] = append(out[dir], own)
			}
		}
		if out[dir] == nil {
			out[dir] = []string{}
		}
		return nil
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("reading the module's imports: %v", err)
	}
	return out
}
