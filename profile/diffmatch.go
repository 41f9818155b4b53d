package profile

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// finish states each group's change and puts the largest first.
func finish(list []DiffGroup, total float64) {
	for i := range list {
		g := &list[i]
		g.Change = g.BMS - g.AMS
		if total != 0 {
			g.Share = g.Change / total
		}
	}
	slices.SortStableFunc(list, func(a, b DiffGroup) int {
		return first(cmp.Compare(math.Abs(b.Change), math.Abs(a.Change)), cmp.Compare(a.Name, b.Name))
	})
}

// operatorGroups matches operators by name.
func operatorGroups(a, b []GroupTime) []DiffGroup {
	at, out := map[string]int{}, []DiffGroup{}
	place := func(name string) *DiffGroup {
		i, seen := at[name]
		if !seen {
			i = len(out)
			at[name] = i
			out = append(out, DiffGroup{Name: name})
		}
		return &out[i]
	}
	for _, g := range a {
		place(g.Name).AMS += g.MS
	}
	for _, g := range b {
		place(g.Name).BMS += g.MS
	}
	return out
}

// nodeGroups matches timed nodes: two belong together if they stand for nodes of
// the models that do. It returns the groups and the share of the time in those
// that both sides have.
func nodeGroups(a, b *diffDocument) ([]DiffGroup, float64) {
	u := &union{parent: map[string]string{}}
	graphs := [2]*diffGraph{newDiffGraph(0, a), newDiffGraph(1, b)}
	relate(u, graphs[0], graphs[1])
	sides := [2][]diffNode{a.Timed.Nodes, b.Timed.Nodes}
	for side, nodes := range sides {
		for i := range nodes {
			names := graphs[side].standsFor(&nodes[i])
			for _, n := range names[1:] {
				u.join(keyOf(side, names[0]), keyOf(side, n))
			}
		}
	}
	at, out := map[string]int{}, []DiffGroup{}
	for side, nodes := range sides {
		for i := range nodes {
			n := &nodes[i]
			name := graphs[side].standsFor(n)[0]
			root := u.find(keyOf(side, name))
			k, seen := at[root]
			if !seen {
				k = len(out)
				at[root] = k
				out = append(out, DiffGroup{Name: name})
			}
			g, text := &out[k], n.Name+" ("+n.Op+")"
			if side == 0 {
				g.A, g.AMS = append(g.A, text), g.AMS+n.MS
			} else {
				g.B, g.BMS = append(g.B, text), g.BMS+n.MS
			}
		}
	}
	var total, matched float64
	for _, g := range out {
		total += g.AMS + g.BMS
		if len(g.A) > 0 && len(g.B) > 0 {
			matched += g.AMS + g.BMS
		}
	}
	if total == 0 {
		return out, 0
	}
	return out, min(1, matched/total)
}

// standsFor returns the names of the model's nodes that a timed node stands for
// or serves. Where the profile does not tell, an engine's name that begins with
// that of a node or a value, as x_nchwc does, is taken for that node; else the
// name stands for itself.
func (g *diffGraph) standsFor(n *diffNode) []string {
	switch {
	case len(n.Covers) > 0:
		return n.Covers
	case n.Original != "":
		return []string{n.Original}
	case n.Serves != "":
		return []string{n.Serves}
	}
	name := joinPath(n.Inside, n.Name)
	for cut := name; cut != ""; cut = cut[:max(0, strings.LastIndexAny(cut, "_/"))] {
		if g.known[cut] {
			return []string{cut}
		}
		if row, ok := g.givers[cut]; ok {
			return []string{g.labels[row]}
		}
	}
	return []string{name}
}

func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

// keyOf tells names of the two sides apart.
func keyOf(side int, name string) string { return strconv.Itoa(side) + name }

// diffGraph is one side's model: its nodes, and who computes a value.
type diffGraph struct {
	side   int
	rows   []diffRow
	labels []string        // of rows, as times call them
	known  map[string]bool // labels
	givers map[string]int
}

