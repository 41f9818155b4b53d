package validate

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// commandJudge is a program of the user. It is run once for each batch and model, without a shell, and is given an .npz archive of the
// outputs by name, with labels (where the data has them) and ids: as a private file whose path takes the place of {} among its
// arguments, or on its standard input where no argument has {}. LAPIDARY_MODEL in its environment is baseline or candidate. It
// prints one line of JSON for each sample, in order: a number, or null where it has none.
type commandJudge struct {
	argv    []string
	timeout time.Duration
}

const (
	defaultScoreTimeout = time.Minute
	maxScoreLine        = 1 << 16
	maxScoreLog         = 2000
)

func newCommandJudge(s Score) judge {
	timeout := s.Timeout
	if timeout == 0 {
		timeout = defaultScoreTimeout
	}
	return &commandJudge{s.Command, timeout}
}

// Close does nothing: no program outlives its batch.
func (j *commandJudge) Close() error { return nil }

func (j *commandJudge) score(ctx context.Context, model int, outputs map[string]*onnx.Tensor, samples []*dataset.Sample) ([]float64, error) {
	arrays := map[string]*onnx.Tensor{}
	for name, t := range outputs {
		arrays[name] = t
	}
	labels, err := stackLabels(samples)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range samples {
		ids = append(ids, s.ID)
	}
	arrays["ids"] = onnx.FromStrings("ids", []int64{int64(len(ids))}, ids)
	if labels != nil {
		arrays["labels"] = labels
	}
	var archive bytes.Buffer
	if err := dataset.WriteNpz(&archive, arrays); err != nil {
		return nil, err
	}
	argv, stdin, remove, err := j.hand(archive.Bytes())
	if err != nil {
		return nil, err
	}
	defer remove()
	return j.run(ctx, argv, stdin, [2]string{"baseline", "candidate"}[model], len(samples))
}

// hand gives the archive to the program as a file, where it asks for one, or as its standard input.
func (j *commandJudge) hand(archive []byte) (argv []string, stdin io.Reader, remove func(), err error) {
	remove = func() {}
	if !strings.Contains(strings.Join(j.argv[1:], "\x00"), "{}") {
		return j.argv, bytes.NewReader(archive), remove, nil
	}
	f, err := os.CreateTemp("", "lapidary-score-*.npz") // readable by this user alone
	if err != nil {
		return nil, nil, remove, err
	}
	remove = func() { os.Remove(f.Name()) }
	_, err = f.Write(archive)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		remove()
		return nil, nil, func() {}, err
	}
	argv = append(argv, j.argv[0])
	for _, a := range j.argv[1:] {
		argv = append(argv, strings.ReplaceAll(a, "{}", f.Name()))
	}
	return argv, nil, remove, nil
}

func (j *commandJudge) run(ctx context.Context, argv []string, stdin io.Reader, model string, n int) ([]float64, error) {
	limited, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, argv[0], argv[1:]...)
	endTogether(cmd)
	cmd.WaitDelay = time.Second
	cmd.Env = append(attest.WithoutSecrets(os.Environ()), "LAPIDARY_MODEL="+model)
	cmd.Stdin = stdin
	var log tail
	cmd.Stderr = &log
	out := &bounded{left: n*maxScoreLine + maxScoreLine}
	cmd.Stdout = out
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		return nil, fmt.Errorf("%s ran for more than %v; raise --score-timeout or lower --batch", argv[0], j.timeout)
	case err != nil:
		return nil, fmt.Errorf("%s: %w%s", argv[0], err, log.text())
	}
	v, err := parseScores(out.b.Bytes(), n)
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", argv[0], err, log.text())
	}
	return v, nil
}

// parseScores reads one number per line.
func parseScores(b []byte, n int) ([]float64, error) {
	var out []float64
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxScoreLine)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		var v *float64
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			return nil, fmt.Errorf("line %d of its output is %.60q, want a number, or null where there is none", len(out)+1, line)
		}
		out = append(out, number(v))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading its output: %w", err)
	}
	if len(out) != n {
		return nil, fmt.Errorf("it printed %d numbers for %d samples, want one line for each", len(out), n)
	}
	return out, nil
}

// bounded keeps output up to a limit, and fails beyond it.
type bounded struct {
	b    bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fmt.Errorf("more output than one line for each sample")
	}
	return b.b.Write(p)
}

// tail keeps the end of a log.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > maxScoreLog {
		t.b = append(t.b[:0], t.b[len(t.b)-maxScoreLog:]...)
	}
	return len(p), nil
}

func (t *tail) text() string {
	s := strings.TrimSpace(string(t.b))
	if s == "" {
		return ""
	}
	return "; its log ends: " + s
}
