package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestCompletion: shells offer what a flag takes, and the command takes what they offer.
func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"quantize --to": "int8 int4 fp16 bf16", "fuse --target": "portable ort-cpu ort-cuda tensorrt openvino auto", "profile --format": "text json", "verify --inconclusive": "fail pass",
	} {
		out, err := exec.CommandContext(t.Context(), "lapidary", append(append([]string{"__complete"}, strings.Fields(line)...), "")...).Output()
		words, _, _ := strings.Cut(string(out), ":")
		if got := strings.Join(strings.Fields(words), " "); err != nil || got != want {
			t.Errorf("%s: %q, want %q (%v)", line, got, want, err)
		}
	}
	taken := regexp.MustCompile(`is unknown|want one of|; want `)
	root := (&app{env: systemEnv()}).root()
	for name, words := range flagValues() {
		of, flag, own := strings.Cut(name, "/")
		if !own {
			flag = name
		}
		used := false
		for _, c := range root.Commands() {
			if own && c.Name() != of || c.LocalFlags().Lookup(flag) == nil || !own && flagValues()[c.Name()+"/"+flag] != nil {
				continue
			}
			used = true
			for _, w := range words {
				args := []string{c.Name(), "--" + flag, w, "none.onnx"}
				if c.Name() == "validate" || c.Name() == "diff" {
					args = append(args, "none2.onnx")
				}
				out, _ := exec.CommandContext(t.Context(), "lapidary", args...).CombinedOutput()
				if taken.Match(out) && strings.Contains(string(out), "--"+flag) {
					t.Errorf("%v: %s", args, out)
				}
			}
		}
		if !used && root.PersistentFlags().Lookup(flag) == nil {
			t.Errorf("no command has the flag %s", name)
		}
	}
}

// TestBashCompletion: bash really completes with what the program writes for it.
func TestBashCompletion(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not here")
	}
	script := `source <(lapidary completion bash); COMP_WORDS=(lapidary quantize --to in); COMP_CWORD=3; COMP_LINE="lapidary quantize --to in"; COMP_POINT=${#COMP_LINE}
_get_comp_words_by_ref() { cur=in; prev=--to; words=("${COMP_WORDS[@]}"); cword=3; }
__start_lapidary; echo "${COMPREPLY[@]}"`
	out, err := exec.CommandContext(t.Context(), bash, "-c", script).Output() // outside of a completion compopt complains
	if got := strings.Fields(string(out)); err != nil || !slices.Equal(got, []string{"int8", "int4"}) && !slices.Equal(got, []string{"int4", "int8"}) {
		t.Errorf("%s (%v)", out, err)
	}
}

