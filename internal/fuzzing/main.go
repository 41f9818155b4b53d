// Fuzzing runs the fuzz targets of the module, one after the other or several at
// once, and adds up in a ledger what each has cost and found.
//
//	go run ./internal/fuzzing -time 30m -name FuzzDecode -ledger docs/fuzzing.md
//	go run ./internal/fuzzing -time 5m -up-to 30m -at-once 2 -parallel 1 -ledger docs/fuzzing.md
//
// Minutes of CPU are those of the fuzzing processes, without compiling. A run that
// is interrupted counts as far as it came. What a target finds, Go writes below
// testdata/fuzz of its package; the command then goes on with the next target and
// ends with exit code 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.DurationVar(&o.each, "time", 10*time.Second, "how long each target runs")
	flag.DurationVar(&o.total, "total", 0, "how long all of them run, compiling included; 0: as long as it takes")
	flag.DurationVar(&o.upTo, "up-to", 0, "leave out targets that had as much time of CPU in all runs of the ledger, and begin with those that had least; 0: run all, as they stand there")
	flag.IntVar(&o.atOnce, "at-once", 1, "targets at once")
	flag.IntVar(&o.parallel, "parallel", 0, "processes of a target at once; 0: as many as there are processors")
	flag.StringVar(&o.ledger, "ledger", "", "`FILE` of the ledger to add to; none: it is only printed what happened")
	flag.StringVar(&o.cache, "cache", "", "`FOLDER` of the inputs that were found interesting; default: Go's own")
	flag.BoolVar(&o.blind, "blind", false, "compile without what tells new paths from old ones: finds less, and is compiled at once where tests were")
	name := flag.String("name", "", "`REGEXP` of the targets to run, matched against FOLDER.NAME; default: all")
	rotate := flag.Bool("rotate", false, "begin with another target each day, for runs that do not get to the last one")
	flag.Parse()
	var err error
	if o.name, err = regexp.Compile(*name); err == nil && flag.NArg() > 0 {
		err = fmt.Errorf("there are no arguments, and %q was given", flag.Arg(0))
	}
	if err == nil && o.upTo > 0 && o.ledger == "" {
		err = errors.New("-up-to needs the -ledger that says how much there was")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzzing:", err)
		os.Exit(2)
	}
	if *rotate {
		o.from = time.Now().YearDay()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	found, err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzzing:", err)
	}
	if err != nil || found > 0 {
		os.Exit(1)
	}
}
