//go:build cgo

package ort

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/cgo"
	"slices"
	"strings"
	"time"

	binding "github.com/yalue/onnxruntime_go"

	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Opener returns the engine behind the shared library at the given path, which
// is loaded when the first model is opened. Sessions implement
// [session.Timer], [session.Meter], [session.Profiler], [session.Warner] and
// [session.Placer]. They run in this process, so that [session.Options.MaxMemory]
// is refused and a deadline takes effect between two nodes; the worker has
// neither limit.
func Opener(library string) session.Opener {
	return func(ctx context.Context, path string, o session.Options) (session.Session, error) {
		a, err := load(library)
		if err != nil {
			return nil, err
		}
		s, err := open(ctx, a, path, o)
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", path, err)
		}
		return s, nil
	}
}

func open(ctx context.Context, a *api, path string, o session.Options) (*sess, error) {
	if o.MaxMemory != 0 {
		return nil, errors.New("a memory limit cannot be kept in this process; use the worker")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w", err.(*os.PathError).Err)
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file; give the path of a .onnx file")
	}
	s := &sess{api: a, path: path, o: o, fallbacks: -1, log: &warnings{}, base: session.ReadUsage()}
	if err := s.create(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// create makes the runtime's session and learns its ports.
func (s *sess) create(ctx context.Context) error {
	so, err := s.options()
	if err != nil {
		return err
	}
	defer so.Destroy()
	raw := object(so, "o")
	s.logHandle = cgo.NewHandle(s.log)
	if err := s.setLogger(raw, uintptr(s.logHandle)); err != nil {
		return err
	}
	ctx, cancel := session.Within(ctx, s.o.LoadLimit, session.TooLong{Limit: s.o.LoadLimit, Loading: true})
	defer cancel()
	done := afterFunc(ctx, func() { s.cancelLoad(raw) })
	if s.o.TimeRead {
		if s.read, err = timeRead(s.path); err != nil {
			done()
			return err
		}
	}
	start := time.Now()
	s.bound, err = binding.NewDynamicAdvancedSession(s.path, nil, nil, so)
	s.created = time.Since(start)
	done()
	if ctx.Err() != nil {
		return fmt.Errorf("stopped while loading: %w", context.Cause(ctx))
	}
	if err != nil {
		msg := strings.TrimPrefix(tidy(err.Error()), "Load model from "+s.path)
		return errors.New(strings.TrimSpace(strings.TrimPrefix(msg, " failed:")))
	}
	s.raw = object(s.bound, "s", "ortSession")
	s.profiling = s.o.Profile != ""
	if err := s.learnPorts(); err != nil {
		return err
	}
	return s.countFallbacks()
}

// timeRead reads a file to its end and returns how long that took. The runtime
// then finds it in the system's cache.
func timeRead(path string) (time.Duration, error) {
	start := session.Clock()
	f, _, err := readfile.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := io.Copy(io.Discard, f); err != nil {
		return 0, err
	}
	return max(session.Clock()-start, 1), nil
}

// logSeverity is from what on the runtime's messages are kept.
var logSeverity binding.LoggingLevel = binding.LoggingLevelWarning

// options translates s.o; the caller destroys the result.
func (s *sess) options() (so *binding.SessionOptions, err error) {
	if so, err = binding.NewSessionOptions(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			so.Destroy()
			so, err = nil, errors.New(tidy(err.Error()))
		}
	}()
	opt, err := level(s.o.Level)
	if err != nil {
		return so, err
	}
	if s.device, err = parseDevice(s.o.Device); err != nil {
		return so, err
	}
	threads := s.o.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	have, err := s.providers()
	if err != nil {
		return so, err
	}
	steps := []func() error{
		func() error { return so.SetGraphOptimizationLevel(opt) },
		func() error { return so.SetIntraOpNumThreads(threads) },
		func() error { return so.SetInterOpNumThreads(1) },
		func() error { return so.SetCpuMemArena(!s.o.NoArena) },
		func() error { return so.SetLogSeverityLevel(logSeverity) },
		func() error { return s.device.use(so, have, s.o.Config) },
	}
	for k, v := range s.config() {
		steps = append(steps, func() error { return so.AddSessionConfigEntry(k, v) })
	}
	if s.o.Profile != "" {
		steps = append(steps, func() error { return so.EnableProfiling(s.o.Profile) })
	}
	if s.o.SaveModel != "" {
		steps = append(steps, func() error { return so.SetOptimizedModelFilePath(s.o.SaveModel) })
	}
	for _, step := range steps {
		if err = step(); err != nil {
			return so, err
		}
	}
	return so, nil
}

// config returns the session settings: what the options imply, then what the
// caller gave.
func (s *sess) config() map[string]string {
	c := map[string]string{"session.intra_op.allow_spinning": "0"}
	if s.o.Spin {
		c["session.intra_op.allow_spinning"] = "1"
	}
	if s.o.Flush {
		c["session.set_denormal_as_zero"] = "1"
	}
	if s.device.kind != "cpu" {
		c["session.record_ep_graph_assignment_info"] = "1"
		if s.o.Strict {
			c["session.disable_cpu_ep_fallback"] = "1"
		}
	}
	for k, v := range s.o.Config {
		if !strings.HasPrefix(k, providerPrefix) {
			c[k] = v
		}
	}
	return c
}

// learnPorts fills in the session's ports.
func (s *sess) learnPorts() error {
	lists := [...]*[]session.Port{inputPorts: &s.in, outputPorts: &s.out, defaultPorts: &s.defaults}
	for k, dst := range lists {
		names, types, err := s.ports(s.raw, portKind(k))
		if err != nil {
			return err
		}
		for i, n := range names {
			*dst = append(*dst, session.Port{Name: n, Type: types[i]})
		}
	}
	if s.o.Outputs != nil {
		all := s.out
		s.out = nil
		for _, name := range s.o.Outputs {
			i := slices.IndexFunc(all, func(p session.Port) bool { return p.Name == name })
			if i < 0 {
				return fmt.Errorf("output %q is unknown: the model's outputs are %s", name, portNames(all))
			}
			s.out = append(s.out, all[i])
		}
	}
	var names []string
	for _, p := range s.out {
		names = append(names, p.Name)
	}
	s.outNames = newCStrings(names)
	return nil
}

func portNames(list []session.Port) string {
	var names []string
	for _, p := range list {
		names = append(names, fmt.Sprintf("%q", p.Name))
	}
	return strings.Join(names, ", ")
}

// countFallbacks counts the nodes that another provider runs than the one
// asked for.
func (s *sess) countFallbacks() error {
	if s.device.kind == "cpu" {
		s.fallbacks = 0
		return nil
	}
	nodes, err := s.assigned(s.raw)
	if err != nil {
		return err
	}
	s.fallbacks = 0
	for p, n := range nodes {
		if p != s.device.provider {
			s.fallbacks += n
		}
	}
	return nil
}

// afterFunc is [context.AfterFunc] whose stop waits for f to end if it began.
func afterFunc(ctx context.Context, f func()) (stop func()) {
	ended := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(ended)
		f()
	})
	return func() {
		if !cancel() {
			<-ended
		}
	}
}
