package main

import (
	"bytes"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// graphNodes returns how many nodes the main graph of a file has.
func graphNodes(path string) (int, error) {
	m, err := onnxfile.Open(path, onnxfile.Options{MissingExternalData: true})
	if err != nil {
		return 0, err
	}
	defer m.Close()
	return m.Graph.Len(), nil
}

// sameModels reports whether two files hold the same graph and weights.
func sameModels(a, b string) (bool, error) {
	var graphs [2][]byte
	for i, path := range []string{a, b} {
		m, err := onnxfile.Open(path, onnxfile.Options{})
		if err != nil {
			return false, err
		}
		m.Meta = nil // the chain of custody
		m.ProducerName, m.ProducerVersion = "", ""
		graphs[i], err = onnxfile.Encode(m)
		m.Close()
		if err != nil {
			return false, err
		}
	}
	return bytes.Equal(graphs[0], graphs[1]), nil
}

// onlyZeros checks that two files differ in nothing but elements of constants
// that are zero in the second.
func onlyZeros(original, result string) error {
	a, err := onnxfile.Open(original, onnxfile.Options{})
	if err != nil {
		return err
	}
	defer a.Close()
	if _, err := a.Repair(); err != nil { // of a value that is defined twice the last one counts, as for the runtime
		return err
	}
	b, err := onnxfile.Open(result, onnxfile.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	before, after := byOutput(a), byOutput(b)
	if len(before) != len(after) {
		return fmt.Errorf("%d nodes became %d", len(before), len(after))
	}
	for name, n := range before {
		m := after[name]
		if m == nil || n.Op != m.Op || len(n.Inputs()) != len(m.Inputs()) {
			return fmt.Errorf("%v became %v", n, m)
		}
		for k, v := range n.Inputs() {
			w := m.Inputs()[k]
			if v == nil || v.Constant() == nil {
				continue
			}
			if w == nil || w.Constant() == nil {
				return fmt.Errorf("input %d of %v is no longer constant", k, n)
			}
			if err := zeroed(v.Constant(), w.Constant()); err != nil {
				return fmt.Errorf("input %d of %v: %w", k, n, err)
			}
		}
	}
	return nil
}

// byOutput returns all nodes by their graph and the name of their first output:
// their order may change.
func byOutput(m *onnx.Model) map[string]*onnx.Node {
	out := map[string]*onnx.Node{}
	for i, g := range m.Graphs() {
		for n := range g.Nodes() {
			for _, v := range n.Outputs() {
				if v != nil && v.Name() != "" {
					out[fmt.Sprintf("%d %s", i, v.Name())] = n
					break
				}
			}
		}
	}
	return out
}

func zeroed(before, after *onnx.Tensor) error {
	x, err := before.Bytes()
	if before.DType == onnx.String {
		return nil
	}
	if err != nil {
		return err
	}
	y, err := after.Bytes()
	if err != nil {
		return err
	}
	if bytes.Equal(x, y) {
		return nil
	}
	p, err := before.Float64s()
	if err != nil {
		return err
	}
	q, err := after.Float64s()
	if err != nil {
		return err
	}
	if len(p) != len(q) {
		return fmt.Errorf("%d elements became %d", len(p), len(q))
	}
	for i := range p {
		if q[i] != 0 && q[i] != p[i] {
			return fmt.Errorf("element %d was %v and is %v", i, p[i], q[i])
		}
	}
	return nil
}
