//go:build !cgo

package ort

import (
	"context"
	"errors"

	"github.com/lapidary-ml/lapidary/internal/session"
)

// Available says that this program can load ONNX Runtime at all.
const Available = false

var errNoCgo = errors.New("this lapidary was built without cgo and cannot load ONNX Runtime; use a release without _static in its name, build it with CGO_ENABLED=1 and a C compiler, or use --engine onnx-go")

// Opener returns an engine that refuses to open, since the program was built
// without cgo.
func Opener(library string) session.Opener {
	return func(context.Context, string, session.Options) (session.Session, error) { return nil, errNoCgo }
}

// Info fails, since the program was built without cgo.
func Info(library string) (session.Info, error) { return session.Info{}, errNoCgo }
