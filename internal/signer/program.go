package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/attest"
)

// Bounds of one call of a program.
const (
	callTime   = 5 * time.Minute // a person may have to touch a token
	maxAnswer  = 64 << 10        // bytes
	maxComment = 512             // bytes of its last words that an error repeats
)

// servicePrefix begins the names of programs that sign for a key service.
const servicePrefix = "lapidary-sign-"

// program is a key that another program signs with.
type program struct {
	path     string
	uri      string // "" where the program is for one key only
	messages io.Writer
	key      attest.PublicKey
}

// openService finds the program for a service on the PATH.
func openService(ctx context.Context, scheme, uri string, o Options) (Signer, error) {
	path, err := exec.LookPath(servicePrefix + scheme)
	if err != nil {
		return nil, fmt.Errorf("%s is the address of a key at a service, which the program %s%s signs with, and that is not on the PATH; docs/evidence.md has such programs", uri, servicePrefix, scheme)
	}
	return openProgram(ctx, path, uri, o)
}

// openProgram asks the program for its public key.
func openProgram(ctx context.Context, name, uri string, o Options) (Signer, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("the signing program: %w", err)
	}
	p := &program{path: path, uri: uri, messages: o.Messages}
	out, err := p.call(ctx, "public-key", nil)
	if err != nil {
		return nil, err
	}
	if p.key, err = attest.ParsePublicKey(out); err != nil {
		return nil, fmt.Errorf("the public key that %s printed: %w", path, err)
	}
	return p, nil
}

// PublicKey implements [attest.Signer].
func (p *program) PublicKey() attest.PublicKey { return p.key }

// Close implements [Signer].
func (p *program) Close() error { return nil }

// Sign implements [attest.Signer].
func (p *program) Sign(ctx context.Context, message []byte) ([]byte, error) {
	sig, err := p.call(ctx, "sign", message)
	if err != nil {
		return nil, err
	}
	switch {
	case isDER(sig):
		return sig, nil
	case len(sig) == 64:
		return derSignature(sig)
	}
	return nil, fmt.Errorf("%s sign printed %d bytes that are no signature; want DER, or the 64 bytes r and s", p.path, len(sig))
}

// call runs the program once and returns what it printed.
func (p *program) call(ctx context.Context, verb string, input []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	args := []string{verb}
	if p.uri != "" {
		args = append(args, p.uri)
	}
	c := exec.CommandContext(ctx, p.path, args...)
	c.WaitDelay = time.Second
	c.Stdin = bytes.NewReader(input)
	c.Env = attest.WithoutSecrets(os.Environ())
	if input != nil {
		c.Env = append(c.Env, fmt.Sprintf("LAPIDARY_SHA256=%x", sha256.Sum256(input)))
	}
	answer, comment := &bounded{max: maxAnswer}, &tail{max: maxComment, to: p.messages}
	c.Stdout, c.Stderr = answer, comment
	err := c.Run()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%s %s did not end within %v", p.path, verb, callTime)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case answer.full:
		return nil, fmt.Errorf("%s %s printed more than %d bytes", p.path, verb, maxAnswer)
	case err != nil && len(comment.last) > 0:
		return nil, fmt.Errorf("%s %s: %v: %s", p.path, verb, err, comment)
	case err != nil:
		return nil, fmt.Errorf("%s %s: %v", p.path, verb, err)
	}
	return answer.data, nil
}

// bounded keeps at most max bytes, and fails after them. It embeds no buffer, whose other
// methods would take more.
type bounded struct {
	data []byte
	max  int
	full bool
}

// Write implements [io.Writer].
func (b *bounded) Write(p []byte) (int, error) {
	if len(b.data)+len(p) > b.max {
		b.full = true
		return 0, errors.New("too much")
	}
	b.data = append(b.data, p...)
	return len(p), nil
}

// tail passes on what is written to it, and keeps the end.
type tail struct {
	last []byte
	max  int
	to   io.Writer
}

// Write implements [io.Writer]. Whoever reads the messages cannot make signing fail.
func (t *tail) Write(p []byte) (int, error) {
	if t.to != nil {
		t.to.Write(p)
	}
	t.last = append(t.last, p...)
	if n := len(t.last) - t.max; n > 0 {
		t.last = append([]byte(nil), t.last[n:]...)
	}
	return len(p), nil
}

// String returns the end as one line.
func (t *tail) String() string { return strings.Join(strings.Fields(string(t.last)), " ") }
