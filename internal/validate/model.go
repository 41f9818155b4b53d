package validate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// models describes both model files.
func (v *validation) models(ctx context.Context) error {
	for _, m := range []struct {
		role, path string
		into       *report.Model
	}{{"baseline", v.o.Baseline, &v.r.Baseline}, {"candidate", v.o.Candidate, &v.r.Candidate}} {
		d, doubt, err := describe(ctx, m.path)
		if err != nil {
			return fmt.Errorf("the %s: %w", m.role, err)
		}
		if doubt != nil {
			v.warn("the %s's history is not complete: %v", m.role, doubt)
		}
		*m.into = *d
	}
	if v.r.Baseline.SHA256 == v.r.Candidate.SHA256 {
		v.warn("baseline and candidate are the same file")
	}
	return nil
}

// describe returns what a report says about the model at path; doubt is what was wrong with its history.
func describe(ctx context.Context, path string) (d *report.Model, doubt, err error) {
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	d = &report.Model{Name: filepath.Base(path)}
	c := &contents{}
	for _, g := range m.Graphs() {
		c.graph(g)
	}
	d.Parameters, d.Nodes = c.elements, c.nodes
	subjects, err := attest.HashModel(ctx, path, m.ExternalFiles())
	if err != nil {
		return nil, nil, err
	}
	d.SHA256 = subjects[0].SHA256
	if d.Bytes, err = fileSize(path); err != nil {
		return nil, nil, err
	}
	for _, s := range subjects[1:] {
		n, err := fileSize(filepath.Join(filepath.Dir(path), filepath.FromSlash(s.Name)))
		if err != nil {
			return nil, nil, err
		}
		d.External = append(d.External, report.File{Path: s.Name, SHA256: s.SHA256, Bytes: n})
	}
	d.History, doubt = produce.History(m)
	return d, doubt, nil
}

// ExternalFiles returns the data files that the model at path reads, as paths relative to its folder, with slashes. They need not be there.
func ExternalFiles(path string) ([]string, error) {
	m, err := onnxfile.Open(path, onnxfile.Options{MissingExternalData: true})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return m.ExternalFiles(), nil
}

func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// contents counts what a model holds.
type contents struct{ elements, nodes int64 }

// graph counts one graph, without its subgraphs: nodes, and the elements of its initializers and Constant nodes.
func (c *contents) graph(g *onnx.Graph) {
	for _, v := range g.Initializers() {
		c.tensor(v.Const)
	}
	for _, v := range g.SparseInitializers() {
		c.sparse(v.Sparse)
	}
	for n := range g.Nodes() {
		c.nodes++
		if !n.Is("Constant") {
			continue
		}
		if a := n.Attr("sparse_value"); a != nil && a.Sparse != nil {
			c.sparse(a.Sparse)
		} else if len(n.Outputs()) == 1 {
			c.tensor(n.Outputs()[0].Constant())
		}
	}
}

func (c *contents) sparse(s *onnx.SparseTensor) {
	if s != nil {
		c.tensor(s.Values)
	}
}

func (c *contents) tensor(t *onnx.Tensor) {
	if t == nil {
		return
	}
	if n, ok := t.Elements(); ok {
		c.elements += n
	}
}