func newDiffGraph(side int, d *diffDocument) *diffGraph {
	g := &diffGraph{side: side, known: map[string]bool{}, givers: map[string]int{}}
	if d.Static == nil {
		return g
	}
	var l labeller
	g.rows = d.Static.Nodes
	for i, r := range g.rows {
		g.labels = append(g.labels, l.label(r.Name, r.Op, r.Path))
		g.known[g.labels[i]] = true
		for _, v := range r.Gives {
			if v != "" {
				g.givers[joinPath(r.Path, v)] = i
			}
		}
	}
	return g
}

// labeller gives nodes, in the order of the file, the names that times have: a
// node without one goes by its operator and its place in its graph.
type labeller struct{ place map[string]int }

func (l *labeller) label(name, op, path string) string {
	if l.place == nil {
		l.place = map[string]int{}
	}
	if name == "" {
		name = plainOperator(op) + "_" + strconv.Itoa(l.place[path])
	}
	l.place[path]++
	return joinPath(path, name)
}

// plainOperator is an operator without its domain.
func plainOperator(op string) string { return op[strings.LastIndexByte(op, '.')+1:] }

func (g *diffGraph) key(row int) string { return keyOf(g.side, g.labels[row]) }

// relate joins the nodes of b with those of a whose work they do.
func relate(u *union, a, b *diffGraph) {
	stands := b.standIns(a)
	exists := func(value string) bool { _, own := b.givers[value]; _, stood := stands[value]; return own || stood }
	taken := make([]bool, len(a.rows))
	claim := func(row, by int) {
		todo := []int{row}
		for len(todo) > 0 {
			r := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if taken[r] {
				continue
			}
			taken[r] = true
			u.join(a.key(r), b.key(by))
			for _, v := range a.rows[r].Reads {
				v = joinPath(a.rows[r].Path, v)
				if p, ok := a.givers[v]; ok && !exists(v) {
					todo = append(todo, p)
				}
			}
		}
	}
	for i, r := range b.rows {
		for _, v := range r.Gives {
			if row, ok := a.givers[joinPath(r.Path, v)]; ok && v != "" {
				claim(row, i)
			}
		}
	}
	for _, value := range slices.Sorted(maps.Keys(stands)) {
		claim(a.givers[value], stands[value])
	}
	labels := map[string]int{}
	for i, l := range a.labels {
		labels[l] = i
	}
	for i, l := range b.labels { // what is left goes by name
		if row, ok := labels[l]; ok && !taken[row] {
			u.join(a.key(row), b.key(i))
		}
	}
}

// standIns returns the nodes of g that a rewrite put in the place of a value
// that only a has, by that value: x_Op and x_Op_1 stand for x.
func (g *diffGraph) standIns(a *diffGraph) map[string]int {
	out := map[string]int{}
	for i, r := range g.rows {
		for _, v := range r.Gives {
			v = joinPath(r.Path, v)
			if _, both := a.givers[v]; both {
				continue
			}
			if base := strings.TrimRight(v, "0123456789"); len(base) < len(v) && strings.HasSuffix(base, "_") {
				v = base[:len(base)-1]
			}
			old := strings.TrimSuffix(v, "_"+plainOperator(r.Op))
			_, was := a.givers[old]
			if _, is := g.givers[old]; old != v && was && !is {
				out[old] = i
			}
		}
	}
	return out
}

// union is a disjoint-set forest over names.
type union struct{ parent map[string]string }

func (u *union) find(name string) string {
	for {
		p, ok := u.parent[name]
		if !ok || p == name {
			return name
		}
		if g, ok := u.parent[p]; ok {
			u.parent[name] = g // halve the path
		}
		name = p
	}
}

func (u *union) join(a, b string) {
	if a, b = u.find(a), u.find(b); a != b {
		u.parent[b] = a
	}
}
