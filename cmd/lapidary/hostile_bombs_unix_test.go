//go:build unix

package main

import (
	"os"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestModelBombs gives every command that reads a model models that are meant to
// exhaust it: each ends soon, in little memory, and says in a sentence why not, or
// does its work.
func TestModelBombs(t *testing.T) {
	lib := zootest.Library(t)
	done := []int{0, 1, 3} // 3: there was nothing to do
	for _, m := range modelBombs() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, lib)
			path, out := b.write(t, m.name+".onnx", m.data), b.path("out.onnx")
			want := done
			commands := [][]string{
				{"profile", path, "--static"},
				{"fuse", path, "-o", out, "--no-verify"},
				{"prune", path, "-o", out, "--sparsity", "0.5", "--no-verify"},
				{"prune", path, "-o", out, "--pattern", "channels", "--sparsity", "0.5", "--no-verify"},
				{"quantize", path, "-o", out, "--to", "int8", "--no-verify"},
				{"quantize", path, "-o", out, "--to", "fp16", "--no-verify"},
				{"diff", path, path},
				{"diff", b.model, path},
				{"fuse", path, "-o", out},
				{"bisect", path, "--command", "none"},
				{"validate", b.model, path, "--data", "synthetic:2"},
			}
			if !m.opens { // all read a model alike
				commands, want = append(commands[:2], commands[9:]...), []int{1}
			}
			for _, args := range commands {
				code := b.endure(t, want, path, args...)
				if _, err := os.Stat(out); code == 1 && err == nil {
					t.Errorf("%v failed and wrote its output", args)
				}
				os.Remove(out)
			}
			b.endure(t, []int{0, 1}, path, "sign", path, "--key", b.key, "-o", b.path("m.sig"))
			b.endure(t, []int{0, 1}, "", "policy", "lock", b.policy, "--data", b.data, "--baseline", path, "--key", b.key, "-o", b.path("locked.json"))
			b.endure(t, []int{1, 5}, path, "verify", path, "--key", b.pub)
			b.endure(t, []int{1, 5}, path, "report", path, "--key", b.pub)
		})
	}
}
