//go:build cgo

package ort

import (
	"regexp"
	"runtime/cgo"
	"strings"
	"sync"
)

// #include <stdint.h>
import "C"

var (
	// sourcePlace is a source position and function that the runtime puts
	// before what it has to say.
	sourcePlace = regexp.MustCompile(`\S*/?onnxruntime\S*\.(cc|h|cpp):\d+ (?:.*?\) ?(?:const)?\s*(?:\[with [^\]]*\] )?|\S+ )`)
	// bindingPrefix is what the Go binding puts before the runtime's words.
	bindingPrefix = regexp.MustCompile(`^(Error (creating|running|loading|setting|looking up)[^:]*: |Platform-specific initialization failed: )+`)
	spaces        = regexp.MustCompile(`\s+`)
)

// maxMessage bounds what is kept of one message of the runtime, which may
// quote the model at length.
const maxMessage = 1000

// tidy makes one line of a message of the runtime and takes out what speaks of
// the runtime's own source code.
func tidy(msg string) string {
	msg = bindingPrefix.ReplaceAllString(msg, "")
	if first, _, ok := strings.Cut(msg, "\nStacktrace:"); ok {
		msg = first
	}
	msg = sourcePlace.ReplaceAllString(msg, "")
	msg = strings.TrimSpace(spaces.ReplaceAllString(msg, " "))
	if len(msg) > maxMessage {
		msg = strings.ToValidUTF8(msg[:maxMessage], "") + " …"
	}
	return msg
}

// maxWarnings bounds the log that a session keeps.
const maxWarnings = 200

// warnings collects what the runtime logs for one session.
type warnings struct {
	mu      sync.Mutex
	lines   []string
	dropped bool
}

func (w *warnings) add(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lines) == maxWarnings {
		w.dropped = true
		return
	}
	w.lines = append(w.lines, line)
}

func (w *warnings) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := append([]string(nil), w.lines...)
	if w.dropped {
		out = append(out, "(further warnings were not kept)")
	}
	return out
}

// lapidaryOrtLog is called by the runtime, from any of its threads.
//
//export lapidaryOrtLog
func lapidaryOrtLog(handle C.uintptr_t, severity C.int, category, msg *C.char) {
	if w, ok := cgo.Handle(handle).Value().(*warnings); ok {
		w.add(tidy(C.GoString(msg)))
	}
}
