//go:build unix || windows

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// process is a worker as its coordinator sees it.
type process struct {
	cmd        *exec.Cmd
	requests   *os.File // to the worker
	answers    chan answer
	toWorker   *memory
	fromWorker *memory
	log        *tail
	exited     chan struct{} // closed when the process has ended and was waited for
	netSpace   bool
	room       room

	tempDir string
	dir     *atomicfile.Dir // private folder, nil until one is needed
	dead    error           // why the worker is gone
}

// answer is a message from the worker, or the reason why no more come.
type answer struct {
	msg []byte
	err error
}

// The files that a worker is born with, in this order, beside standard output
// and error, which both go to its log.
const (
	fileRequests = iota
	fileAnswers
	fileToWorker
	fileFromWorker
	bornWith
)

// start starts a worker.
func start(w Options) (p *process, err error) {
	p = &process{answers: make(chan answer, 1), log: &tail{}, exited: make(chan struct{}), tempDir: w.TempDir, room: newRoom(w.Free)}
	started := p         // the error returns set p to nil
	var files []*os.File // for the worker
	defer func() {
		for _, f := range files {
			f.Close()
		}
		if err != nil {
			started.release()
		}
	}()
	theirRequests, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.requests = ours
	files = append(files, theirRequests)
	answers, theirAnswers, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	files = append(files, theirAnswers)
	for _, m := range []**memory{&p.toWorker, &p.fromWorker} {
		f, err := newMemoryFile(p.scratch)
		if err != nil {
			answers.Close()
			return nil, err
		}
		if *m, err = mapMemory(f); err != nil {
			f.Close()
			answers.Close()
			return nil, err
		}
		dup, err := duplicate(f)
		if err != nil {
			answers.Close()
			return nil, err
		}
		files = append(files, dup)
	}
	if err := p.spawn(w, files); err != nil {
		answers.Close()
		return nil, err
	}
	go p.listen(answers)
	return p, nil
}

// command returns what starts the worker.
func (p *process) command(w Options) (*exec.Cmd, error) {
	args := w.Command
	if len(args) == 0 {
		self, err := selfPath()
		if err != nil {
			return nil, err
		}
		args = []string{self, Argument}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append([]string{"GOTRACEBACK=none"}, w.Env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.WaitDelay = grace
	return cmd, nil
}

// spawn starts the process. The thread that does so lives as long as the
// worker, since the kernel would take the thread's end for the coordinator's.
func (p *process) spawn(w Options, files []*os.File) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.startAny(w, files)
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // ProcessState says how it ended
			close(p.exited)
		}
	}()
	return <-started
}

// startAny starts the process with a network of its own, if that is asked for
// and can be had, and otherwise without.
func (p *process) startAny(w Options, files []*os.File) (err error) {
	for _, isolate := range []bool{true, false} {
		if isolate && !w.NetSpace {
			continue
		}
		if p.cmd, err = p.command(w); err != nil {
			return err
		}
		p.cmd.SysProcAttr = confinedStart(isolate)
		if err = passOn(p.cmd, files); err != nil {
			return err
		}
		if err = p.cmd.Start(); err == nil {
			p.netSpace = isolate && p.cmd.SysProcAttr != nil
			return nil
		}
	}
	return err
}

// listen passes on the worker's answers, and last the reason why there are no
// more.
func (p *process) listen(from *os.File) {
	defer from.Close()
	defer close(p.answers)
	for {
		msg, err := readFrame(from)
		p.answers <- answer{msg, err}
		if err != nil {
			return
		}
	}
}

// exchange sends a request and waits for its answer. When ctx ends first, the
// worker is told to stop, and killed if it does not.
func (p *process) exchange(ctx context.Context, request []byte) ([]byte, error) {
	if p.dead != nil {
		return nil, p.dead
	}
	unblock := context.AfterFunc(ctx, func() { p.requests.SetWriteDeadline(time.Now()) })
	err := writeFrame(p.requests, request)
	unblock()
	if err != nil && ctx.Err() != nil { // half a request may have gone out
		p.dead = fmt.Errorf("the worker process was killed: it did not listen (%w)", context.Cause(ctx))
		p.kill()
		return nil, p.dead
	}
	if err != nil {
		return nil, p.lost(err)
	}
	if answered, msg, err := p.await(ctx); answered {
		return msg, err
	}
	cause := context.Cause(ctx)
	_ = p.requests.SetWriteDeadline(time.Now().Add(grace))
	_ = writeFrame(p.requests, []byte{opCancel}) // a worker that cannot hear it is killed below
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case a := <-p.answers:
		_ = p.requests.SetWriteDeadline(time.Time{})
		return p.received(a)
	case <-late.C:
	}
	p.dead = fmt.Errorf("the worker process was killed: it did not stop when told to (%w)", cause)
	p.kill()
	return nil, p.dead
}

