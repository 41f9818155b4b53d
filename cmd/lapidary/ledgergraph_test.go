package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The statuses of the ledger.
const (
	ledgerEqual   = "verified"
	ledgerRefused = "refused"
	ledgerWrong   = "wrong"
	ledgerCrashed = "crashed"
)

// ledgerEntry is what became of one graph in one command.
type ledgerEntry struct {
	Graph, Command, Status string
	Reason                 string // in general words, but for what is wrong or crashed
	Seconds                float64
}

// ledgerCommand is a command line with what its result must be. It reads
// {{in}}: the model, or what the command after which it stands wrote.
type ledgerCommand struct {
	name  string
	after string   // the command whose result it reads; "" for the graph itself
	args  []string // IN and OUT stand for files
	bound ledgerBound
	check func(original, result string) error // of what files hold; nil: nothing
}

// calibration is what static int8 is measured on, where nothing else is at hand.
const calibration = "--data=synthetic:8"

// ledgerCommands are in an order in which each stands behind what it reads.
var ledgerCommands = []ledgerCommand{
	{name: "fuse", args: []string{"fuse", "IN", "-o", "OUT", "--no-measure"}, bound: boundExact},
	{name: "quantize dynamic", args: []string{"quantize", "IN", "-o", "OUT", "--to=int8", "--for=size", "--dynamic"}, bound: boundDynamic},
	{name: "quantize static", args: []string{"quantize", "IN", "-o", "OUT", "--to=int8", "--for=size", calibration}, bound: boundStatic},
	{name: "quantize fp16", args: []string{"quantize", "IN", "-o", "OUT", "--to=fp16"}, bound: boundFP16},
	{name: "quantize bf16", args: []string{"quantize", "IN", "-o", "OUT", "--to=bf16"}, bound: boundBF16},
	{name: "quantize int4", args: []string{"quantize", "IN", "-o", "OUT", "--to=int4", "--block-size=32"}, bound: boundInt4},
	{name: "prune dead", args: []string{"prune", "IN", "-o", "OUT", "--pattern=channels", "--sparsity=0"}, bound: boundExact},
	{name: "prune channels", args: []string{"prune", "IN", "-o", "OUT", "--pattern=channels", "--sparsity=0.3", "--round-to=1", "--repair=none"}, bound: boundForm},
	{name: "prune weights", args: []string{"prune", "IN", "-o", "OUT", "--sparsity=0.5", "--repair=none"}, bound: boundForm, check: onlyZeros},
	{name: "profile", args: []string{"profile", "IN", "--static", "--format=json"}, bound: boundNone},
	{name: "fuse, quantize static", after: "fuse", args: []string{"quantize", "IN", "-o", "OUT", "--to=int8", "--for=size", calibration}, bound: boundStatic},
	{name: "fuse, quantize fp16", after: "fuse", args: []string{"quantize", "IN", "-o", "OUT", "--to=fp16"}, bound: boundFP16},
	{name: "quantize fp16, fuse", after: "quantize fp16", args: []string{"fuse", "IN", "-o", "OUT", "--no-measure"}, bound: boundHalf},
	{name: "prune, fuse", after: "prune channels", args: []string{"fuse", "IN", "-o", "OUT", "--no-measure"}, bound: boundExact},
	{name: "prune, fuse, quantize static", after: "prune, fuse", args: []string{"quantize", "IN", "-o", "OUT", "--to=int8", "--for=size", calibration}, bound: boundStatic},
	{name: "diff", bound: boundNone}, // against every result
}

// ledgerGraph takes one graph through all commands.
type ledgerGraph struct {
	ledgerTask
	tell   func(ledgerEvent)
	engine *engine
	runs   map[string]*ledgerRuns // of models that results are held against, by file
}

// dieAt names the variable with the command at which a shard is to die, to test what becomes of that.
const dieAt = "LAPIDARY_LEDGER_DIE"

func (g *ledgerGraph) run() {
	g.runs = map[string]*ledgerRuns{}
	for _, c := range ledgerCommands {
		if slices.Contains(g.Done, c.name) {
			continue
		}
		g.tell(ledgerEvent{Command: c.name})
		if os.Getenv(dieAt) == c.name {
			os.Exit(7)
		}
		start := time.Now()
		e := g.enter(c)
		e.Seconds = time.Since(start).Seconds()
		e.Graph, e.Command = g.Graph, c.name
		g.tell(ledgerEvent{Command: c.name, Entry: &e})
	}
}

// file is where a command's result lies.
func (g *ledgerGraph) file(command string) string {
	if command == "" {
		return g.Model
	}
	return filepath.Join(g.Dir, strings.NewReplacer(", ", "-", " ", "-").Replace(command)+".onnx")
}

