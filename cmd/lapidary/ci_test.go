package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"go.yaml.in/yaml/v3"
)

// example reads one of the examples for pipelines.
func example(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(docs, "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestGitHubExample runs the shell steps of the workflow, in order, as a runner would, but for the installation, which is what the
// test stands for.
func TestGitHubExample(t *testing.T) {
	var workflow struct {
		Permissions map[string]string
		Jobs        map[string]struct {
			Steps []struct {
				Name, Uses, Run, If string
				With                map[string]any
				Env                 map[string]string
			}
		}
	}
	example(t, "github-actions.yml", &workflow)
	r := newRepo(t, zootest.Library(t))
	key := string(r.read("release.key"))
	var uploads []string
	ran := 0
	for _, step := range workflow.Jobs["validate"].Steps {
		switch {
		case step.Uses != "":
			if !regexp.MustCompile(`^[\w-]+/[\w/-]+@v\d+$`).MatchString(step.Uses) {
				t.Errorf("%s names no version", step.Uses)
			}
			for _, field := range []string{"sarif_file", "path"} {
				if s, ok := step.With[field].(string); ok {
					uploads = append(uploads, strings.Fields(s)...)
				}
			}
		case step.Name == "Install":
			if !strings.Contains(step.Run, "go install github.com/lapidary-ml/lapidary/cmd/lapidary@") || !strings.Contains(step.Run, "lapidary runtime install") {
				t.Errorf("the installation: %s", step.Run)
			}
		default:
			ran++
			r.sh(step.Run, "LAPIDARY_KEY="+key, "RUNNER_TEMP="+r.dir, "GITHUB_STEP_SUMMARY="+filepath.Join(r.dir, "summary.md"))
		}
	}
	if ran < 4 || len(uploads) < 3 {
		t.Errorf("%d steps and %d uploads", ran, len(uploads))
	}
	for _, path := range uploads {
		if _, err := os.Stat(filepath.Join(r.dir, path)); err != nil {
			t.Error(err)
		}
	}
	if summary := string(r.read("summary.md")); !strings.HasPrefix(summary, "## ✅ Pass") {
		t.Errorf("the summary: %.200s", summary)
	}
	if sarif := string(r.read("build/report/report.sarif")); !strings.Contains(sarif, "lapidary/validate/build/model.int8.onnx/") {
		t.Errorf("SARIF does not name the model by its path in the repository: %.1500s", sarif)
	}
	if workflow.Permissions["security-events"] != "write" {
		t.Error("code scanning needs the permission security-events: write")
	}
	r.sh("lapidary verify build/report/evidence.sigstore.json --key release.pub --model build/model.int8.onnx")
}

// TestGitLabExample runs the script of the job and looks for its artifacts.
func TestGitLabExample(t *testing.T) {
	var jobs map[string]struct {
		Variables    map[string]string
		Before       []string `yaml:"before_script"`
		Script       []string
		After        []string `yaml:"after_script"`
		AllowFailure struct {
			ExitCodes int `yaml:"exit_codes"`
		} `yaml:"allow_failure"`
		Artifacts struct {
			Paths   []string
			Reports map[string]string
		}
	}
	example(t, "gitlab-ci.yml", &jobs)
	job := jobs["validate-model"]
	r := newRepo(t, zootest.Library(t))
	env := []string{"LAPIDARY_KEY_FILE=" + filepath.Join(r.dir, "release.key")}
	for k, v := range job.Variables {
		env = append(env, k+"="+v)
	}
	if len(job.Script) == 0 || job.AllowFailure.ExitCodes != exitInconclusive {
		t.Errorf("the job: %+v", job)
	}
	r.sh(strings.Join(job.Script, "\n"), env...)
	if out := r.sh(strings.Join(job.After, "\n"), env...); !strings.HasPrefix(out, "## ") {
		t.Errorf("after the job: %.200s", out)
	}
	for _, path := range job.Artifacts.Paths {
		if _, err := os.Stat(filepath.Join(r.dir, path)); err != nil {
			t.Error(err)
		}
	}
	var suites struct {
		Tests int `xml:"tests,attr"`
	}
	if err := xml.Unmarshal(r.read(job.Artifacts.Reports["junit"]), &suites); err != nil || suites.Tests != 2 {
		t.Errorf("JUnit with %d tests: %v", suites.Tests, err)
	}
}

// TestMakeExample runs the targets of the file to include: once, again without work, after a change of data, and with a gate that fails.
func TestMakeExample(t *testing.T) {
	r := newRepo(t, zootest.Library(t))
	include, err := os.ReadFile(filepath.Join(docs, "examples", "lapidary.mk"))
	if err != nil {
		t.Fatal(err)
	}
	r.write("lapidary.mk", include)
	r.write("Makefile", []byte(`LAPIDARY_MODEL    := models/model.onnx
LAPIDARY_OPTIMIZE := --to int8 --for size
LAPIDARY_GATES    := --max-drop 2pt --max-bytes-ratio 0.5
LAPIDARY_VALIDATE := --no-latency --no-explain
include lapidary.mk
`))
	out := r.sh("make verify")
	for _, want := range []string{"lapidary quantize", "lapidary validate", "lapidary verify", "verdict: pass"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out := r.sh("make optimize validate verify"); strings.Contains(out, "lapidary ") {
		t.Errorf("nothing had changed, and there was work:\n%s", out)
	}
	later := time.Now().Add(2 * time.Second)
	if err := os.Chtimes(filepath.Join(r.dir, "data", "holdout.npz"), later, later); err != nil {
		t.Fatal(err)
	}
	if out := r.sh("make verify"); strings.Contains(out, "lapidary quantize") || !strings.Contains(out, "lapidary validate") {
		t.Errorf("other validation data asks for validation alone:\n%s", out)
	}
	r.sh("make lapidary-clean")
	if out, code := r.try("make verify LAPIDARY_GATES='--max-bytes-ratio 0.01'"); code == 0 || !strings.Contains(out, "max-bytes-ratio") {
		t.Errorf("a gate failed and make went on:\n%s", out)
	}
	for _, stamp := range []string{"build/validated", "build/verified"} {
		if _, err := os.Stat(filepath.Join(r.dir, stamp)); err == nil {
			t.Errorf("%s was made although a gate failed", stamp)
		}
	}
	r.read("build/report/report.html") // the report of the failure is there
}

// TestPreCommitExample runs the hook's entry as pre-commit does: split by a shell, with the files that match added.
func TestPreCommitExample(t *testing.T) {
	var config struct {
		Repos []struct {
			Hooks []struct{ ID, Entry, Files, Exclude, Language string }
		}
	}
	example(t, "pre-commit-config.yaml", &config)
	hook := config.Repos[0].Hooks[0]
	chosen := func(file string) bool {
		return regexp.MustCompile(hook.Files).MatchString(file) && !regexp.MustCompile(hook.Exclude).MatchString(file)
	}
	if hook.Language != "system" || !chosen("models/new.onnx") || chosen("models/baseline/old.onnx") || chosen("data/x.npz") {
		t.Errorf("the hook: %+v", hook)
	}
	r := newRepo(t, zootest.Library(t))
	r.sh("lapidary fuse models/model.onnx -o models/new.onnx -q")
	if out, code := r.try(hook.Entry + " models/new.onnx"); code == 0 {
		t.Errorf("a model without evidence was let through: %s", out)
	}
	r.sh("lapidary validate models/model.onnx models/new.onnx --data data/holdout.npz --no-latency --no-explain --max-drop 1pt --report models/new.report --sign release.key")
	r.sh(hook.Entry + " models/new.onnx")
	r.sh("cp models/model.onnx models/new.onnx")
	if out, code := r.try(hook.Entry + " models/new.onnx"); code != exitRejected {
		t.Errorf("another model beside the evidence: exit code %d\n%s", code, out)
	}
}

// TestCIDocument holds that docs/ci.md names every form and every example.
func TestCIDocument(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docs, "ci.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Formats() {
		if !strings.Contains(string(text), "`"+f.File+"`") {
			t.Errorf("docs/ci.md does not name %s", f.File)
		}
	}
	examples, err := os.ReadDir(filepath.Join(docs, "examples"))
	if err != nil || len(examples) == 0 {
		t.Fatal(err)
	}
	for _, e := range examples {
		if !strings.Contains(string(text), "(examples/"+e.Name()+")") {
			t.Errorf("docs/ci.md does not link to %s", e.Name())
		}
	}
}
