package eval

import "github.com/lapidary-ml/lapidary/internal/onnx"

// operator is how one operator is computed in a range of versions.
type operator struct {
	name     string
	from, to int64  // opset versions
	attrs    string // the attributes it understands, separated by spaces
	do       func(*call) []*array
}

// latest is the newest version of the standard operators that this package
// knows; later ones may mean something else.
const latest = 26

// lookup returns the row for the node or refuses it.
func (c *call) lookup() *operator {
	rows := standard(c.n.Op)
	if onnx.NormalDomain(c.n.Domain) != "" {
		rows = nil
	}
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

// standard returns the rows of an operator of the standard domain.
func standard(op string) []operator {
	for _, family := range [][]operator{moveOperators(), shapeOperators(), arithmeticOperators(), elementwiseOperators(),
		relationOperators(), fillOperators(), reduceOperators(), productOperators(), castOperators(), controlOperators()} {
		var rows []operator
		for _, o := range family {
			if o.name == op {
				rows = append(rows, o)
			}
		}
		if rows != nil {
			return rows
		}
	}
	return nil
}
