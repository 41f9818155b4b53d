package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

// env is everything a command takes from its surroundings.
type env struct {
	stdin    io.Reader
	stdout   io.Writer // the result
	stderr   io.Writer // progress and messages
	vars     []string  // environment variables, as os.Environ gives them
	self     string    // this executable, which worker processes run
	cacheDir string    // the user's cache folder, "" if there is none
	terminal bool      // stderr is a terminal
	columns  int       // width of stdout in columns
}

func systemEnv() *env {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = ""
	}
	columns, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		columns = 80
	}
	return &env{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, vars: os.Environ(), self: self, cacheDir: cache,
		terminal: term.IsTerminal(int(os.Stderr.Fd())), columns: columns,
	}
}

// lookup returns an environment variable, the last of its name winning.
func (e *env) lookup(name string) (string, bool) {
	for i := len(e.vars) - 1; i >= 0; i-- {
		if len(e.vars[i]) > len(name) && e.vars[i][:len(name)] == name && e.vars[i][len(name)] == '=' {
			return e.vars[i][len(name)+1:], true
		}
	}
	return "", false
}
