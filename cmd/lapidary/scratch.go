package main

import (
	"os"
	"runtime"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// scratch is the folder of a command's temporary files, whoever makes them: private
// (mode 0700), removed when the command ends, and where it was killed, when the next
// one starts. While there is one it is the system's folder for temporary files to this
// process and those that it starts.
type scratch struct {
	dir *atomicfile.Dir
	was map[string]string // variables as they were
}

// tempVariables say where temporary files belong.
func tempVariables() []string {
	if runtime.GOOS == "windows" {
		return []string{"TMP", "TEMP"}
	}
	return []string{"TMPDIR"}
}

// openScratch makes the folder. Where there is no place for one, temporary files are
// made as the system has it: most commands need none, and those that do say so.
func openScratch() *scratch {
	parent := os.TempDir()
	atomicfile.CleanStale(parent)
	dir, err := atomicfile.TempDir(parent)
	if err != nil {
		return nil
	}
	s := &scratch{dir, map[string]string{}}
	for _, name := range tempVariables() {
		s.was[name] = os.Getenv(name)
		os.Setenv(name, dir.Path)
	}
	return s
}

func (s *scratch) close() {
	if s == nil {
		return
	}
	for name, value := range s.was {
		if value == "" {
			os.Unsetenv(name)
		} else {
			os.Setenv(name, value)
		}
	}
	s.dir.Remove()
}
