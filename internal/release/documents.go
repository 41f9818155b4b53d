package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// shells are those that the program writes completions for, with the names that these have where packages put them.
var shells = map[string]string{"bash": "lapidary.bash", "zsh": "_lapidary", "fish": "lapidary.fish", "powershell": "lapidary.ps1"}

// documents returns what each archive has beside the program: texts, manual pages and completions, which a build for this machine writes.
func (r *release) documents(ctx context.Context, work string) ([]file, error) {
	host := filepath.Join(work, "host", "lapidary")
	if err := r.compile(ctx, host, target{}, []string{"CGO_ENABLED=0"}); err != nil {
		return nil, err
	}
	var out []file
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"} {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, file{name, b, 0o644})
	}
	for shell, name := range shells {
		b, err := exec.CommandContext(ctx, host, "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("completions for %s: %w", shell, err)
		}
		out = append(out, file{"completions/" + name, b, 0o644})
	}
	man := filepath.Join(work, "man")
	if b, err := exec.CommandContext(ctx, host, "man", man).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("manual pages: %w\n%s", err, b)
	}
	err := filepath.WalkDir(man, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out = append(out, file{"man/" + d.Name(), b, 0o644})
		return err
	})
	return out, err
}
