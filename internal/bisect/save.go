package bisect

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// DataFolder is where a saved case keeps its inputs, beside the model.
const DataFolder = "test_data_set_0"

// CheckSave reports why a case cannot be saved at path: it would mix with data
// that is there already.
func CheckSave(path string) error {
	dir := filepath.Join(filepath.Dir(path), DataFolder)
	list, err := os.ReadDir(dir)
	switch {
	case err == nil && len(list) > 0:
		return fmt.Errorf("%s is there already; name a file in a folder of its own", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is not a folder", filepath.Dir(path))
	}
	return nil
}

// Save writes the model at path, its text form at path.txt, and the inputs and
// wanted outputs to a test_data_set_0 folder beside it. It returns the paths.
func (c *Case) Save(path string) ([]string, error) {
	if err := CheckSave(path); err != nil {
		return nil, err
	}
	if _, err := onnxfile.Write(path, c.Model, onnxfile.WriteOptions{}); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := onnxtext.Format(&text, c.Model, onnxtext.Options{MaxElements: 64}); err != nil {
		return nil, err
	}
	if err := atomicfile.WriteFile(path+".txt", text.Bytes(), 0o644); err != nil {
		return nil, err
	}
	written := []string{path, path + ".txt"}
	dir := filepath.Join(filepath.Dir(path), DataFolder)
	if len(c.Feed)+len(c.Want) == 0 {
		return written, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, set := range []struct {
		prefix string
		ports  []*onnx.Value
		values map[string]*onnx.Tensor
	}{{"input", c.Model.Graph.Inputs(), c.Feed}, {"output", c.Model.Graph.Outputs(), c.Want}} {
		for i, v := range set.ports {
			t := set.values[v.Name()]
			if t == nil {
				continue
			}
			b, err := onnxfile.EncodeTensor(t.Renamed(v.Name()))
			if err != nil {
				return nil, err
			}
			if err := atomicfile.WriteFile(filepath.Join(dir, fmt.Sprintf("%s_%d.pb", set.prefix, i)), b, 0o644); err != nil {
				return nil, err
			}
		}
	}
	return append(written, dir), nil
}
