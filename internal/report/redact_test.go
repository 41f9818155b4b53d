package report

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// marked puts a marker into every field of the sample that may hold a name.
func marked(marker string) *Report {
	r := sample()
	for _, name := range r.names() {
		*name = marker + *name
	}
	for i := range r.Accuracy.Slices {
		r.Accuracy.Slices[i].Name = "class=" + marker
	}
	r.Warnings = []string{
		`the node "` + marker + `/conv" was not verified`, "data " + marker + "val.npz: array serves no input", "reading /home/" + marker + "/x: no such file",
		"output " + marker + "logits is not finite", "it says '" + marker + "' in quotes",
	}
	r.Skipped = []Skip{{"latency", "the candidate failed: node " + marker + "/conv: out of memory"}}
	r.Latency.Noise.Warnings = []string{"the folder " + marker + "/x was busy"}
	r.Tool.Command = "lapidary validate " + marker + ".onnx b.onnx --label=" + marker + " --max-drop=1pt --state=" + marker + "=in"
	r.Candidate.History[1].Options = []string{"--sparsity=0.3", "--keep=" + marker}
	return r
}

// TestRedactInEveryForm holds that no form of a redacted report has a name, and
// that the same report shows them otherwise.
func TestRedactInEveryForm(t *testing.T) {
	const marker = "Zq9marker"
	words := []string{marker + "/conv", marker + "logits", marker}
	plain, redacted := marked(marker), marked(marker)
	redacted.Redact([]byte("key"), words)
	if data, err := redacted.JSON(); err != nil || bytes.Contains(data, []byte(marker)) {
		t.Fatalf("%v\n%s", err, around(data, marker))
	}
	shown := 0
	for _, f := range Formats() {
		before, err := f.Render(plain, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(before, []byte(marker)) {
			shown++
		}
		after, err := f.Render(redacted, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(after, []byte(marker)) {
			t.Errorf("%s has a name: %s", f.File, around(after, marker))
		}
	}
	if shown < 5 || bytes.Contains(redacted.Text(), []byte(marker)) {
		t.Errorf("%d forms show names where nothing is redacted; the text has one: %v", shown, bytes.Contains(redacted.Text(), []byte(marker)))
	}
}

// TestRedactKeepsNumbers compares all that is no text.
func TestRedactKeepsNumbers(t *testing.T) {
	before, after := numbers(t, sample()), sample()
	after.Redact([]byte("key"), nil)
	if got := numbers(t, after); !reflect.DeepEqual(before, got) {
		t.Error("a number or digest changed")
	}
	if after.Baseline.SHA256 != sample().Baseline.SHA256 || after.Environment.CPU != sample().Environment.CPU || after.Policy.Locked.Name != sample().Policy.Locked.Name {
		t.Error("more than names was redacted")
	}
}

func numbers(t *testing.T, r *Report) (out []any) {
	data, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	for {
		tok, err := d.Token()
		if err != nil {
			return out
		}
		if _, text := tok.(string); !text {
			out = append(out, tok)
		}
	}
}

// mayStay are the fields whose text is no name of a file, a node, a class, a slice or a sample: digests, versions, enumerations, the
// machine, and what a policy says. A new field of text is either redacted or added here.
var mayStay = regexp.MustCompile(`^(schema|schemaVersion|seed|started|finished|verdict|tool\.(name|version|sha256)|environment\..*|policy\..*|gates\..*` +
	`|.*sha256|data\.(origin|digest|preprocess|preprocess_digest)|.*history\.(command|options|tool|input_sha256|calibration_sha256)|accuracy\.(task|metric|better|ci_method)` +
	`|accuracy\.(perplexity|metrics|topk|nll|brier)\.(name|better|ci_method)|.*background_digest|.*\.ci_method|latency\.energy\.counter|skipped\.section|skipped\.reason|warnings|latency\.noise\.warnings` +
	`|latency\.(stopped|throughput\.severe|noise\.(severe|gpu_limits)|self_test\.(measured|cpu|device))` +
	`|explanation(\.others)?\.(method|fill|target|features_of|how|calibrated\.how))$`)

// TestRedactEveryText holds that no other text of the sample, which sets every field, stays as it is.
func TestRedactEveryText(t *testing.T) {
	texts := func(r *Report) map[string][]string {
		data, err := r.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(data, &tree); err != nil {
			t.Fatal(err)
		}
		out := map[string][]string{}
		var walk func(path string, v any)
		walk = func(path string, v any) {
			switch v := v.(type) {
			case map[string]any:
				for k, e := range v {
					walk(strings.TrimPrefix(path+"."+k, "."), e)
				}
			case []any:
				for _, e := range v {
					walk(path, e)
				}
			case string:
				out[path] = append(out[path], v)
			}
		}
		walk("", tree)
		return out
	}
	redacted := sample()
	redacted.Redact([]byte("key"), nil)
	for path, list := range texts(redacted) {
		for _, s := range list {
			if !mayStay.MatchString(path) && !IsRedacted(strings.TrimPrefix(s, "class=")) && !strings.HasPrefix(s, "lapidary validate redacted-") {
				t.Errorf("%s is still %q", path, s)
			}
		}
	}
}

func TestRedactedName(t *testing.T) {
	a, b := RedactedName([]byte("k"), "conv1"), RedactedName([]byte("other"), "conv1")
	if a == b || !IsRedacted(a) || RedactedName([]byte("k"), a) != a || RedactedName([]byte("k"), "") != "" || a != RedactedName([]byte("k"), "conv1") {
		t.Errorf("%s, %s", a, b)
	}
	d := &redactor{key: []byte("k"), known: map[string]bool{"x": true, "conv": true}}
	d.sort()
	if got := d.sentence("max of x and conv, not xylem or conv-1"); strings.Contains(got, " x ") || strings.Contains(got, "conv,") || !strings.Contains(got, "xylem or conv-1") || !strings.HasPrefix(got, "max of") {
		t.Error(got)
	}
}

func around(data []byte, marker string) string {
	at := max(strings.Index(string(data), marker), 0)
	return string(data[max(at-80, 0):min(at+80, len(data))])
}