// fakeRelease is a folder as releases are found, with a script in the place of the program.
func fakeRelease(t *testing.T) (url, archive, sums string) {
	t.Helper()
	name := fmt.Sprintf("lapidary_v1.2.3_%s_%s", runtime.GOOS, runtime.GOARCH)
	dir := filepath.Join(t.TempDir(), "v1.2.3")
	archive, sums = filepath.Join(dir, name+".tar.gz"), filepath.Join(dir, "SHA256SUMS")
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	text := "#!/bin/sh\necho installed\n"
	w.WriteHeader(&tar.Header{Name: name + "/lapidary", Mode: 0o755, Size: int64(len(text))})
	w.Write([]byte(text))
	w.Close()
	z.Close()
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = os.WriteFile(archive, buf.Bytes(), 0o644)
	}
	if err == nil {
		err = os.WriteFile(sums, fmt.Appendf(nil, "%x  other.zip\n%x  %s.tar.gz\n", sha256.Sum256(nil), sha256.Sum256(buf.Bytes()), name), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return "file://" + filepath.Dir(dir), archive, sums
}

// installer returns a function that runs install.sh, with a key where key is not empty, and says where the program would be.
func installer(t *testing.T) func(url, key string) (program, out string, err error) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil || runtime.GOOS == "windows" {
		t.Skip("curl is not here")
	}
	script, _ := filepath.Abs(filepath.Join(docs, "action", "install.sh"))
	return func(url, key string) (string, string, error) {
		args := []string{script, "v1.2.3", url, "bin"}
		if key != "" {
			args = append(args, key)
		}
		c := exec.CommandContext(t.Context(), "sh", args...)
		c.Dir = t.TempDir()
		out, err := c.CombinedOutput()
		if left, _ := filepath.Glob(filepath.Join(c.Dir, "bin", ".*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		return filepath.Join(c.Dir, "bin", "lapidary"), string(out), err
	}
}

// TestInstallScript: the action installs what SHA256SUMS lists, and nothing else.
func TestInstallScript(t *testing.T) {
	install := installer(t)
	url, archive, sums := fakeRelease(t)
	program, out, err := install(url, "")
	if err != nil || !strings.Contains(out, "compared with SHA256SUMS alone") {
		t.Fatalf("%v\n%s", err, out)
	}
	if said, err := exec.CommandContext(t.Context(), program).Output(); err != nil || string(said) != "installed\n" {
		t.Errorf("%q (%v)", said, err)
	}
	b, _ := os.ReadFile(archive)
	os.WriteFile(archive, append(b, 0), 0o644)
	refused := func(why, url, want string) {
		if program, out, err := install(url, ""); err == nil || exists(program) || !strings.Contains(out, want) {
			t.Errorf("%s: installed %v: %s", why, exists(program), out)
		}
	}
	refused("another archive", url, "is not the file that SHA256SUMS lists; nothing was installed")
	os.WriteFile(sums, nil, 0o644)
	refused("an archive that is not listed", url, "does not list")
	refused("no release", url+"/nowhere", "cannot be fetched from "+url+"/nowhere; nothing was installed")
	script, _ := filepath.Abs(filepath.Join(docs, "action", "install.sh"))
	if out, err := exec.CommandContext(t.Context(), "sh", script, "v1.2.3").CombinedOutput(); err == nil || !strings.Contains(string(out), "want VERSION RELEASES FOLDER [KEY], got 1 arguments") {
		t.Errorf("without arguments: %v: %s", err, out)
	}
}

// TestInstallScriptKey: with a key nothing is installed but what SHA256SUMS lists and that key signed.
func TestInstallScriptKey(t *testing.T) {
	install := installer(t)
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not here")
	}
	url, archive, sums := fakeRelease(t)
	key, err := attest.GenerateKey()
	other, err2 := attest.GenerateKey()
	list, err3 := os.ReadFile(sums)
	packed, err4 := os.ReadFile(archive)
	sig, err5 := attest.SignBlob(t.Context(), key, list)
	public := filepath.Join(t.TempDir(), "owner.pub")
	if err := errors.Join(err, err2, err3, err4, err5, key.PublicKey().WriteFile(public)); err != nil {
		t.Fatal(err)
	}
	forged := fmt.Appendf(nil, "%x  %s\n", sha256.Sum256([]byte("forged")), filepath.Base(archive))
	for name, c := range map[string]struct {
		key            string
		packed, sums   []byte
		sig            []byte
		refusedBecause string
	}{
		"all as it was signed":        {public, packed, list, sig, ""},
		"the key as text":             {string(key.PublicKey().PEM()), packed, list, sig, ""},
		"the key of another":          {string(other.PublicKey().PEM()), packed, list, sig, "is not signed by the key that was given"},
		"another archive":             {public, append(slices.Clone(packed), 0), list, sig, "is not the file that SHA256SUMS lists"},
		"another archive and its sum": {public, []byte("forged"), forged, sig, "is not signed by the key that was given"},
		"no signature":                {public, packed, list, nil, "SHA256SUMS.sig of v1.2.3 cannot be fetched"},
		"an empty signature":          {public, packed, list, []byte{}, "is not signed by the key that was given"},
		"a key that is not there":     {"none.pub", packed, list, sig, "the key none.pub cannot be read"},
		"a file that is no key":       {sums, packed, list, sig, "is not a public key"},
		"a text that is no key":       {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", packed, list, sig, "is not a public key"},
	} {
		err := errors.Join(os.WriteFile(archive, c.packed, 0o644), os.WriteFile(sums, c.sums, 0o644), os.WriteFile(sums+".sig", c.sig, 0o644))
		if c.sig == nil {
			err = errors.Join(err, os.Remove(sums+".sig"))
		}
		if err != nil {
			t.Fatal(err)
		}
		program, out, err := install(url, c.key)
		switch {
		case c.refusedBecause == "" && (err != nil || !exists(program) || !strings.Contains(out, "signed by the key that was given")):
			t.Errorf("%s: %v: %s", name, err, out)
		case c.refusedBecause != "" && (err == nil || exists(program) || !strings.Contains(out, c.refusedBecause)):
			t.Errorf("%s: installed %v: %s", name, exists(program), out)
		}
	}
}

// TestActionValidates runs the second step of the action as a runner would.
func TestActionValidates(t *testing.T) {
	r := newRepo(t, zootest.Library(t))
	script, _ := filepath.Abs(filepath.Join(docs, "action", "validate.sh"))
	for arguments, want := range map[string]struct {
		code    int
		verdict string
	}{"--no-latency --no-explain --max-drop 1pt": {0, "pass"}, "--no-latency --no-explain --max-bytes-ratio 0.1": {3, "fail"}, "--no-such-flag": {2, "error"}} {
		r.write("output", nil)
		r.write("summary", nil)
		os.RemoveAll(filepath.Join(r.dir, "report"))
		out, code := r.try("sh "+script, "BASELINE=models/model.onnx", "CANDIDATE=models/model.onnx", "DATA=data/holdout.npz", "ARGUMENTS="+arguments, "REPORT=report",
			"LAPIDARY_KEY="+string(r.read("release.key")), "GITHUB_OUTPUT="+filepath.Join(r.dir, "output"), "GITHUB_STEP_SUMMARY="+filepath.Join(r.dir, "summary"))
		if code != want.code || string(r.read("output")) != "verdict="+want.verdict+"\nreport=report\n" {
			t.Errorf("%s: exit code %d, %q\n%s", arguments, code, r.read("output"), out)
		}
		if want.code == 2 {
			continue
		}
		if len(r.read("summary")) == 0 {
			t.Errorf("%s: no summary", arguments)
		}
		if out, code := r.try("lapidary verify report/evidence.sigstore.json --key release.pub --model models/model.onnx"); code != want.code && code != 5 {
			t.Errorf("%s: the evidence: %d %s", arguments, code, out)
		}
	}
}

// TestDockerfile: what it copies is there, its Go is that of go.mod, and the program takes the flags that it gives.
func TestDockerfile(t *testing.T) {
	root := filepath.Join("..", "..")
	b, err := os.ReadFile(filepath.Join(docs, "docker", "Dockerfile"))
	mod, err2 := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)[1]
	if !bytes.Contains(b, fmt.Appendf(nil, "FROM golang:%s-", version)) {
		t.Errorf("it does not build with Go %s", version)
	}
	for _, m := range regexp.MustCompile(`(?m)^COPY (--from=build /src/)?(.*) \S+$`).FindAllSubmatch(b, -1) {
		for _, name := range strings.Fields(string(m[2])) {
			if strings.HasPrefix(name, "--from") || strings.HasPrefix(name, "/out/") { // made by the build
				continue
			}
			if !exists(filepath.Join(root, name)) {
				t.Errorf("it copies %s, which is not there", name)
			}
		}
	}
	if !bytes.Contains(b, []byte("runtime install -q --channel pip")) || !bytes.Contains(b, []byte("LAPIDARY_ORT_LIB=/usr/lib/lapidary/libonnxruntime.so")) {
		t.Error("it does not bring the runtime library")
	}
	if out, err := exec.CommandContext(t.Context(), "lapidary", "runtime", "install", "--help").Output(); err != nil || !bytes.Contains(out, []byte("--channel")) {
		t.Errorf("runtime install: %v", err)
	}
}
