package dataset

import (
	"hash/maphash"
	"io"
	"slices"
)

// twice looks for a sample that a table lists twice, by a digest of 8 bytes of each row's name while the table is indexed.
type twice struct {
	seed maphash.Seed
	sums []uint64
}

func newTwice() *twice { return &twice{seed: maphash.MakeSeed()} }

func (w *twice) add(name string) { w.sums = append(w.sums, maphash.String(w.seed, name)) }

// suspect returns a digest that two rows have.
func (w *twice) suspect() (sum uint64, found bool) {
	sorted := slices.Sorted(slices.Values(w.sums))
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return sorted[i], true
		}
	}
	return 0, false
}

// namesOnce errs where two rows name the same picture and nothing else tells them apart: the sample would count twice, and its labels
// could differ.
func (t *table) namesOnce(f io.ReaderAt, w *twice) error {
	sum, found := w.suspect()
	if !found {
		return nil
	}
	first := map[string]int64{}
	rows := t.form.rows(f, t.first, t.cols, t.limit)
	for i := int64(0); ; i++ {
		rec, _, err := rows.next()
		if err == io.EOF {
			return nil // two names with one digest
		}
		if err != nil {
			return t.errf(i, "%w", err)
		}
		name := rec[t.file].text
		if maphash.String(w.seed, name) != sum {
			continue
		}
		if at, ok := first[name]; ok {
			return t.errf(i, "%q is listed in row %d already; keep one of the two", name, at)
		}
		first[name] = i
	}
}
