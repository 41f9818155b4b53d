package opset

import (
	"slices"
	"sync"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Op is what is known of an operator at one version of its domain.
type Op struct {
	Domain   string // "" for the standard domain
	Name     string
	Since    int64   // the version that brought this form
	Versions []int64 // every version that changed the operator, ascending
	Inputs   []Slot
	Outputs  []Slot
	Attrs    []AttrSpec
	Flags    Flags

	infer func(*call)
	cost  func(*costing)
}

// Slot is one formal input or output.
type Slot struct {
	Name     string
	Optional bool
	Variadic bool // the last slot, repeated
	AtLeast  int  // variadic: the least number of arguments
}

// AttrSpec is one attribute of an operator.
type AttrSpec struct {
	Name     string
	Type     onnx.AttrType
	Required bool
	Default  *onnx.Attr // nil where there is none
}

// Flags say what a rewrite needs to know of an operator. The zero value is a
// deterministic function of its inputs that is not commutative.
type Flags uint8

const (
	// Commutative: the first two inputs may be swapped.
	Commutative Flags = 1 << iota
	// Random: two calls with equal inputs may differ.
	Random
	// SideEffect: a call does more than produce its outputs.
	SideEffect
	// Elementwise: each output element depends only on the input elements at
	// the same place after broadcasting.
	Elementwise
	// Subgraphs: the operator runs graphs held by its attributes.
	Subgraphs
	// Deprecated: the operator is deprecated at this version.
	Deprecated
)

// Commutative reports whether the first two inputs may be swapped.
func (o *Op) Commutative() bool { return o.Flags&Commutative != 0 }

// Deterministic reports whether equal inputs always give equal outputs.
func (o *Op) Deterministic() bool { return o.Flags&Random == 0 }

// SideEffect reports whether a call does more than produce its outputs.
func (o *Op) SideEffect() bool { return o.Flags&SideEffect != 0 }

// Elementwise reports whether each output element depends only on the input
// elements at the same place after broadcasting.
func (o *Op) Elementwise() bool { return o.Flags&Elementwise != 0 }

// Attr returns the specification of an attribute, nil if the operator has none
// of that name at this version.
func (o *Op) Attr(name string) *AttrSpec {
	for i := range o.Attrs {
		if o.Attrs[i].Name == name {
			return &o.Attrs[i]
		}
	}
	return nil
}

// Input returns the slot that argument i fills, nil if there is none.
func (o *Op) Input(i int) *Slot { return slotAt(o.Inputs, i) }

// Output returns the slot that output i fills, nil if there is none.
func (o *Op) Output(i int) *Slot { return slotAt(o.Outputs, i) }

func slotAt(slots []Slot, i int) *Slot {
	switch {
	case i < 0 || len(slots) == 0:
		return nil
	case i < len(slots):
		return &slots[i]
	case slots[len(slots)-1].Variadic:
		return &slots[len(slots)-1]
	}
	return nil
}

// Int returns n's int attribute, or the operator's default, or 0.
func (o *Op) Int(n *onnx.Node, name string) int64 {
	if s := o.Attr(name); s != nil && s.Default != nil {
		return n.Int(name, s.Default.I)
	}
	return n.Int(name, 0)
}

// Float returns n's float attribute, or the operator's default, or 0.
func (o *Op) Float(n *onnx.Node, name string) float32 {
	if s := o.Attr(name); s != nil && s.Default != nil {
		return n.Float(name, s.Default.F)
	}
	return n.Float(name, 0)
}

// Str returns n's string attribute, or the operator's default, or "".
func (o *Op) Str(n *onnx.Node, name string) string {
	if s := o.Attr(name); s != nil && s.Default != nil {
		return n.Str(name, string(s.Default.S))
	}
	return n.Str(name, "")
}

// Lookup returns the form of an operator that is in force at a version of its
// domain; nil where there is no row, or the operator came later. Version 0, a
// domain that the model does not import, gives the first form of a standard
// operator and the latest of another.
func Lookup(domain, op string, version int64) *Op {
	domain = onnx.NormalDomain(domain)
	forms := table()[opKey{domain, op}]
	if version == 0 && domain != "" && len(forms) > 0 {
		return forms[len(forms)-1]
	}
	version = max(version, 1)
	i, found := slices.BinarySearchFunc(forms, version, func(o *Op, v int64) int { return int(o.Since - v) })
	if found {
		return forms[i]
	}
	if i == 0 {
		return nil
	}
	return forms[i-1]
}

// All returns every operator of the table in its latest form, by domain and name.
func All() []*Op {
	var out []*Op
	for _, forms := range table() {
		out = append(out, forms[len(forms)-1])
	}
	slices.SortFunc(out, func(a, b *Op) int {
		if a.Domain != b.Domain {
			return compareText(a.Domain, b.Domain)
		}
		return compareText(a.Name, b.Name)
	})
	return out
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

type opKey struct{ domain, name string }

// rows holds the table, built at the first look-up.
var rows struct {
	once sync.Once
	ops  map[opKey][]*Op
}

// table maps each operator to its forms, by version.
func table() map[opKey][]*Op {
	rows.once.Do(func() { rows.ops = buildTable(families()) })
	return rows.ops
}

func buildTable(list []family) map[opKey][]*Op {
	t := map[opKey][]*Op{}
	for _, family := range list {
		for _, r := range family.rows {
			key := opKey{family.domain, r.name}
			if _, dup := t[key]; dup {
				panic("opset: two rows for " + family.domain + "." + r.name)
			}
			t[key] = r.forms(family.domain)
		}
	}
	return t
}

// family is the rows of one file.
type family struct {
	domain string
	rows   []row
}

// families lists the rows of the package.
func families() []family {
	return []family{
		{"", elementwiseRows()},
		{"", constantRows()},
		{"", shapeRows()},
		{"", gatherRows()},
		{"", matmulRows()},
		{"", convRows()},
		{"", reduceRows()},
		{"", normRows()},
		{"", quantRows()},
		{"", rnnRows()},
		{"", linalgRows()},
		{"", imageRows()},
		{"", sequenceRows()},
		{"", signalRows()},
		{"", randomRows()},
		{"", attentionRows()},
		{"", legacyRows()},
		{"ai.onnx.ml", mlRows()},
		{"ai.onnx.preview.training", trainingRows()},
		{"com.microsoft", contribRows()},
		{"com.microsoft", contribAttentionRows()},
		{"com.microsoft", contribQuantRows()},
		{"", controlRows()},
	}
}
