//go:build unix

package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// pathFlags lists the flags of each command that take the name of a file or folder,
// as the program itself has them.
func pathFlags() map[string][]string {
	a := &app{env: &env{stdin: &bytes.Buffer{}, stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}}
	out := map[string][]string{}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		c.InheritedFlags() // makes them known to Flags
		c.Flags().VisitAll(func(f *pflag.Flag) {
			kind, usage := pflag.UnquoteUsage(f)
			named := slices.Contains([]string{"data", "calibration-data", "calibrate-data", "preprocess", "model", "ort-lib", "from", "baseline", "against", "output"}, f.Name)
			if kind == "FILE" || kind == "FOLDER" || kind == "DIR" || named && !strings.HasPrefix(usage, "how many") {
				out[commandName(c)] = append(out[commandName(c)], f.Name)
			}
		})
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(a.root())
	return out
}

// TestPathFlags gives every flag that names a file a pipe that nobody writes to and
// an endless device: no command waits, and each says what is wrong or does without.
func TestPathFlags(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	base := map[string][]string{
		"profile":     {"profile", b.model, "--static"},
		"fuse":        {"fuse", b.model, "-o", b.path("f.onnx"), "--no-verify"},
		"prune":       {"prune", b.model, "-o", b.path("p.onnx"), "--sparsity", "0.5", "--no-verify"},
		"quantize":    {"quantize", b.model, "-o", b.path("q.onnx"), "--to", "fp16", "--no-verify"},
		"validate":    {"validate", b.model, b.model, "--data", b.path("missing.csv")}, // what else is measured takes its time
		"verify":      {"verify", b.policy, "--key", b.pub},
		"report":      {"report", b.policy, "--key", b.pub},
		"policy lock": {"policy", "lock", b.policy, "--data", b.data, "--key", b.key, "-o", b.path("locked.json")},
		"policy show": {"policy", "show", b.policy},
		"sign":        {"sign", b.model, "--key", b.key, "-o", b.path("m.sig")},
		"diff":        {"diff", b.model, b.model},
		"bisect":      {"bisect", b.model, "--command", "none"},
		"keygen":      {"keygen", b.path("new"), "--unencrypted"},
		"audit show":  {"audit", "show", b.policy},
	}
	var tried atomic.Int64
	t.Cleanup(func() {
		if n := tried.Load(); n < 150 && !t.Failed() {
			t.Errorf("only %d runs: the flags that name files are not found", n)
		}
	})
	for command, flags := range pathFlags() {
		args, ok := base[command]
		if !ok {
			continue
		}
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			for _, flag := range flags {
				paths := hostilePaths(t, b, command+flag)
				for _, kind := range []string{"pipe", "endless device"} { // the others are as a missing file is
					code, text := b.run(t, append(slices.Clone(args), "--"+flag, paths[kind])...)
					if code < 0 || code > 5 {
						t.Errorf("--%s of a %s: exit code %d\n%s", flag, kind, code, text)
					}
					tried.Add(1)
				}
				for _, path := range []string{b.path("new.key"), b.path("new.pub")} {
					os.Remove(path)
				}
			}
		})
	}
}

// TestPathArguments gives such paths, a folder and a loop of links to every argument.
func TestPathArguments(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	for kind, path := range hostilePaths(t, b, "argument") {
		for _, args := range [][]string{
			{"profile", path, "--static"}, {"profile", path}, {"fuse", path, "-o", b.path("o.onnx")}, {"prune", path, "-o", b.path("o.onnx"), "--sparsity", "0.5"},
			{"quantize", path, "-o", b.path("o.onnx"), "--to", "int8"}, {"validate", path, b.model, "--data", "synthetic:2"}, {"validate", b.model, path, "--data", "synthetic:2"},
			{"diff", path, b.model}, {"diff", b.model, path}, {"sign", path, "--key", b.key, "-o", b.path("s.sig")}, {"verify", path, "--key", b.pub}, {"report", path},
			{"report", path, "--key", b.pub}, {"bisect", path}, {"policy", "lock", path, "--data", b.data, "--key", b.key, "-o", b.path("l.json")}, {"policy", "show", path},
			{"audit", "show", path}, {"audit", "verify", path}, {"audit", "head", path},
		} {
			if args[0] == "sign" && kind == "folder" {
				continue // which is an input
			}
			b.endure(t, []int{1, 2, 5}, path, args...)
		}
	}
}

// hostilePaths makes what is no file.
func hostilePaths(t *testing.T, b *bench, name string) map[string]string {
	t.Helper()
	base := b.path(strings.ReplaceAll(name, " ", "-"))
	paths := map[string]string{"pipe": base + ".pipe", "folder": base + ".folder", "endless device": base + ".zero", "loop of links": base + ".loop"}
	for _, err := range []error{
		syscall.Mkfifo(paths["pipe"], 0o600), os.Mkdir(paths["folder"], 0o700), os.Symlink("/dev/zero", paths["endless device"]), os.Symlink(paths["loop of links"], paths["loop of links"]),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// TestConfigBombs reads settings that grow: aliases of aliases in YAML, deep nesting.
func TestConfigBombs(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		n, m := string(rune('a'+i)), string(rune('a'+i-1))
		if i == 1 {
			m = "a0"
		}
		bomb.WriteString(n + ": &" + n + " [" + strings.Repeat("*"+m+", ", 9) + "*" + m + "]\n")
	}
	texts := map[string]string{
		"aliases": bomb.String() + "gates: *l\n", "itself": "gates: &g [*g]\n", "nested": strings.Repeat("[", 100_000),
		"mapped": strings.Repeat("{a: ", 50_000), "large": strings.Repeat("# comment\n", 1<<20),
	}
	for name, text := range texts {
		path := b.write(t, name+".yaml", []byte(text))
		for _, args := range [][]string{
			{"fuse", b.model, "-o", b.path("o.onnx"), "--config", path}, {"policy", "lock", path, "--data", b.data, "--key", b.key, "-o", b.path("l.json")},
			{"validate", b.model, b.model, "--data", b.data, "--preprocess", path},
			{"validate", b.model, b.model, "--data", b.data, "--detection-head", path},
		} {
			b.endure(t, []int{1, 2}, "", args...)
		}
	}
	for name, text := range map[string]string{"deep": strings.Repeat(`{"a":`, 1<<20), "list": strings.Repeat("[", 1<<20), "long": `{"a":"` + strings.Repeat("x", 80<<20)} {
		path := b.write(t, name+".json", []byte(text))
		for _, args := range [][]string{
			{"verify", path, "--key", b.pub}, {"report", path}, {"diff", path, path}, {"policy", "show", path}, {"audit", "verify", path},
			{"policy", "lock", b.policy, "--data", path, "--key", b.key, "-o", b.path("l.json")},
		} {
			b.endure(t, []int{1, 2, 5}, "", args...)
		}
	}
}
