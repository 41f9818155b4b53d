package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/ort"
)

// ledgerArgument makes this test program a shard, which takes graphs through
// the commands and tells what became of them.
const ledgerArgument = "__ledger"

// ledgerTask is one graph, as a shard reads it from its standard input.
type ledgerTask struct {
	Graph string // as the ledger names it
	Model string // its file
	Data  string // folder of its test data, "" for none
	Dir   string // for what the commands write
	// Isolated runs the engine in a worker of its own for each session, so that
	// its end is an error. A shard that does not starts no processes and so is quick.
	Isolated bool
	Done     []string // commands that are in the ledger already
}

// ledgerEvent is what a shard tells: at what it is, or what became of it.
type ledgerEvent struct {
	Command string
	Entry   *ledgerEntry `json:",omitempty"`
	End     bool         `json:",omitempty"` // of the graph
}

// ledgerShard serves tasks until there are no more. It is a process of its own,
// since the runtime runs in it, and since a panic outside of the command's own
// goroutine ends it.
func ledgerShard(library string) int {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.NewFile(3, "events"))
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var task ledgerTask
		if err := json.Unmarshal(line, &task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		tell := func(e ledgerEvent) {
			if err := out.Encode(e); err != nil { // the test is gone
				os.Exit(1)
			}
		}
		g := &ledgerGraph{ledgerTask: task, tell: tell, engine: ledgerEngine(library, task.Isolated)}
		g.run()
		tell(ledgerEvent{End: true})
	}
}

// ledgerEngine is what the commands find without any flag, but with one thread
// and, if not isolated, in this process.
func ledgerEngine(library string, isolated bool) *engine {
	a := &app{env: ledgerEnv(library, nil, nil)}
	e, err := a.findEngine(context.Background(), ledgerEngineFlags)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	e.options.Threads, e.threads = 1, device.Threads{N: 1, Reason: "a shard"}
	e.options.Deadline = 15 * time.Second // a generated number of turns may be any
	if !isolated {
		e.open = ort.Opener(library)
	}
	return e
}

// ledgerEngineFlags are the engine's flags where none is given.
var ledgerEngineFlags = engineFlags{device: "auto", engine: "onnxruntime", run: defaultRunTime, memory: autoMemory}

func ledgerEnv(library string, stdout, stderr *bytes.Buffer) *env {
	e := systemEnv()
	e.vars = append(e.vars, "LAPIDARY_ORT_LIB="+library)
	e.stdin, e.terminal, e.columns = strings.NewReader(""), false, 80
	e.cacheDir = ""
	e.stdout, e.stderr = stdout, stderr
	return e
}

// ledgerProcess is a shard as the test sees it.
type ledgerProcess struct {
	cmd    *exec.Cmd
	tasks  *json.Encoder
	events chan ledgerEvent // closed when the shard is gone
	log    bytes.Buffer
	served int
	close  func()
}

func startShard(library string) (*ledgerProcess, error) {
	p := &ledgerProcess{events: make(chan ledgerEvent)}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	p.cmd = exec.Command(self, ledgerArgument, library)
	p.cmd.ExtraFiles, p.cmd.Stderr = []*os.File{w}, &p.log
	p.cmd.Env = append(os.Environ(), "GOMEMLIMIT=2GiB", "GOMAXPROCS=2")
	stdin, err := p.cmd.StdinPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	p.tasks, p.close = json.NewEncoder(stdin), func() { stdin.Close(); r.Close() }
	go func() {
		defer close(p.events)
		for d := json.NewDecoder(r); ; {
			var e ledgerEvent
			if d.Decode(&e) != nil {
				return
			}
			p.events <- e
		}
	}()
	return p, nil
}

// stop ends a shard, which has no task, or has hung with one.
func (p *ledgerProcess) stop(hung bool) {
	if hung {
		p.cmd.Process.Kill()
	}
	p.close()
	for range p.events {
	}
	p.cmd.Wait()
}

// ledgerPatience is how long a shard may be silent: a command and the runs
// of its result. Where the engine is in the shard, nothing ends a run that hangs,
// so that it is given up sooner.
func ledgerPatience(isolated bool) time.Duration {
	if isolated {
		return 3 * time.Minute
	}
	return 45 * time.Second
}

// serve has a shard do a task. It returns the command at which the shard
// was when it died or hung.
func (p *ledgerProcess) serve(task ledgerTask, enter func(ledgerEntry)) (at string, err error) {
	p.served++
	if err := p.tasks.Encode(task); err != nil {
		p.stop(true)
		return "", err
	}
	for {
		timer := time.NewTimer(ledgerPatience(task.Isolated))
		select {
		case e, ok := <-p.events:
			timer.Stop()
			switch {
			case !ok:
				p.close()
				return at, errors.Join(p.cmd.Wait(), errors.New(lastLines(p.log.String())))
			case e.End:
				return "", nil
			case e.Entry != nil:
				enter(*e.Entry)
			default:
				at = e.Command
			}
		case <-timer.C:
			p.stop(true)
			return at, fmt.Errorf("nothing for %v", ledgerPatience(task.Isolated))
		}
	}
}

// lastLines returns what a process said of its end.
func lastLines(log string) string {
	if i := strings.Index(log, "panic: "); i >= 0 {
		log = log[i:]
	}
	return log[:min(len(log), 1500)]
}
