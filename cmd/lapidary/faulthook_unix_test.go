//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/worker"
)

// faultVariable holds a [faultPlan], which arms the program that the tests run:
// nothing of this file is in the real one.
const faultVariable = "LAPIDARY_TEST_FAULT"

// faultPlan says which operation of a run fails, and how.
type faultPlan struct {
	Root  string // folder that holds all of the run; paths are shown relative to it
	Log   string // file that gets a line for each operation; "": none
	At    string // operation, as in the log
	Fault string // key of faultErrors, faultKill or faultTerm
}

const (
	faultKill = "kill"
	faultTerm = "term" // SIGTERM, after which the operation is done
)

var faultErrors = map[string]error{
	"ENOSPC":      syscall.ENOSPC,
	"EIO":         syscall.EIO,
	"EACCES":      syscall.EACCES,
	"EROFS":       syscall.EROFS,
	"EINTR":       syscall.EINTR,
	"short write": atomicfile.ErrShort,
}

func init() {
	text := os.Getenv(faultVariable)
	if text == "" || len(os.Args) > 1 && os.Args[1] == worker.Argument {
		return
	}
	var p faultPlan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		panic(err)
	}
	atomicfile.Hook = p.hook()
}

// madeUp are the parts of names of temporary files that differ in each run.
var madeUp = regexp.MustCompile(`(lapidary-[a-z]+|/\.staging|/\.old)-\w*`)

func (p faultPlan) hook() func(atomicfile.Op, string) error {
	var mu sync.Mutex
	seen := map[string]int{}
	return func(op atomicfile.Op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		path = strings.TrimPrefix(path, p.Root+string(filepath.Separator))
		what := fmt.Sprintf("%s %s", op, madeUp.ReplaceAllString(path, "$1"))
		if seen[what]++; seen[what] > 1 {
			what += fmt.Sprintf(" (%d)", seen[what])
		}
		if p.Log != "" {
			f, err := os.OpenFile(p.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
			if err != nil {
				panic(err)
			}
			fmt.Fprintln(f, what)
			f.Close()
		}
		switch {
		case what != p.At:
			return nil
		case p.Fault == faultKill:
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case p.Fault == faultTerm:
			syscall.Kill(os.Getpid(), syscall.SIGTERM)
			time.Sleep(100 * time.Millisecond) // the program hears of it
			return nil
		}
		return faultErrors[p.Fault]
	}
}
