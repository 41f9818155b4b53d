package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// testData is a source of ONNX test data: one sample per folder, whose
// input_N.pb and output_N.pb hold the model's N-th input and output.
type testData struct {
	dirs            []string
	inputs, outputs []Port
	limit           int64
}

func (s *Set) openTestData(dirs []string) error {
	slices.SortFunc(dirs, func(a, b string) int {
		x, y := trailingNumber(a), trailingNumber(b)
		if x != y {
			return x - y
		}
		return strings.Compare(a, b)
	})
	if s.o.Preprocess != nil {
		return fmt.Errorf("data %s: test data is what the model takes already; leave preprocessing out", dirs[0])
	}
	s.src = &testData{dirs, s.ports, s.o.Outputs, s.o.MaxRow}
	return nil
}

// trailingNumber returns the number after the last underscore, -1 if there is none.
func trailingNumber(path string) int {
	stem := strings.TrimSuffix(filepath.Base(path), ".pb")
	n, err := strconv.Atoi(stem[strings.LastIndexByte(stem, '_')+1:])
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func (src *testData) rows() int64           { return int64(len(src.dirs)) }
func (src *testData) labels() LabelKind     { return NoLabel }
func (src *testData) open() (cursor, error) { return src, nil }

// Close does nothing: no file stays open.
func (src *testData) Close() error { return nil }

func (src *testData) fetch(i int64) (*raw, error) {
	dir := src.dirs[i]
	in, err := src.values(dir, "input", src.inputs)
	if err != nil {
		return nil, err
	}
	out, err := src.values(dir, "output", src.outputs)
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		out = nil
	}
	s := &Sample{Index: i, ID: filepath.Base(dir), Inputs: in, Expected: out, whole: true}
	return &raw{sample: s, exact: true}, nil
}

// values reads input_N.pb or output_N.pb in the order of N.
func (src *testData) values(dir, prefix string, ports []Port) (map[string]*onnx.Tensor, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	out := map[string]*onnx.Tensor{}
	left := src.limit
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix+"_") || filepath.Ext(e.Name()) != ".pb" {
			continue
		}
		path := filepath.Join(dir, e.Name())
		n := trailingNumber(path)
		if n < 0 {
			return nil, fmt.Errorf("%s: the name does not end in a number", path)
		}
		b, err := readfile.All(path, left)
		if err != nil {
			return nil, err
		}
		left -= int64(len(b))
		var p Port
		if n < len(ports) {
			p = ports[n]
		}
		if err := addValue(out, b, prefix+"_"+strconv.Itoa(n), p, ports); err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
	}
	return out, nil
}

// addValue decodes b as the type of p, its port by position, demands. A tensor
// that names another port belongs to that one; a sequence becomes the tensors
// name[0], name[1], …
func addValue(out map[string]*onnx.Tensor, b []byte, fallback string, p Port, ports []Port) error {
	kind := onnx.KindTensor
	if p.Type != nil && p.Type.Kind != onnx.KindUnknown {
		kind = p.Type.Kind
	}
	name := p.Name
	var t *onnx.Tensor
	var seq []*onnx.Tensor
	var err error
	switch kind {
	case onnx.KindTensor:
		t, err = onnxfile.DecodeTensor(b)
		if err == nil && t.Name != "" {
			if _, ok := findPort(ports, t.Name); ok || name == "" {
				name = t.Name
			}
		}
	case onnx.KindSequence:
		seq, err = onnxfile.DecodeSequence(b)
	case onnx.KindOptional:
		var o onnxfile.Optional
		o, err = onnxfile.DecodeOptional(b)
		t, seq = o.Tensor, o.Sequence
	default:
		return fmt.Errorf("values of type %v are not supported in test data", p.Type)
	}
	if err != nil {
		return err
	}
	if name == "" && len(ports) > 0 {
		return fmt.Errorf("the model has only %d such values", len(ports))
	}
	if name == "" {
		name = fallback
	}
	if t != nil {
		return put(out, name, t)
	}
	for i, e := range seq {
		if err := put(out, name+"["+strconv.Itoa(i)+"]", e); err != nil {
			return err
		}
	}
	return nil
}

func put(out map[string]*onnx.Tensor, name string, t *onnx.Tensor) error {
	if out[name] != nil {
		return fmt.Errorf("two files are for %q", name)
	}
	if t.DType != onnx.String {
		if _, err := t.Bytes(); err != nil {
			return err
		}
	}
	out[name] = t.Renamed(name)
	return nil
}
