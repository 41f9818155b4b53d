package eval

import (
	"sync"
)

// operator is how one operator is computed in a range of versions.
type operator struct {
	name     string
	from, to int64  // opset versions
	attrs    string // the attributes it understands, separated by spaces
	do       func(*call) []*array
}

// latest is the newest version of the standard operators that this package
// knows; later ones may mean something else.
const latest = 27

// lookup returns the row for the node or refuses it.
func (c *call) lookup() *operator {
	table.once.Do(fillTable)
	rows := table.rows[opName(c.n)]
	if len(rows) == 0 {
		c.unsupported("the operator is not known")
	}
	for i := range rows {
		if c.version >= rows[i].from && c.version <= rows[i].to {
			return &rows[i]
		}
	}
	c.unsupported("version %d of the operator is not known", c.version)
	return nil
}

// table has all rows by operator, named as [opName] does.
var table struct {
	once sync.Once
	rows map[string][]operator
}

func fillTable() {
	table.rows = map[string][]operator{}
	add := func(prefix string, families ...[]operator) {
		for _, rows := range families {
			for _, o := range rows {
				table.rows[prefix+o.name] = append(table.rows[prefix+o.name], o)
			}
		}
	}
	add("", moveOperators(), shapeOperators(), arithmeticOperators(), elementwiseOperators(), activationOperators(),
		relationOperators(), fillOperators(), reduceOperators(), productOperators(), castOperators(), controlOperators(),
		convOperators(), poolOperators(), normOperators(), channelNormOperators(), softmaxOperators(), numericOperators(),
		arrangeOperators(), indexOperators(), padOperators(), einsumOperators(), resizeOperators(), orderOperators(), attentionOperators(),
		quantOperators(), quantProductOperators(), recurrentOperators(), lossOperators(), sequenceOperators())
	add("com.microsoft.", contribOperators(), contribAttentionOperators(), contribQuantOperators())
}
