package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// lineOf prints a sample for comparison.
func lineOf(t *testing.T, x *Sample, inputs ...string) string {
	s := x.ID
	for _, name := range inputs {
		in := x.Inputs[name]
		if in != nil && in.DType == onnx.String {
			v, _ := in.Strings()
			s += fmt.Sprintf(" %s%v%q", name, in.Shape, v)
			continue
		}
		s += fmt.Sprintf(" %s%v%v", name, in.Shape, values(t, in))
	}
	if x.Label != nil {
		s += fmt.Sprintf(" label%v%v", x.Label.Shape, values(t, x.Label))
	}
	return s + fmt.Sprintf(" %q %q", x.Slices, x.Sequence)
}

func TestTables(t *testing.T) {
	features := []Port{port("X", onnx.Float, -1, 2)}
	two := []Port{port("ids", onnx.Int64, -1, -1), port("w", onnx.Float, -1)}
	for _, c := range []struct {
		name, text string
		ports      []Port
		kind       LabelKind
		want       []string
	}{
		{"features.csv", "a,b,label,slices,sequence\n1,2.5,0,x|y,s\n\n-3,\"4\",1,,s\n", features, Class, []string{
			`row 0 X[1 2][1 2.5] label[][0] ["x" "y"] "s"`, `row 1 X[1 2][-3 4] label[][1] [] "s"`}},
		{"marked.csv", "\xef\xbb\xbfa,b\r\n1,2\r\n3,4", features, NoLabel, []string{`row 0 X[1 2][1 2] [] ""`, `row 1 X[1 2][3 4] [] ""`}},
		{"named.csv", "w,ids,label,id\n.5,1 2 3,0.5,first\n1,\"[4, 5]\",2,second\n", two, Value, []string{
			`first ids[1 3][1 2 3] w[1][0.5] label[][0.5] [] ""`, `second ids[1 2][4 5] w[1][1] label[][2] [] ""`}},
		{"sets.csv", "a,b,labels\n1,2,3|4\n1,2,5\n", features, ClassSet, []string{
			`row 0 X[1 2][1 2] label[2][3 4] [] ""`, `row 1 X[1 2][1 2] label[1][5] [] ""`}},
		{"quoted \".tsv", "name\ta\tb\tlabel\n\"odd\t1\t2\tcat\n", features, Class, []string{`row 0 X[1 2][1 2] label[][0] [] ""`}},
		{"rows.jsonl", `{"ids": [1, 2], "w": 0.5, "label": [7, 8], "slices": ["u", "v"], "sequence": "q"}` + "\n\n" + `{"w": 1e1, "ids": [3], "label": [9], "slices": [], "sequence": "q"}`,
			two, Positions, []string{`row 0 ids[1 2][1 2] w[1][0.5] label[2][7 8] ["u" "v"] "q"`, `row 1 ids[1 1][3] w[1][10] label[1][9] [] "q"`}},
		{"features.jsonl", `{"b": 1, "a": true, "label": 0.25}` + "\n" + `{"label": 1, "a": 2, "b": 3}` + "\n", features, Value, []string{
			`row 0 X[1 2][1 1] label[][0.25] [] ""`, `row 1 X[1 2][3 2] label[][1] [] ""`}},
		{"nested.jsonl", `{"x": [[1, 2], [3, 4]]}`, []Port{port("x", onnx.Float, -1, 2, 2)}, NoLabel, []string{`row 0 x[1 2 2][1 2 3 4] [] ""`}},
		{"flat.jsonl", `{"x": [1, 2, 3, 4]}`, []Port{port("x", onnx.Uint8, -1, 1, 2, 2)}, NoLabel, []string{`row 0 x[1 1 2 2][1 2 3 4] [] ""`}},
		{"text.jsonl", `{"x": "[a] b"}`, []Port{port("x", onnx.String, -1, 1)}, NoLabel, []string{`row 0 x[1 1]["[a] b"] [] ""`}},
		{"texts.jsonl", `{"x": ["a", "b"]}`, []Port{port("x", onnx.String, -1, -1)}, NoLabel, []string{`row 0 x[1 2]["a" "b"] [] ""`}},
		{"text.csv", "x\n\"a, \"\"b\"\"\"\n", []Port{port("x", onnx.String, -1)}, NoLabel, []string{`row 0 x[1]["a, \"b\""] [] ""`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, map[string][]byte{c.name: []byte(c.text)})
			s := mustOpen(t, filepath.Join(dir, c.name), Options{Inputs: c.ports, Classes: []string{"cat"}})
			names := []string{}
			for _, p := range c.ports {
				names = append(names, p.Name)
			}
			var got []string
			for _, x := range all(t, s) {
				got = append(got, lineOf(t, x, names...))
			}
			if d := cmp.Diff(c.want, got); d != "" || s.Labels() != c.kind {
				t.Errorf("%v %s", s.Labels(), d)
			}
		})
	}
}

