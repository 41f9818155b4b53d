package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/profile"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"
)

// difference is the JSON document of diff.
type difference struct {
	Schema    string         `json:"schema"`
	Equal     bool           `json:"equal"`
	Operators []countChange  `json:"operators"` // operators whose number differs
	Inputs    []textChange   `json:"inputs,omitempty"`
	Outputs   []textChange   `json:"outputs,omitempty"`
	Weights   []weightChange `json:"weights,omitempty"`
	Opsets    []textChange   `json:"opsets,omitempty"`
	Bytes     [2]int64       `json:"weight_bytes"`
	Nodes     [2]int         `json:"nodes"`
	Matched   *matching      `json:"matched"` // nodes by the name of their first output
}

type countChange struct {
	Op string `json:"op"`
	A  int    `json:"a"`
	B  int    `json:"b"`
}

type textChange struct {
	Name string `json:"name"`
	A    string `json:"a,omitempty"` // absent where only B has it
	B    string `json:"b,omitempty"`
}

type weightChange struct {
	Name string `json:"name"`
	A    string `json:"a,omitempty"`
	B    string `json:"b,omitempty"`
	Same bool   `json:"same_type"` // only the content differs
}

func (a *app) diffCommand() *cobra.Command {
	var text bool
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Show what differs between two models or two profiles",
		Long: `diff compares operators, inputs, outputs and weights of two models by name and
content. Nodes are matched by the name of their first output: those that compute
it by another operator or with other attributes are listed, -v lists all. --text prints the difference of their text forms, node by node.

Of two profiles, written with profile --format json, it compares counts, times
and memory, and says which operators and nodes got faster or slower. Nodes are
matched across what rewrites and the engine fused.`,
		Example: "  lapidary diff model.onnx fused.onnx\n  lapidary diff before.json after.json",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.diff(args[0], args[1], text)
		},
	}
	c.Flags().BoolVar(&text, "text", false, "print the difference of the text forms")
	return c
}

// diffProfiles compares two profiles.
func (a *app) diffProfiles(pathA, pathB string) error {
	d, err := profile.DiffFiles(pathA, pathB)
	if err != nil {
		return err
	}
	if a.json() {
		return writeJSON(a.env.stdout, d)
	}
	rows := 15
	if a.verbose {
		rows = -1
	}
	return d.Table(a.env.stdout, profile.TableOptions{Width: a.env.columns, Nodes: rows})
}

func (a *app) diff(pathA, pathB string, text bool) error {
	switch first, second := isProfile(pathA), isProfile(pathB); {
	case first && second && text:
		return usagef("--text prints models, and these are profiles")
	case first && second:
		return a.diffProfiles(pathA, pathB)
	case first:
		return usagef("%s is a profile and %s is not: give two models or two profiles", pathA, pathB)
	case second:
		return usagef("%s is a profile and %s is not: give two models or two profiles", pathB, pathA)
	}
	ma, err := onnxfile.Open(pathA, onnxfile.Options{})
	if err != nil {
		return err
	}
	defer ma.Close()
	mb, err := onnxfile.Open(pathB, onnxfile.Options{})
	if err != nil {
		return err
	}
	defer mb.Close()
	if text && !a.json() {
		return a.diffText(pathA, pathB, ma, mb)
	}
	d, err := compareModels(pathA, ma, pathB, mb)
	if err != nil {
		return err
	}
	if a.json() {
		return writeJSON(a.env.stdout, d)
	}
	a.printDifference(d)
	return nil
}

func (a *app) diffText(pathA, pathB string, ma, mb *onnx.Model) error {
	var texts [2]bytes.Buffer
	for i, m := range []*onnx.Model{ma, mb} {
		if err := onnxtext.Format(&texts[i], m, onnxtext.Options{MaxElements: 8}); err != nil {
			return err
		}
	}
	_, err := a.env.stdout.Write(diff.Diff(pathA, texts[0].Bytes(), pathB, texts[1].Bytes()))
	return err
}

