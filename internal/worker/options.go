// Package worker runs an engine in a child process, behind [session.Opener].
//
// A model is untrusted input to a large C++ program. Here one process runs one
// model: the program itself, started again, calls [Main] with the engine to
// use. Tensors pass through shared memory, everything else as short messages
// through two pipes. The worker locks itself up before it looks at the model
// (see [Sandbox]), times its own runs, and dies with its coordinator. If it
// dies first, or does not stop when told to, the coordinator gets an error that
// names the model, says how the worker ended and quotes the end of its log.
package worker

import "fmt"

// Options says how workers are started; the zero value starts this program
// with the argument [Argument].
type Options struct {
	Command  []string // program and arguments; what they start must call Main
	ReadOnly []string // files and folders that the engine may read besides the model's folder
	Env      []string // the worker's environment, "KEY=value"; nothing of this process's passes by itself
	TempDir  string   // where private folders are made; "" is the system's
	// Free tells how many bytes of memory the machine has left, for a worker to be ended
	// that takes most of them; nil, or 0 when a worker starts: none is.
	Free     func() int64
	NetSpace bool // also give the worker a network of its own; costs start-up time
}

// Argument is what makes a program a worker, by convention.
const Argument = "__worker"

// Confined is a session whose engine runs under restrictions.
type Confined interface {
	// Sandbox tells which restrictions are in force.
	Sandbox() Sandbox
}

// Sandbox is what keeps a worker from doing harm, for reports. The zero value
// means that nothing does but the process boundary.
type Sandbox struct {
	Landlock    int  // version of the kernel's interface in use; 0: none
	Files       bool // files outside the model's folder and the library's cannot be opened
	Exec        bool // no program can be started
	Network     bool // no socket can be made
	NetSpace    bool // the worker sees no network device
	MemoryLimit bool // allocations beyond Options.MaxMemory fail
}

// String lists the restrictions.
func (s Sandbox) String() string {
	out := "a process of its own"
	if s.Landlock > 0 {
		out += fmt.Sprintf(", landlock %d", s.Landlock)
	}
	for _, r := range []struct {
		on   bool
		name string
	}{{s.Files, "files"}, {s.Exec, "exec"}, {s.Network, "network"}, {s.NetSpace, "network namespace"}, {s.MemoryLimit, "memory"}} {
		if r.on {
			out += ", " + r.name
		}
	}
	return out
}