// TestTableAtRandom reads rows beyond the first mark in any order, with line
// breaks inside of quotes.
func TestTableAtRandom(t *testing.T) {
	var csv, jsonl strings.Builder
	csv.WriteString("note,x,label\n")
	for i := range 300 {
		fmt.Fprintf(&csv, "\"line\none %d\",%d,%d\n", i, i, i%3)
		fmt.Fprintf(&jsonl, "{\"note\": \"line\", \"x\": %d, \"label\": %d}\n\n", i, i%3)
	}
	dir := write(t, map[string][]byte{"t.csv": []byte(csv.String()), "t.jsonl": []byte(jsonl.String())})
	for _, name := range []string{"t.csv", "t.jsonl"} {
		s := mustOpen(t, filepath.Join(dir, name), Options{Inputs: []Port{port("x", onnx.Int64, -1, 1)}, Shuffle: true})
		if w := s.Warnings(); len(w) != 1 || !strings.Contains(w[0], `column "note"`) {
			t.Errorf("warnings %q", w)
		}
		seen := map[int64]bool{}
		for _, x := range all(t, s) {
			if v := values(t, x.Inputs["x"])[0]; int64(v) != x.Index || values(t, x.Label)[0] != float64(x.Index%3) {
				t.Fatalf("%s: row %d has %g", name, x.Index, v)
			}
			seen[x.Index] = true
		}
		if len(seen) != 300 {
			t.Errorf("%s: %d rows", name, len(seen))
		}
	}
}

func TestTableErrors(t *testing.T) {
	features := []Port{port("X", onnx.Float, -1, 2)}
	for _, c := range []struct {
		name, text string
		o          Options
		want       string
	}{
		{"empty.csv", "", Options{}, "ends within the header line"},
		{"header.csv", "a,b\n", Options{}, "has no rows"},
		{"twice.csv", "a,a\n1,2\n", Options{}, `two columns are named "a"`},
		{"ragged.csv", "a,b\n1,2\n1\n", Options{Inputs: features}, "row 1: wrong number of fields"},
		{"ragged.tsv", "a\tb\n1\n", Options{Inputs: features}, "row 0: 1 fields where the header has 2"},
		{"quote.csv", "a,b\n\"1,2\n3,4\n", Options{Inputs: features}, "row 0: "},
		{"long.csv", "a,b\n\"" + strings.Repeat("1,2\n", 30000) + "\n", Options{Inputs: features, MaxRow: 100}, "a row takes more than 100 bytes"},
		{"long.jsonl", `{"a": "` + strings.Repeat("x", 200) + `"}`, Options{MaxRow: 100}, "a line takes more than 100 bytes"},
		{"word.csv", "a,b\n1,x\n", Options{Inputs: features}, `row 0: feature columns: "x" is not a number`},
		{"gap.csv", "a,b\n1,\n", Options{Inputs: features}, `column "b": "" is not a number`},
		{"few.csv", "a\n1\n", Options{Inputs: features}, "a sample of shape [1] does not fit"},
		{"label.csv", "a,b,label\n1,2,cat\n", Options{Inputs: features}, `row 0: label: "cat" is not a class index`},
		{"nolabel.csv", "a,b,label\n1,2,0\n1,2,\n", Options{Inputs: features}, `row 1: label: it is missing`},
		{"mixed.csv", "a,b,label\n1,2,0\n1,2,\"[1,2]\"\n", Options{Inputs: features}, "a label of kind positions among those of kind class"},
		{"both.csv", "a,b,label,labels\n1,2,0,1\n", Options{Inputs: features}, `both "label" and "labels" could be the labels`},
		{"absent.csv", "a,b\n1,2\n", Options{Inputs: features, Label: "y"}, `no label column "y"`},
		{"other.csv", "a,b\n1,2\n", Options{Inputs: []Port{port("p", onnx.Float, -1, 2), port("q", onnx.Float, -1)}}, `no column for input "p"; the columns are a, b`},
		{"int.csv", "x\n1.5\n", Options{Inputs: []Port{port("x", onnx.Int64, -1)}}, `column "x": "1.5" is not an integer`},
		{"range.csv", "x\n300\n", Options{Inputs: []Port{port("x", onnx.Uint8, -1)}}, "which uint8 cannot hold"},
		{"array.jsonl", `[1]`, Options{}, "the first line is not a JSON object"},
		{"cut.jsonl", `{"x": 1`, Options{}, "row 0: not a JSON object"},
		{"keys.jsonl", "{\"x\": 1}\n{\"y\": 1}", Options{}, `row 1: no key "x"`},
		{"more.jsonl", "{\"x\": 1}\n{\"x\": 1, \"label\": 1}", Options{}, `row 1: key "label" is not in the first line`},
		{"ragged.jsonl", `{"x": [[1], [2, 3]]}`, Options{}, "the array is ragged"},
		{"depth.jsonl", `{"x": [1, [2]]}`, Options{}, "the array is ragged"},
		{"null.jsonl", `{"x": null}`, Options{}, "the value is missing"},
		{"object.jsonl", `{"x": [{}]}`, Options{}, "not a number, text or boolean"},
		{"escape.csv", "file,label\n../secret.png,1\n", Options{}, "not below the table's folder"},
		{"absolute.csv", "file,label\n/etc/passwd,1\n", Options{}, "not below the table's folder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, map[string][]byte{c.name: []byte(c.text)})
			_, err := Open(filepath.Join(dir, c.name), c.o)
			wantError(t, err, c.want)
		})
	}
}

func TestTableShrinks(t *testing.T) {
	path := filepath.Join(write(t, map[string][]byte{"t.csv": []byte("x\n1\n2\n3\n")}), "t.csv")
	s := mustOpen(t, path, Options{Inputs: []Port{port("x", onnx.Float, -1)}})
	if err := os.Truncate(path, 5); err != nil {
		t.Fatal(err)
	}
	_, err := s.Digest(t.Context())
	wantError(t, err, "the file became shorter")
}
