package main

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
	"github.com/lapidary-ml/lapidary/internal/report/schematest"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == ledgerArgument {
		os.Exit(ledgerShard(os.Args[2]))
	}
	if status, ok := workerMain(os.Args); ok {
		os.Exit(status)
	}
	testscript.Main(m, map[string]func(){"lapidary": main})
}

// TestScripts runs the commands as a user does. Scripts that need the runtime
// begin with "[!ort] skip".
func TestScripts(t *testing.T) {
	cache, _ := os.UserCacheDir()
	lib := ""
	choice, err := ortlib.Which(context.Background(), ortlib.Search{Env: ortlib.Env{
		CacheDir: cache, Library: os.Getenv("LAPIDARY_ORT_LIB"), Vars: os.Environ()}})
	if err == nil {
		lib = choice.Path
	} else {
		t.Logf("scripts that run models are skipped: %v", err)
	}
	data, err := filepath.Abs("../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("LAPIDARY_ORT_LIB", lib)
			e.Setenv("DATA", data)
			e.Setenv("SIGNERS", filepath.Join(docs, "signers"))
			e.Setenv("LAPIDARY_ROOFLINE", "never") // measuring the machine takes seconds, and scripts share no cache
			return nil
		},
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"exitcode": exitcode, "schema": schema, "model": model, "npz": npz},
		Condition: func(cond string) (bool, error) { return cond == "ort" && lib != "", nil },
	})
}

// exitcode runs a command and checks that its exit code is one of a list: exitcode N[,N...] command args...
func exitcode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N[,N...] command args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if !slices.Contains(strings.Split(args[0], ","), strconv.Itoa(got)) {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// model writes the model that a text file spells out: model OUT.onnx TEXT
func model(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: model OUT.onnx TEXT")
	}
	m, err := onnxtext.Parse(args[1], []byte(ts.ReadFile(args[1])))
	ts.Check(err)
	_, err = onnxfile.Write(ts.MkAbs(args[0]), m, onnxfile.WriteOptions{})
	ts.Check(err)
}

// npz writes the arrays that a JSON object spells out by name, whole numbers as int64, others as float32: npz OUT.npz TEXT
func npz(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: npz OUT.npz TEXT")
	}
	var arrays map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &arrays))
	out := map[string]*onnx.Tensor{}
	for name, v := range arrays {
		var shape []int64
		for at := v; ; {
			list, ok := at.([]any)
			if !ok {
				break
			}
			shape, at = append(shape, int64(len(list))), list[0]
		}
		var flat []float64
		flatten(v, &flat)
		kind := onnx.Int64
		for _, x := range flat {
			if x != math.Trunc(x) {
				kind = onnx.Float
			}
		}
		t, err := onnx.FromFloat64s(name, kind, shape, flat)
		ts.Check(err)
		out[name] = t
	}
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(dataset.WriteNpz(f, out))
	ts.Check(f.Close())
}

func flatten(v any, into *[]float64) {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			flatten(x, into)
		}
	case float64:
		*into = append(*into, v)
	}
}

// schema checks the JSON that the last command printed against the schema that
// it names, among those in docs/schemas.
func schema(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: schema")
	}
	document := []byte(ts.ReadFile("stdout"))
	var head struct {
		Schema string `json:"schema"`
	}
	ts.Check(json.Unmarshal(document, &head)) // one document, nothing after it
	published, err := os.ReadFile(filepath.Join(docs, "schemas", filepath.Base(head.Schema)))
	ts.Check(err)
	ts.Check(schematest.Validate(published, document))
}

// docs is the folder of the documentation.
var docs, _ = filepath.Abs("../../docs")
