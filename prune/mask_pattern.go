package prune

import (
	"fmt"
	"strconv"
	"strings"
)

// maskPattern says which weights become zero together. The zero value is
// unstructured: each by itself.
type maskPattern struct {
	n, m       int // n:m, at most n of m weights in a row that are summed are not zero; m 0: not this
	rows, cols int // a block of so many weights that are summed, for so many outputs; 0: not this
}

// maskForms says what patterns of masks look like.
const maskForms = "unstructured, N:M such as 2:4, or block:RxC such as block:4x1"

// parseMask reads a pattern.
func parseMask(text string) (maskPattern, error) {
	if text == "" || text == "unstructured" {
		return maskPattern{}, nil
	}
	size, block := strings.CutPrefix(text, "block:")
	separator := ":"
	if block {
		separator = "x"
	}
	x, y, ok := strings.Cut(size, separator)
	a, err1 := strconv.Atoi(x)
	b, err2 := strconv.Atoi(y)
	switch {
	case !ok || err1 != nil || err2 != nil:
		return maskPattern{}, fmt.Errorf("pattern %q is unknown; want %s", text, maskForms)
	case block && (a < 1 || b < 1 || a > maxBlock || b > maxBlock):
		return maskPattern{}, fmt.Errorf("pattern %q: a block has 1 to %d weights along each side", text, maxBlock)
	case block:
		return maskPattern{rows: a, cols: b}, nil
	case a < 1 || b <= a || b > maxGroup:
		return maskPattern{}, fmt.Errorf("pattern %q: of M weights, 2 to %d, N from 1 to M−1 stay", text, maxGroup)
	}
	return maskPattern{n: a, m: b}, nil
}

// Bounds of patterns.
const (
	maxGroup = 1 << 10
	maxBlock = 1 << 12
)

// grouped reports whether the pattern is N:M.
func (p maskPattern) grouped() bool { return p.m > 0 }

// blocked reports whether weights go in blocks.
func (p maskPattern) blocked() bool { return p.rows > 0 }

// unit is how many weights that are summed belong together.
func (p maskPattern) unit() int { return max(p.m, p.rows, 1) }

func (p maskPattern) String() string {
	switch {
	case p.grouped():
		return fmt.Sprintf("%d:%d", p.n, p.m)
	case p.blocked():
		return fmt.Sprintf("block:%dx%d", p.rows, p.cols)
	}
	return "unstructured"
}
