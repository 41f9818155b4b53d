// Package zootest gives tests the optional corpus of models and data, and the
// ONNX Runtime library to run them with. A test skips, and says why, where one
// of them is missing. Only tests import it.
package zootest

import (
	"archive/zip"
	"flag"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
)

// Dir returns the folder of the corpus: LAPIDARY_ZOO, or shared/zoo beside the
// module.
func Dir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("LAPIDARY_ZOO")
	if dir == "" {
		dir = filepath.Join(filepath.Dir(moduleRoot(t)), "shared", "zoo")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no test corpus at %s (set LAPIDARY_ZOO)", dir)
	}
	return dir
}

// Path returns the path of a file or folder of the corpus, by its slash-separated name.
func Path(t testing.TB, name string) string {
	t.Helper()
	file := filepath.Join(Dir(t), filepath.FromSlash(name))
	if _, err := os.Stat(file); err != nil {
		t.Skipf("the test corpus has no %s: %v", name, err)
	}
	return file
}

func moduleRoot(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("the test does not run within the module")
		}
		dir = up
	}
}

// Archives returns the names of the archives of graphs, without their ending.
func Archives(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Dir(t), "corpus", "*.zip"))
	if err != nil || len(files) == 0 {
		t.Skipf("no archives in %s/corpus: %v", Dir(t), err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".zip")
	}
	return files
}

// Archive returns the content of an archive of graphs by the names in it.
func Archive(t testing.TB, name string) map[string][]byte {
	t.Helper()
	z, err := zip.OpenReader(Path(t, "corpus/"+name+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out := map[string][]byte{}
	for _, e := range z.File {
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		if out[e.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	return out
}

// seedShare is of how many files of the corpus one is a seed: some hundreds are.
const seedShare = 10

// Seeds returns a fixed part of the files of the corpus with that ending and of at most that many
// bytes, to begin fuzzing with: while a target is being fuzzed, and only where the
// corpus is there. Else there are none.
func Seeds(t testing.TB, ext string, most int) [][]byte {
	t.Helper()
	if f := flag.Lookup("test.fuzz"); f == nil || f.Value.String() == "" {
		return nil
	}
	dir := os.Getenv("LAPIDARY_ZOO")
	if dir == "" {
		dir = filepath.Join(filepath.Dir(moduleRoot(t)), "shared", "zoo")
	}
	archives, _ := filepath.Glob(filepath.Join(dir, "corpus", "*.zip"))
	var out [][]byte
	for _, a := range archives {
		for name, data := range Archive(t, strings.TrimSuffix(filepath.Base(a), ".zip")) {
			h := fnv.New32a()
			io.WriteString(h, name)
			if strings.HasSuffix(name, ext) && len(data) <= most && h.Sum32()%seedShare == 0 {
				out = append(out, data)
			}
		}
	}
	loose, _ := filepath.Glob(filepath.Join(dir, "hostile", "*"+ext))
	for _, path := range loose {
		if data, err := os.ReadFile(path); err == nil && len(data) <= most {
			out = append(out, data)
		}
	}
	return out
}

// Chosen reports whether name is in the fixed fifth of the corpus that runs by
// default; all of it does with LAPIDARY_CORPUS=all.
func Chosen(name string) bool { return All() || InFifth(name) }

// InFifth reports whether name is in the part of the corpus that runs by default.
func InFifth(name string) bool {
	h := fnv.New32a()
	io.WriteString(h, name)
	return h.Sum32()%5 == 0
}

// All reports whether the whole corpus is asked for, by LAPIDARY_CORPUS=all.
func All() bool { return os.Getenv("LAPIDARY_CORPUS") == "all" }

// Library returns the path of the ONNX Runtime library to test with.
func Library(t testing.TB) string {
	t.Helper()
	cache, _ := os.UserCacheDir()
	c, err := ortlib.Which(t.Context(), ortlib.Search{NoPython: true, Env: ortlib.Env{
		CacheDir: cache, Library: os.Getenv("LAPIDARY_ORT_LIB"), Vars: os.Environ()}})
	if err != nil {
		t.Skipf("no ONNX Runtime library (set LAPIDARY_ORT_LIB, or run \"lapidary runtime install\"): %v", err)
	}
	return c.Path
}
