package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// weightTexts gives each constant its type and the digest of its content, and
// the bytes of all. Constants are read in pieces, on all processors.
func weightTexts(m *onnx.Model) (map[string]string, int64, error) {
	var list []*onnx.Tensor
	var total int64
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			list = append(list, v.Const)
			total += v.Const.Size()
		}
	}
	texts, errs := make([]string, len(list)), make([]error, len(list))
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(list)) {
		all.Go(func() {
			buf := make([]byte, 1<<18)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(list) {
					return
				}
				texts[i], errs[i] = constantText(list[i], buf)
			}
		})
	}
	all.Wait()
	out := make(map[string]string, len(list))
	for i, t := range list {
		if errs[i] != nil {
			return nil, 0, errs[i]
		}
		out[t.Name] = texts[i]
	}
	return out, total, nil
}

// constantText is the type of t and the digest of its content, read through buf.
func constantText(t *onnx.Tensor, buf []byte) (string, error) {
	h := sha256.New()
	if t.DType == onnx.String {
		for _, s := range t.Str {
			fmt.Fprintf(h, "%d:%s", len(s), s)
		}
	} else if err := hashContent(h, t, buf); err != nil {
		return "", err
	}
	return t.Type().String() + " #" + hex.EncodeToString(h.Sum(nil)), nil
}

func hashContent(h hash.Hash, t *onnx.Tensor, buf []byte) error {
	if _, ok := t.Data.(io.ReaderAt); !ok || t.Data.Len() != t.Size() {
		b, err := t.Bytes()
		h.Write(b)
		return err
	}
	for off := int64(0); off < t.Data.Len(); off += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), t.Data.Len()-off)]
		if err := onnx.ReadDataAt(t.Data, b, off); err != nil {
			return fmt.Errorf("reading %q: %w", t.Name, err)
		}
		h.Write(b)
	}
	return nil
}