func (g *ledgerGraph) enter(c ledgerCommand) ledgerEntry {
	if c.name == "diff" {
		return g.diff()
	}
	in, out := g.file(c.after), g.file(c.name)
	if !exists(in) {
		return ledgerEntry{Status: ledgerRefused, Reason: "what it reads was refused"}
	}
	args := slices.Clone(c.args)
	for i, a := range args {
		switch a {
		case "IN":
			args[i] = in
		case "OUT":
			args[i] = out
		}
	}
	status, stdout, stderr := g.command(args)
	if status == exitFailed && g.Data != "" && slices.ContainsFunc(wantsData, func(w string) bool { return strings.Contains(stderr, w) }) {
		args = slices.DeleteFunc(args, func(a string) bool { return a == calibration })
		status, stdout, stderr = g.command(append(args, "--data="+g.Data))
	}
	switch {
	case strings.Contains(stderr, "internal fault"):
		return ledgerEntry{Status: ledgerCrashed, Reason: stderr[:min(len(stderr), 2500)]}
	case status != exitOK && exists(out):
		return ledgerEntry{Status: ledgerWrong, Reason: fmt.Sprintf("exit code %d, and yet there is a result: %s", status, stderr)}
	case status == exitUsage:
		return ledgerEntry{Status: ledgerWrong, Reason: "taken as wrong usage: " + stderr}
	case status != exitOK:
		return ledgerEntry{Status: ledgerRefused, Reason: g.general(stderr)}
	case c.name == "profile":
		return g.profile(stdout)
	}
	if err := g.hold(c, in, out); err != nil {
		return ledgerEntry{Status: ledgerWrong, Reason: err.Error()}
	}
	return ledgerEntry{Status: ledgerEqual}
}

// wantsData are what the commands say where a model runs only on inputs that
// nobody can make up; a user then gives some.
var wantsData = []string{"cannot be verified: running the original", "calibrating on sample", "no inputs to generate data for"}

// command runs a command line as the program would.
func (g *ledgerGraph) command(args []string) (status int, stdout, stderr string) {
	var out, msg bytes.Buffer
	ctx := context.Background()
	if g.Isolated { // else the shard is given up, and this is done again
		limited, cancel := context.WithTimeout(ctx, ledgerPatience(true)-30*time.Second)
		defer cancel()
		ctx = limited
	}
	a := &app{env: ledgerEnv("", &out, &msg), engines: map[engineFlags]*engine{ledgerEngineFlags: g.engine}}
	status = a.run(ctx, args)
	return status, out.String(), msg.String()
}

// hold checks a result against the model that it was made of.
func (g *ledgerGraph) hold(c ledgerCommand, in, out string) error {
	if c.check != nil {
		if err := c.check(in, out); err != nil {
			return err
		}
	}
	if g.runs[in] == nil {
		g.runs[in] = g.reference(in)
	}
	return g.runs[in].compare(g, out, c.bound)
}

// profile checks what a profile counts against the file.
func (g *ledgerGraph) profile(stdout string) ledgerEntry {
	var p struct {
		Static struct {
			Nodes []struct {
				Work struct{ MACs int64 }
				Runs int64
			}
			Work struct{ MACs int64 }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &p); err != nil {
		return ledgerEntry{Status: ledgerWrong, Reason: err.Error()}
	}
	if n, err := graphNodes(g.Model); err != nil || len(p.Static.Nodes) < n {
		return ledgerEntry{Status: ledgerWrong, Reason: fmt.Sprintf("%d nodes profiled of %d, %v", len(p.Static.Nodes), n, err)}
	}
	sum := 0.0 // counts beyond an int64 are given as the largest
	for _, n := range p.Static.Nodes {
		sum += float64(n.Work.MACs) * float64(n.Runs)
	}
	if total := float64(p.Static.Work.MACs); total != min(sum, math.MaxInt64) {
		return ledgerEntry{Status: ledgerWrong, Reason: fmt.Sprintf("%v MACs in all, %v in its nodes", total, sum)}
	}
	return ledgerEntry{Status: ledgerEqual}
}

// diff compares the graph with itself and with every result.
func (g *ledgerGraph) diff() ledgerEntry {
	for _, c := range ledgerCommands {
		with := g.file(c.name)
		if c.name == "diff" {
			with = g.Model
		}
		if !exists(with) {
			continue
		}
		status, stdout, stderr := g.command([]string{"diff", g.Model, with, "--format=json"})
		if status != exitOK {
			if strings.Contains(stderr, "internal fault") {
				return ledgerEntry{Status: ledgerCrashed, Reason: stderr}
			}
			if with != g.Model {
				return ledgerEntry{Status: ledgerWrong, Reason: fmt.Sprintf("against %s: %s", c.name, stderr)}
			}
			return ledgerEntry{Status: ledgerRefused, Reason: g.general(stderr)}
		}
		var d struct {
			Equal *bool
		}
		if err := json.Unmarshal([]byte(stdout), &d); err != nil || d.Equal == nil {
			return ledgerEntry{Status: ledgerWrong, Reason: fmt.Sprintf("against %s: %v", c.name, err)}
		}
		same, err := sameModels(g.Model, with)
		if err != nil || *d.Equal && !same || with == g.Model && !*d.Equal {
			return ledgerEntry{Status: ledgerWrong, Reason: fmt.Sprintf("against %s: equal is %v, same is %v, %v", c.name, *d.Equal, same, err)}
		}
	}
	return ledgerEntry{Status: ledgerEqual}
}
