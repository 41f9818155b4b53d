package report

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestTextFitsATerminal holds every line to 80 columns, whatever the names, with the verdict first and last.
func TestTextFitsATerminal(t *testing.T) {
	long := sample()
	for i := range long.Gates {
		long.Gates[i].Name = strings.Repeat("wide", 30)
	}
	long.Accuracy.Metric = strings.Repeat("metric", 20)
	long.Explanation.Method = strings.Repeat("a method of many words ", 20)
	for name, r := range map[string]*Report{"sample": sample(), "hostile": hostile(), "minimal": {}, "many": manyOf(50), "long": long, "passed": passed()} {
		text := r.Text()
		for _, line := range strings.Split(string(text), "\n") {
			if utf8.RuneCountInString(line) > textWidth {
				t.Errorf("%s: %d columns: %s", name, utf8.RuneCountInString(line), line)
			}
		}
		word := strings.ToUpper(verdictWord(r.Verdict))
		if !bytes.HasPrefix(text, []byte(word+"  ")) || !bytes.HasSuffix(text, []byte("\nverdict: "+strings.ToLower(word)+"\n")) {
			t.Errorf("%s: the verdict is not first and last:\n%s", name, text)
		}
	}
}

func TestWriteWrapped(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "\n",
		"  a  b":                            "  a  b\n",
		strings.Repeat("x", 80):             strings.Repeat("x", 80) + "\n",
		strings.Repeat("x", 81):             strings.Repeat("x", 80) + "\n  x\n",
		strings.Repeat("word ", 20):         strings.Repeat("word ", 15) + "word\n  word word word word\n",
		"    " + strings.Repeat("y", 100):   "    " + strings.Repeat("y", 76) + "\n  " + strings.Repeat("y", 24) + "\n",
		"name  " + strings.Repeat("é ", 40): "name  " + strings.Repeat("é ", 36) + "é\n  é é é\n",
	} {
		var b bytes.Buffer
		writeWrapped(&b, "  ", in)
		if b.String() != want {
			t.Errorf("%q becomes\n%q, want\n%q", in, b.String(), want)
		}
	}
}
