package produce

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// historyKey begins the metadata_props keys that hold a model's chain of
// custody: one step each, numbered from 1, as JSON.
const historyKey = "lapidary.step."

// History returns the steps that m carries, oldest first. Entries that are not
// readable are left out, and named in the error.
func History(m *onnx.Model) ([]report.Step, error) {
	var out []report.Step
	var bad error
	for i := 1; ; i++ {
		text, ok := m.MetaValue(historyKey + strconv.Itoa(i))
		if !ok {
			return out, bad
		}
		var s report.Step
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			bad = fmt.Errorf("metadata entry %s%d is not a step: %v", historyKey, i, err)
			continue
		}
		out = append(out, s)
	}
}

// pendingDigest stands for the digest of the input as long as that is read.
const pendingDigest = "the-digest-of-the-input-comes-here-when-all-of-it-has-been-read."

// appendStep records s as the newest step of m, and returns its key.
func appendStep(m *onnx.Model, s report.Step) (key string, err error) {
	for i := 1; ; i++ {
		key := historyKey + strconv.Itoa(i)
		if _, taken := m.MetaValue(key); !taken {
			return key, setStep(m, key, s)
		}
	}
}

// setStep records s under a key.
func setStep(m *onnx.Model, key string, s report.Step) error {
	text, err := json.Marshal(s)
	if err == nil {
		m.SetMeta(key, string(text))
	}
	return err
}

// fileDigest returns the SHA-256 of a file and its size.
func fileDigest(ctx context.Context, path string) (string, int64, error) {
	f, _, err := readfile.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return f.Read(b)
	}), make([]byte, 1<<20))
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// digesting computes the SHA-256 of a file beside what its caller does. digest
// waits for it; stop gives up, and returns when the file is no longer read.
func digesting(ctx context.Context, path string) (digest func() (string, error), stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var sum string
	var err error
	go func() {
		defer close(done)
		sum, _, err = fileDigest(ctx, path)
	}()
	return func() (string, error) {
			<-done
			return sum, err
		}, func() {
			cancel()
			<-done
		}
}

type readerFunc func([]byte) (int, error)

func (r readerFunc) Read(b []byte) (int, error) { return r(b) }
