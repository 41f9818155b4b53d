package main

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// target is one fuzz target.
type target struct {
	dir    string // of its package, from the module's root, with slashes
	name   string
	guards string // what its comment says first
}

// String is how the ledger names it.
func (t target) String() string { return t.dir + "." + t.name }

// first are the packages that read what strangers send, in the order in which they
// matter; the others come behind.
var first = []string{
	"internal/onnx/onnxfile", "internal/dataset", "internal/attest", "internal/gate", "internal/opset", "fuse", "profile", "prune", "quantize", "internal/eval",
}

// targets finds the fuzz targets below root.
func targets(root string) ([]target, error) {
	var out []target
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Fuzz") {
				out = append(out, target{filepath.ToSlash(dir), fn.Name.Name, guards(fn)})
			}
		}
		return nil
	})
	slices.SortFunc(out, func(a, b target) int {
		if i, j := rank(a), rank(b); i != j {
			return i - j
		}
		return strings.Compare(a.String(), b.String())
	})
	return out, err
}

func rank(t target) int {
	if i := slices.Index(first, t.dir); i >= 0 {
		return i
	}
	return len(first)
}

// guards is the first sentence of a target's comment, without its name.
func guards(fn *ast.FuncDecl) string {
	text := new(doc.Package).Synopsis(fn.Doc.Text())
	text = strings.TrimPrefix(text, fn.Name.Name)
	return strings.TrimSuffix(strings.TrimLeft(text, ": "), ".")
}