// await returns the answer, or that ctx ended first. It ends a worker that takes the
// machine's memory, at once too where the last request was long ago.
func (p *process) await(ctx context.Context) (answered bool, _ []byte, _ error) {
	look := time.NewTimer(p.room.wait())
	defer look.Stop()
	for {
		select {
		case a := <-p.answers:
			msg, err := p.received(a)
			return true, msg, err
		case <-ctx.Done():
			return false, nil, nil
		case <-look.C:
			if err := p.room.look(p.cmd.Process.Pid); err != nil {
				p.dead = err
				p.kill()
				return true, nil, err
			}
			look.Reset(p.room.wait())
		}
	}
}

func (p *process) received(a answer) ([]byte, error) {
	if a.err != nil {
		return nil, p.lost(a.err)
	}
	return a.msg, nil
}

// lost makes sure that the worker has ended, and says how it did.
func (p *process) lost(cause error) error {
	late := time.NewTimer(grace)
	defer late.Stop()
	how, killed := "closed its connection and was killed", true
	select {
	case <-p.exited:
		how, killed = describeExit(p.cmd.ProcessState), false
	case <-late.C:
	}
	p.kill()
	if !errors.Is(cause, io.EOF) && !errors.Is(cause, io.ErrUnexpectedEOF) && !errors.Is(cause, syscall.EPIPE) {
		how += " (" + cause.Error() + ")"
	}
	how = "the worker process " + how + p.log.quote()
	p.dead = errors.New(how)
	if p.cmd.ProcessState != nil && endedBy(p.cmd.ProcessState) == syscall.SIGKILL && !killed {
		p.dead = session.OutOfMemory{Reason: how}
	}
	return p.dead
}

// describeExit says how a process ended; s is nil where the system did not tell,
// as where somebody else has waited for it.
func describeExit(s *os.ProcessState) string {
	if s == nil {
		return "ended, nobody knows how"
	}
	if by := endedBy(s); by != 0 {
		text := fmt.Sprintf("died: signal %d (%v)", by, by)
		if by == syscall.SIGKILL { // which nothing here sends to a worker that is still wanted
			text += "; where nobody did that by hand, the system had no memory left: use a smaller batch, or a machine or a container with more"
		}
		return text
	}
	if code := s.ExitCode(); code > 255 { // an exception of Windows
		return fmt.Sprintf("died: status %#x", code)
	}
	return fmt.Sprintf("ended with status %d", s.ExitCode())
}

// endedBy is the signal that ended a process, 0 where none did.
func endedBy(s *os.ProcessState) syscall.Signal {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return ws.Signal()
	}
	return 0
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.exited
}

// stop ends the worker, at once or after a time to end by itself, and gives
// back all that belonged to it.
func (p *process) stop(wait time.Duration) {
	p.requests.Close() // a worker ends when nobody can ask it any more
	select {
	case <-p.exited:
	case <-time.After(wait):
	}
	p.kill()
	if p.dead == nil {
		p.dead = errors.New("the worker process was stopped")
	}
	p.release()
	for range p.answers { // lets listen end
	}
}

func (p *process) release() {
	if p.requests != nil {
		p.requests.Close()
	}
	for _, m := range []*memory{p.toWorker, p.fromWorker} {
		if m != nil {
			m.close()
		}
	}
	if p.dir != nil {
		p.dir.Remove()
	}
}

// cleanOnce removes the private folders of coordinators that were killed.
var cleanOnce sync.Once

// scratch returns a folder that only this worker uses, removed with it.
func (p *process) scratch() (string, error) {
	if p.dir != nil {
		return p.dir.Path, nil
	}
	parent := p.tempDir
	if parent == "" {
		parent = os.TempDir()
	}
	cleanOnce.Do(func() { atomicfile.CleanStale(parent) })
	dir, err := atomicfile.TempDir(parent)
	if err != nil {
		return "", fmt.Errorf("making a private folder: %w", err)
	}
	p.dir = dir
	return dir.Path, nil
}

// quote returns the end of the log for an error message.
func (t *tail) quote() string {
	lines := t.lines()
	if len(lines) == 0 {
		return ""
	}
	return "; its log ends:\n\t" + strings.Join(lines, "\n\t")
}
