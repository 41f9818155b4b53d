package main

import "path/filepath"

// files are those of one size.
type files struct {
	model string
	fused string // what fuse made of it, for commands that compare
	out   string // where results go
	key   string // prefix of the key pair
}

func (f files) signature() string { return filepath.Join(filepath.Dir(f.out), "model.sig") }

// command is one row.
type command struct {
	text string // as it is shown
	args func(f files) []string
	keep string // "": what it writes goes; else it stays, as fused or signature
	nets []string
	exit int     // code with which it ends
	most float64 // bytes of weights; 0: any. The engine holds models whole, two of them where they are compared
}

// mostRun is the largest model that the engine is asked to run.
const mostRun = 2.5e9

// gateFailed is the exit code of a validation on generated inputs: these say nothing of the user's data.
const gateFailed = 3

// rewriting is a command that writes a model, without running it but where flags ask for that.
func rewriting(name string, flags ...string) command {
	c := command{text: name}
	for _, f := range flags {
		c.text += " " + f
	}
	c.args = func(f files) []string { return append(append([]string{name}, flags...), f.model, "-o", f.out) }
	return c
}

// upTo restricts c to models of at most so many bytes.
func (c command) upTo(bytes float64) command {
	c.most = bytes
	return c
}

// on restricts c to networks.
func (c command) on(nets ...string) command {
	c.nets = nets
	return c
}

// Networks of the two series, and those of other shapes.
const (
	byBytes  = "layers"
	byNodes  = "deep"
	manyRead = "fan"
	bodies   = "branches"
)

// commands lists what is measured, in the order in which it runs: fuse first, whose result diff and validate read.
func commands() []command {
	fuse := rewriting("fuse", "--no-verify")
	fuse.keep = "fused"
	fuse.args = func(f files) []string { return []string{"fuse", "--no-verify", f.model, "-o", f.fused} }
	every := []string{byBytes, byNodes}
	shaped := []string{byBytes, byNodes, manyRead, bodies}
	list := []command{
		fuse.on(shaped...),
		{text: "profile --static", args: func(f files) []string { return []string{"profile", "--static", f.model} }, nets: shaped},
		{text: "diff", args: func(f files) []string { return []string{"diff", f.model, f.fused} }, nets: shaped},
		{text: "diff --text", args: func(f files) []string { return []string{"diff", "--text", f.model, f.fused} }, nets: []string{byNodes, bodies}},
		rewriting("quantize", "--dynamic", "--for", "size", "--no-verify").on(byBytes, byNodes, manyRead),
		rewriting("quantize", "--data", "synthetic:4", "--for", "size", "--no-verify").on(every...).upTo(mostRun),
		rewriting("quantize", "--to", "int4", "--no-verify").on(byBytes, byNodes, manyRead),
		rewriting("quantize", "--to", "fp16", "--no-verify").on(shaped...),
		rewriting("prune", "--sparsity", "0.5", "--no-verify").on(byBytes, byNodes, manyRead),
		rewriting("prune", "--pattern", "2:4", "--no-verify").on(every...),
		rewriting("prune", "--pattern", "neurons", "--sparsity", "0.25", "--no-verify").on(byBytes),
		rewriting("fuse", "--no-measure").on(every...).upTo(mostRun),
		{text: "validate --no-latency", nets: every, exit: gateFailed, most: mostRun, args: func(f files) []string {
			return []string{"validate", f.model, f.fused, "--no-latency", "--data", "synthetic:2", "--report", filepath.Join(filepath.Dir(f.out), "report")}
		}},
		{text: "sign", nets: []string{byBytes}, keep: "signature", args: func(f files) []string {
			return []string{"sign", f.model, "--key", f.key + ".key", "-o", f.signature()}
		}},
		{text: "verify", nets: []string{byBytes}, args: func(f files) []string {
			return []string{"verify", f.signature(), "--key", f.key + ".pub", "--model", f.model}
		}},
	}
	return list
}
