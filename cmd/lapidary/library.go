package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/worker"
)

// describing is the argument of a process that says what a library is.
const describing = "describe"

// descriptionMark is before the description: a library may print something of its own while it is loaded.
const descriptionMark = "lapidary-library "

// describeLimit is how long a library may take to be loaded: tests shorten it.
var describeLimit = time.Minute

// description is what such a process says.
type description struct {
	Info  session.Info
	Error string
}

// describe loads the library at path and says on standard output what it is.
func describe(path string) int {
	var d description
	info, err := ort.Info(path)
	if d.Info = info; err != nil {
		d.Error = err.Error()
	}
	text, err := json.Marshal(d)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("\n%s%s\n", descriptionMark, text)
	return 0
}

// library asks a process of its own what the library at path is: one that crashes or hangs while it is loaded takes nothing else down.
func (a *app) library(ctx context.Context, path string) (session.Info, error) {
	within, cancel := context.WithTimeout(ctx, describeLimit)
	defer cancel()
	c := exec.CommandContext(within, a.env.self, worker.Argument, describing, path)
	c.Env, c.WaitDelay = a.workerEnv(), time.Second
	var out, messages bytes.Buffer
	c.Stdout, c.Stderr = &out, &messages
	err := c.Run()
	if ctx.Err() != nil {
		return session.Info{}, context.Cause(ctx)
	}
	_, text, ok := strings.Cut(out.String(), "\n"+descriptionMark)
	var d description
	switch {
	case within.Err() != nil:
		return d.Info, fmt.Errorf("loading %s takes longer than %v: it may not be a library of ONNX Runtime for this machine; name another with --ort-lib, or run \"lapidary runtime install\"", path, describeLimit)
	case !ok && err != nil:
		return d.Info, fmt.Errorf("loading %s: the process that did so ended (%w%s); it may not be a library of ONNX Runtime for this machine: name another with --ort-lib, or run \"lapidary runtime install\"",
			path, err, lastWords(messages.String()))
	case !ok:
		return d.Info, fmt.Errorf("loading %s: the process that did so says nothing", path)
	}
	text, _, _ = strings.Cut(text, "\n")
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d.Info, fmt.Errorf("loading %s: what the process that did so says cannot be read: %w", path, err)
	}
	if d.Error != "" {
		return d.Info, errors.New(d.Error)
	}
	return d.Info, nil
}

// lastWords is the last of several lines that were printed by a process before it ended, with a colon before it; of the trace of a Go program the first.
func lastWords(text string) string {
	text = strings.TrimSpace(text)
	line := text[strings.LastIndexByte(text, '\n')+1:]
	if first, _, _ := strings.Cut(text, "\n"); strings.HasPrefix(first, "SIG") || strings.HasPrefix(first, "fatal error") || strings.HasPrefix(first, "panic") {
		line = first
	}
	if line == "" {
		return ""
	}
	return ": " + line
}
