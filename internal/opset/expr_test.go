package opset

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func TestExpressionsAreCanonical(t *testing.T) {
	s := newSymbols(nil)
	n, h := s.expr(onnx.Symbol("N")), s.expr(onnx.Symbol("H"))
	k := constant
	for _, tc := range []struct {
		got  *expr
		want string
	}{
		{add(n, n), "2*N"},
		{add(h, k(4)), "H+4"},
		{sub(add(n, h), n), "H"},
		{mul(add(n, k(1)), add(n, k(-1))), "N*N-1"},
		{sub(h, mul(k(3), n)), "H-3*N"},
		{quotient(mul(n, k(6)), k(3)), "2*N"},
		{quotient(n, k(2)), "N/2"},
		{mul(quotient(n, k(2)), k(4)), "2*N"},
		{quotient(mul(n, h), h), "N"},
		{quotient(mul(n, add(h, k(1))), add(h, k(1))), "N"},
		{floorDiv(sub(h, k(1)), k(2)), "floor((H+1)/2)-1"},
		{floorDiv(add(h, k(1)), k(2)), "floor((H+1)/2)"},
		{neg(floorDiv(neg(h), k(2))), "floor((H+1)/2)"},
		{floorDiv(floorDiv(h, k(2)), k(2)), "floor(H/4)"},
		{floorDiv(add(mul(n, k(4)), k(6)), k(4)), "N+1"},
		{floorDiv(mul(n, k(3)), k(2)), "N+floor(N/2)"},
		{maximum(n, k(0)), "N"},
		{maximum(n, k(1)), "max(1,N)"},
		{maximum(h, n), "max(H,N)"},
		{minimum(add(n, k(2)), n), "N"},
		{truncDiv(k(-7), k(2)), "-3"},
		{modulo(k(-7), k(3)), "2"},
		{quotient(n, k(0)), "?"},
		{mul(k(1<<40), k(1<<40)), "?"},
	} {
		if got := tc.got.String(); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

// value evaluates e; false where a division is not what the atom promises.
func value(e *expr, env map[string]int64) (int64, bool) {
	sum := e.k
	for _, t := range e.terms {
		p := t.c
		for _, a := range t.atoms {
			v := env[a.name]
			if a.kind != symbolAtom {
				x, ok1 := value(a.a, env)
				y, ok2 := value(a.b, env)
				if !ok1 || !ok2 {
					return 0, false
				}
				switch a.kind {
				case exactAtom, floorAtom, truncAtom:
					if y <= 0 || a.kind == exactAtom && x%y != 0 {
						return 0, false
					}
					if v = floorInt(x, y); a.kind == truncAtom {
						v = x / y
					}
				case maxAtom:
					v = max(x, y)
				case minAtom:
					v = min(x, y)
				}
			}
			p *= v
		}
		sum += p
	}
	return sum, true
}

// TestExpressionsCompute builds random expressions and evaluates them beside
// the same arithmetic on numbers; their text must read back as themselves.
func TestExpressionsCompute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSymbols(nil)
		env := map[string]int64{}
		type pair struct {
			e *expr
			n int64
		}
		var pool []pair
		for _, name := range []string{"A", "B", "C"} {
			s.plain[name] = true
			env[name] = rapid.Int64Range(0, 9).Draw(t, name)
			pool = append(pool, pair{s.expr(onnx.Symbol(name)), env[name]})
		}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			a, b := rapid.SampledFrom(pool).Draw(t, "a"), rapid.SampledFrom(pool).Draw(t, "b")
			k := rapid.Int64Range(1, 4).Draw(t, "k")
			var r pair
			switch rapid.IntRange(0, 7).Draw(t, "op") {
			case 0:
				r = pair{add(a.e, b.e), a.n + b.n}
			case 1:
				r = pair{sub(a.e, b.e), a.n - b.n}
			case 2:
				r = pair{mul(a.e, constant(k)), a.n * k}
			case 3:
				r = pair{floorDiv(a.e, constant(k)), floorInt(a.n, k)}
			case 4:
				r = pair{truncDiv(a.e, constant(k)), a.n / k}
			case 5:
				r = pair{maximum(a.e, b.e), max(a.n, b.n)}
			case 6:
				r = pair{minimum(a.e, b.e), min(a.n, b.n)}
			case 7:
				r = pair{add(a.e, constant(k-3)), a.n + k - 3}
			}
			if r.e == nil {
				continue
			}
			if got, ok := value(r.e, env); !ok || got != r.n {
				t.Fatalf("%v with %v is %d, want %d", r.e, env, got, r.n)
			}
			if lo, ok := r.e.least(); ok && r.n < lo {
				t.Fatalf("%v with %v is %d, below its bound %d", r.e, env, r.n, lo)
			}
			if r.e.text != "" {
				fresh := newSymbols(nil)
				fresh.plain = s.plain
				if back := fresh.parse(r.e.text); back.text != r.e.text || back.k != r.e.k {
					t.Fatalf("%v reads back as %v", r.e, back)
				}
			}
			pool = append(pool, r)
		}
	})
}

func TestSymbolNames(t *testing.T) {
	s := newSymbols(map[string]int64{"F": 7})
	s.plain["N"] = true
	for name, want := range map[string]string{"N": "N", "2*N": "2*N", "batch-size": "{batch-size}", "None": "?", "?": "?",
		"": "?", "F": "7", "N+1": "N+1", "1+N": "N+1", "M+1": "{M+1}", "a{b": "{a(b}", "N+": "{N+}"} {
		if got := s.expr(onnx.Symbol(name)).String(); got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}
