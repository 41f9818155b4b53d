// Growthrun measures how time and memory of every command grow with the model, and writes docs/growth.md and
// docs/growth.svg. Called by "make growth".
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/growth"
)

// external is from which size weights lie in a file beside the model: what one ONNX file cannot hold.
const external = 2 << 30

func main() {
	os.Setenv("LAPIDARY_KEY_PASSPHRASE", "growth") // of a key that is made for this run and removed with it
	h := &harness{measure: growth.Measure, say: func(s string) { fmt.Fprintln(os.Stderr, s) }}
	flag.StringVar(&h.lapidary, "lapidary", "bin/lapidary", "program to measure")
	flag.StringVar(&h.netgen, "netgen", "bin/netgen", "program that writes the models")
	flag.StringVar(&h.work, "work", ".bench/growth", "folder for models; needs 13 GB")
	md := flag.String("md", "docs/growth.md", "document to write")
	svg := flag.String("svg", "docs/growth.svg", "picture to write")
	sizes := flag.String("bytes", "10e6,40e6,160e6,640e6,2.5e9,4e9", "bytes of weights")
	nodes := flag.String("nodes", "100,1000,10000,20000", "numbers of nodes")
	flag.Parse()
	if err := h.run(*sizes, *nodes, *md, *svg); err != nil {
		fmt.Fprintln(os.Stderr, "growthrun:", err)
		os.Exit(1)
	}
}

// harness measures.
type harness struct {
	lapidary, netgen, work string
	measure                func(program string, args ...string) (growth.Cost, error)
	say                    func(string)
}

func (h *harness) run(sizes, nodes, md, svg string) error {
	bytes, err := numbers(sizes)
	if err != nil {
		return err
	}
	counts, err := numbers(nodes)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(h.work, 0o755); err != nil {
		return err
	}
	began := time.Now()
	d := newDocument(h.lapidary)
	for _, s := range []struct {
		net   string
		sizes []float64
	}{{byNodes, counts}, {manyRead, counts}, {bodies, counts}, {byBytes, bytes}} {
		series, err := h.series(s.net, s.sizes)
		if err != nil {
			return err
		}
		d.series = append(d.series, series)
	}
	d.took = time.Since(began)
	return d.write(md, svg)
}

// numbers reads a list of sizes.
func numbers(list string) ([]float64, error) {
	var out []float64
	for _, text := range strings.Split(list, ",") {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || x < 1 || len(out) > 0 && x <= out[len(out)-1] {
			return nil, fmt.Errorf("sizes %q are no growing list of numbers", list)
		}
		out = append(out, x)
	}
	return out, nil
}

// series measures every command that is about a network, at every size.
func (h *harness) series(net string, sizes []float64) (*growth.Series, error) {
	s := &growth.Series{Title: titles[net].title, Note: titles[net].note, Unit: "nodes", Sizes: sizes}
	if net == byBytes {
		s.Unit = "bytes"
	}
	var list []command
	for _, c := range commands() {
		for _, n := range c.nets {
			if n == net {
				list = append(list, c)
				s.Rows = append(s.Rows, &growth.Row{Command: c.text, Model: net})
			}
		}
	}
	if err := h.size(net, 0, list, func(i int, cost growth.Cost, err error) error {
		s.Rows[i].Start = cost
		return err // without a start there is nothing to take off
	}); err != nil {
		return nil, err
	}
	for _, n := range sizes {
		if err := h.size(net, n, list, func(i int, cost growth.Cost, err error) error {
			r := s.Rows[i]
			switch {
			case r.Failed != "":
			case err != nil:
				r.Failed = "failed"
				h.say(err.Error())
			default:
				r.Samples = append(r.Samples, growth.Sample{Size: n, Cost: cost})
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// size makes the model of one size, measures all commands on it, and removes it.
func (h *harness) size(net string, n float64, list []command, done func(i int, c growth.Cost, err error) error) error {
	dir, err := os.MkdirTemp(h.work, net+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := h.generate(dir, net, n)
	if err != nil {
		return err
	}
	for i, c := range list {
		if net == byBytes && c.most > 0 && n > c.most {
			continue
		}
		cost, err := h.repeat(c, f)
		h.say(fmt.Sprintf("%s %s of %.4g: %.2fs, processors %.2fs, peak %s", c.text, net, n, cost.Wall.Seconds(), cost.CPU.Seconds(), growth.Bytes(float64(cost.Peak))))
		if err := done(i, cost, err); err != nil {
			return err
		}
	}
	return nil
}

// generate writes a model of n bytes or nodes; 0 is one of next to nothing.
func (h *harness) generate(dir, net string, n float64) (files, error) {
	f := files{model: filepath.Join(dir, net+".onnx"), fused: filepath.Join(dir, "fused.onnx"), out: filepath.Join(dir, "out", "out.onnx"), key: filepath.Join(dir, "growth")}
	args := []string{"-o", dir}
	switch {
	case n == 0 && net == byBytes:
		args = append(args, "-tiny")
	case n == 0:
		args = append(args, "-nodes", "1")
	case net == byBytes:
		args = append(args, "-bytes", strconv.FormatInt(int64(n), 10))
	default:
		args = append(args, "-nodes", strconv.Itoa(int(n)))
	}
	if net == byBytes && n >= external {
		args = append(args, "-external")
	}
	if out, err := exec.Command(h.netgen, append(args, net)...).CombinedOutput(); err != nil {
		return f, fmt.Errorf("making %s of %v: %w: %s", net, n, err, out)
	}
	if net != byBytes {
		return f, nil
	}
	c := exec.Command(h.lapidary, "keygen", f.key)
	if out, err := c.CombinedOutput(); err != nil {
		return f, fmt.Errorf("making a key: %w: %s", err, out)
	}
	return f, nil
}

// expected is nil where a command ended as it should.
func expected(err error, code int) error {
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == code:
		return nil
	case err == nil && code != 0:
		return fmt.Errorf("it ended with code 0, not %d", code)
	}
	return err
}

// enough is for how long a command runs again: short ones are noisy.
const enough = 2 * time.Second

// repeat measures a command until it took long enough in all, at most five times.
func (h *harness) repeat(c command, f files) (growth.Cost, error) {
	var list []growth.Cost
	var spent time.Duration
	for len(list) < 5 && spent < enough {
		if err := os.MkdirAll(filepath.Dir(f.out), 0o755); err != nil {
			return growth.Cost{}, err
		}
		cost, err := h.measure(h.lapidary, c.args(f)...)
		if err = expected(err, c.exit); err != nil {
			return growth.Cost{}, err
		}
		list, spent = append(list, cost), spent+cost.Wall
		if c.keep == "" {
			os.Remove(f.out)
			os.Remove(f.out + ".data")
		}
	}
	return growth.Least(list), nil
}
