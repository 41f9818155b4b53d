package report

import (
	"math"
	"reflect"
)

// Num returns a pointer to v, or nil where v is NaN or infinite: what cannot be stated is absent.
func Num(v float64) *float64 {
	if !isFinite(v) {
		return nil
	}
	return &v
}

// Count returns a pointer to n, for counts whose zero says something.
func Count[T int | int64](n T) *T { return &n }

// CI returns the interval [lo, hi], or nil where an end is NaN or infinite.
func CI(lo, hi float64) *Interval {
	if !isFinite(lo) || !isFinite(hi) {
		return nil
	}
	return &Interval{lo, hi}
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// statable reports whether the value holds every number that it must have.
func (q Quantile) statable() bool  { return isFinite(q.BaselineMS) && isFinite(q.CandidateMS) }
func (b Bounds) statable() bool    { return isFinite(b.BaselineMS) && isFinite(b.CandidateMS) }
func (iv Interval) statable() bool { return isFinite(iv[0]) && isFinite(iv[1]) }
func (h Histogram) statable() bool {
	return allFinite(h.EdgesMS) && len(h.Baseline) > 0 && len(h.Candidate) > 0
}
func (s Series) statable() bool { return allFinite(s.BaselineMS) && allFinite(s.CandidateMS) }
func (m Map) statable() bool    { return allFinite(m.Baseline) && allFinite(m.Candidate) }

// allFinite reports whether there are numbers and all of them are finite.
func allFinite(vs []float64) bool {
	for _, v := range vs {
		if !isFinite(v) {
			return false
		}
	}
	return len(vs) > 0
}

// Normalize removes every optional number, interval, quantile, histogram and map that holds NaN or an infinity or lacks its numbers, and states the
// times in UTC without a monotonic reading. After it the report can be encoded unless a gate's threshold is not finite.
func (r *Report) Normalize() {
	r.Started = r.Started.UTC().Round(0)
	r.Finished = r.Finished.UTC().Round(0)
	normalize(reflect.ValueOf(r).Elem())
}

func normalize(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				normalize(v.Field(i))
			}
		}
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if !statable(v.Elem()) {
			v.SetZero()
			return
		}
		normalize(v.Elem())
	case reflect.Slice:
		kept := 0
		for i := range v.Len() {
			if !statable(v.Index(i)) {
				continue
			}
			v.Index(kept).Set(v.Index(i))
			normalize(v.Index(kept))
			kept++
		}
		if kept < v.Len() {
			v.Set(v.Slice(0, kept))
		}
	}
}

func statable(v reflect.Value) bool {
	if v.Kind() == reflect.Float64 {
		return isFinite(v.Float())
	}
	if f, ok := v.Interface().(interface{ statable() bool }); ok {
		return f.statable()
	}
	return true
}
