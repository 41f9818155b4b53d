package eval

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// zoo returns the folder of the optional test corpus, or skips.
func zoo(t *testing.T) string {
	dir := os.Getenv("LAPIDARY_ZOO")
	if dir == "" {
		dir = "../../../shared/zoo"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no test corpus at %s (set LAPIDARY_ZOO)", dir)
	}
	return dir
}

// TestAgainstRuntime computes single nodes and compares with what ONNX Runtime
// gave; testdata/runtime.py makes the file.
func TestAgainstRuntime(t *testing.T) {
	match, _ := agreement(t, filepath.Join("testdata", "runtime.zip"))
	if match < 154 {
		t.Errorf("only %d cases agree, 154 did", match)
	}
}

// TestOperatorTests computes the ONNX project's operator tests: what is
// supported must agree with the expected outputs.
func TestOperatorTests(t *testing.T) {
	dir := zoo(t)
	for name, least := range map[string]int{"onnx-node": 723, "onnx-backend": 63, "onnx-expanded": 344} {
		match, unsupported := agreement(t, filepath.Join(dir, "corpus", name+".zip"))
		t.Logf("%s: %d agree, %d not supported", name, match, unsupported)
		if match < least {
			t.Errorf("%s: only %d tests agree, %d did", name, match, least)
		}
	}
}

// agreement computes every model of an archive and reports those that differ
// from their outputs there.
func agreement(t *testing.T, path string) (match, unsupported int) {
	files := archive(t, path)
	for path, b := range files {
		if !strings.HasSuffix(path, "model.onnx") {
			continue
		}
		ok, err := operatorTest(files, strings.TrimSuffix(path, "model.onnx")+"test_data_set_0/", b)
		var u *UnsupportedError
		switch {
		case errors.As(err, &u):
			unsupported++
			if testing.Verbose() {
				t.Logf("%s: %v", path, u)
			}
		case err != nil:
			t.Errorf("%s: %v", path, err)
		case ok:
			match++
		}
	}
	return match, unsupported
}

func archive(t *testing.T, path string) map[string][]byte {
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := map[string][]byte{}
	for _, e := range r.File {
		f, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		if out[e.Name], err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return out
}

// roundedTests are operator tests whose expected outputs have four digits.
var roundedTests = map[string]bool{"test_averagepool_2d_ceil_last_window_starts_on_pad": true}

// operatorTest runs one model; false where its data is not of tensors.
func operatorTest(files map[string][]byte, data string, model []byte) (bool, error) {
	m, err := onnxfile.Decode(model)
	if err != nil {
		return false, nil
	}
	in := map[string]*onnx.Tensor{}
	for i, v := range m.Graph.Inputs() {
		b := files[fmt.Sprintf("%sinput_%d.pb", data, i)]
		if b == nil {
			continue
		}
		if in[v.Name()], err = onnxfile.DecodeTensor(b); err != nil || !v.Type.IsTensor() {
			return false, nil
		}
	}
	if files[data+"output_0.pb"] == nil {
		return false, nil
	}
	for _, o := range []Options{{}, {Wide: true}} {
		if err := agrees(m, in, files, data, o); err != nil {
			return false, err
		}
	}
	return true, nil
}

// agrees compares what m computes with the outputs in the folder data.
func agrees(m *onnx.Model, in map[string]*onnx.Tensor, files map[string][]byte, data string, o Options) error {
	out, err := Graph(context.Background(), m, in, o)
	if err != nil {
		return err
	}
	for i, v := range m.Graph.Outputs() {
		b := files[fmt.Sprintf("%soutput_%d.pb", data, i)]
		if b == nil || !v.Type.IsTensor() {
			continue
		}
		want, err := onnxfile.DecodeTensor(b)
		if err != nil {
			return err
		}
		class := compare.ClassFor(want.DType)
		if roundedTests[strings.Split(data, "/")[0]] {
			class = compare.ClassFor(onnx.Float16)
		}
		d, err := compare.Tensors(want, out[v.Name()], class)
		if err != nil {
			return err
		}
		if !d.OK {
			return fmt.Errorf("output %q: %s", v.Name(), d.Reason)
		}
	}
	return nil
}