func compareModels(pathA string, a *onnx.Model, pathB string, b *onnx.Model) (*difference, error) {
	d := &difference{Schema: schemaURI("diff-v1"), Operators: []countChange{}}
	opsA, opsB := operators(a), operators(b)
	for _, op := range unionKeys(opsA, opsB) {
		d.Nodes[0] += opsA[op]
		d.Nodes[1] += opsB[op]
		if opsA[op] != opsB[op] {
			d.Operators = append(d.Operators, countChange{op, opsA[op], opsB[op]})
		}
	}
	d.Matched = matchNodes(a, b)
	d.Inputs = changes(types(a.Graph.Inputs()), types(b.Graph.Inputs()))
	d.Outputs = changes(types(a.Graph.Outputs()), types(b.Graph.Outputs()))
	d.Opsets = changes(opsets(a), opsets(b))
	wa, na, err := weightTexts(a)
	if err != nil {
		return nil, fmt.Errorf("comparing %s: %w", pathA, err)
	}
	wb, nb, err := weightTexts(b)
	if err != nil {
		return nil, fmt.Errorf("comparing %s: %w", pathB, err)
	}
	d.Bytes = [2]int64{na, nb}
	for _, c := range changes(wa, wb) {
		ta, _, _ := strings.Cut(c.A, " #")
		tb, _, _ := strings.Cut(c.B, " #")
		d.Weights = append(d.Weights, weightChange{c.Name, ta, tb, ta == tb})
	}
	d.Equal = len(d.Operators)+len(d.Inputs)+len(d.Outputs)+len(d.Weights)+len(d.Opsets)+d.Matched.differ() == 0
	if d.Equal { // the same parts may still be connected in another way
		d.Equal, err = sameGraph(a, b)
	}
	return d, err
}

// sameGraph compares the text forms without constants and metadata.
func sameGraph(a, b *onnx.Model) (bool, error) {
	var texts [2]bytes.Buffer
	for i, m := range []*onnx.Model{a, b} {
		c := m.Clone()
		c.Meta, c.ProducerName, c.ProducerVersion, c.Doc = nil, "", "", ""
		if err := onnxtext.Format(&texts[i], c, onnxtext.Options{MaxElements: 1}); err != nil {
			return false, err
		}
	}
	return bytes.Equal(texts[0].Bytes(), texts[1].Bytes()), nil
}

func operators(m *onnx.Model) map[string]int {
	out := map[string]int{}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			op := n.Op
			if d := onnx.NormalDomain(n.Domain); d != "" {
				op = d + "." + op
			}
			out[op]++
		}
	}
	return out
}

func types(list []*onnx.Value) map[string]string {
	out := map[string]string{}
	for _, v := range list {
		out[v.Name()] = v.Type.String()
	}
	return out
}

func opsets(m *onnx.Model) map[string]string {
	out := map[string]string{}
	for _, o := range m.Opsets {
		name := onnx.NormalDomain(o.Domain)
		if name == "" {
			name = "ai.onnx"
		}
		out[name] = fmt.Sprint(o.Version)
	}
	return out
}

func changes(a, b map[string]string) []textChange {
	var out []textChange
	for _, name := range unionKeys(a, b) {
		if a[name] != b[name] {
			out = append(out, textChange{name, a[name], b[name]})
		}
	}
	return out
}

func unionKeys[V any](a, b map[string]V) []string {
	var out []string
	for k := range a {
		out = append(out, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

func (a *app) printDifference(d *difference) {
	w := a.env.stdout
	if d.Equal {
		fmt.Fprintln(w, "the models are equal")
		return
	}
	fmt.Fprintf(w, "nodes %d → %d, weights %s → %s\n", d.Nodes[0], d.Nodes[1], bytesText(d.Bytes[0]), bytesText(d.Bytes[1]))
	for _, c := range d.Operators {
		fmt.Fprintf(w, "  %-32s %5d → %-5d %+d\n", c.Op, c.A, c.B, c.B-c.A)
	}
	for _, s := range []struct {
		what string
		list []textChange
	}{{"opset", d.Opsets}, {"input", d.Inputs}, {"output", d.Outputs}} {
		for _, c := range s.list {
			fmt.Fprintf(w, "  %s %s: %s → %s\n", s.what, c.Name, orNone(c.A), orNone(c.B))
		}
	}
	d.Matched.print(w, a.verbose)
	d.printWeights(w, a.verbose)
}

// printWeights prints how the constants differ; all of them where asked.
func (d *difference) printWeights(w io.Writer, all bool) {
	var onlyA, onlyB, content, typ int
	for _, c := range d.Weights {
		switch {
		case c.B == "":
			onlyA++
		case c.A == "":
			onlyB++
		case c.Same:
			content++
		default:
			typ++
		}
	}
	if len(d.Weights) > 0 {
		fmt.Fprintf(w, "  constants: %d only in A, %d only in B, %d of other content, %d of another type\n", onlyA, onlyB, content, typ)
	}
	if all {
		for _, c := range d.Weights {
			fmt.Fprintf(w, "    %s: %s → %s\n", c.Name, orNone(c.A), orNone(c.B))
		}
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
