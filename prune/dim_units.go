package prune

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// place is one position of one labelled axis.
type place struct{ axis, position int }

// unit is what goes together: the places of one class.
type unit struct {
	root   int32
	places []place
}

// group is units that are alike: each has as many places on each of the same
// axes, as the channels of one convolution have.
type group struct {
	name  string // the node whose output the units are
	op    string
	units []unit
	heads bool       // the units are attention heads
	norm  *onnx.Node // takes mean or variance over the units; nil if none does
	conv  bool       // a convolution has the units as channels
	axes  []int      // the axes on which the units have places
	out   int        // the axis that names the group
}

// groups returns the units that can go, by group, in order of the graph.
func (d *dims) groups() []*group {
	units := d.units()
	bySignature := map[string]*group{}
	var out []*group
	for _, u := range units {
		axes, signature := d.signature(u)
		g := bySignature[signature]
		if g == nil {
			if g = d.describe(axes); g == nil {
				continue
			}
			bySignature[signature] = g
			out = append(out, g)
		}
		g.units = append(g.units, u)
	}
	return out
}

// units returns the classes without a pin, in order of their first label.
func (d *dims) units() []unit {
	at := map[int32]int{}
	var out []unit
	for i, a := range d.axes {
		if a.Value == nil {
			continue
		}
		for k := range a.size {
			root := d.find(int32(a.base + k))
			if _, no := d.pinned[root]; no {
				continue
			}
			j, seen := at[root]
			if !seen {
				j = len(out)
				at[root] = j
				out = append(out, unit{root: root})
			}
			out[j].places = append(out[j].places, place{i, k})
		}
	}
	return out
}

// signature returns the axes of a unit and a text that tells which they are and
// how many places each has.
func (d *dims) signature(u unit) ([]int, string) {
	var axes []int
	var b strings.Builder
	count := 0
	for i, p := range u.places {
		if i == 0 || p.axis != axes[len(axes)-1] {
			if i > 0 {
				fmt.Fprintf(&b, "%d,", count)
			}
			axes = append(axes, p.axis)
			fmt.Fprintf(&b, "%d:", p.axis)
			count = 0
		}
		count++
	}
	fmt.Fprintf(&b, "%d", count)
	return axes, b.String()
}

// describe returns the group of units on these axes; nil where they have no
// weights or are nowhere computed, so that nothing would be gained.
func (d *dims) describe(axes []int) *group {
	g := &group{axes: axes, out: -1}
	weights := false
	for _, i := range axes {
		v := d.axes[i].Value
		if v.Constant() != nil {
			weights = weights || v.Constant().DType.IsFloat()
			for _, u := range v.Uses() {
				g.conv = g.conv || strings.Contains(u.Node.Op, "Conv")
			}
			continue
		}
		g.heads = g.heads || d.heads[i]
		if n := d.statistics[i]; n != nil && g.norm == nil {
			g.norm = n
		}
		if p := v.Producer(); p != nil && (g.out < 0 || computes(p) && !computes(d.axes[g.out].Value.Producer())) {
			g.out = i
		}
	}
	if !weights || g.out < 0 {
		return nil
	}
	n := d.axes[g.out].Value.Producer()
	g.name, g.op = nodeName(n), n.Op
	return g
}

// weighted are the operators that multiply by weights.
var weighted = []string{"Conv", "ConvTranspose", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Einsum", "LSTM", "GRU", "RNN", "Attention"}

func computes(n *onnx.Node) bool { return slices.Contains(weighted, n.Op) }

func nodeName(n *onnx.Node) string {
	if n.Name != "" {
		return n.Name
	}
	return nodeKey(n)
}
