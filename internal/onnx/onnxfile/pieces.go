package onnxfile

import (
	"io"
	"runtime"
	"sync/atomic"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/parallel"
)

// pieceSize is how much content is computed and written at once.
const pieceSize = 256 << 10

// piece is a part of a message, or all of some content.
type piece struct {
	at   int64 // in the file
	raw  []byte
	data onnx.Data
	from io.ReaderAt // nil: data as a whole
	off  int64       // in data
	n    int64
}

// computed reports whether content of r is made when it is read, and can be read
// in parts: then all processors make it, and it is written in any order.
func (r *rope) computed() bool {
	for _, c := range r.refs {
		if _, mapped := c.data.(window); mapped {
			continue
		}
		if _, ok := c.data.(io.ReaderAt); ok {
			return true
		}
	}
	return false
}

// pieces cuts r up.
func (r *rope) pieces() []piece {
	var out []piece
	var end int64
	at := 0
	add := func(p piece) {
		p.at = end
		out, end = append(out, p), end+p.n
	}
	for _, c := range r.refs {
		add(piece{raw: r.buf[at:c.at], n: int64(c.at - at)})
		at = c.at
		from, ok := c.data.(io.ReaderAt)
		size := c.data.Len()
		if !ok {
			add(piece{data: c.data, n: size})
			continue
		}
		for off := int64(0); off < size; off += pieceSize {
			add(piece{data: c.data, from: from, off: off, n: min(pieceSize, size-off)})
		}
	}
	add(piece{raw: r.buf[at:], n: int64(len(r.buf) - at)})
	return out
}

// writeAt writes the message on all processors.
func (r *rope) writeAt(w io.WriterAt) error { return writePieces(w, r.pieces()) }

// early returns how many pieces come before one that is not known yet, and where they end.
func early(list []piece) (n int, end int64) {
	for i, p := range list {
		if _, late := p.data.(lateText); late {
			return i, p.at
		}
		end = p.at + p.n
	}
	return len(list), end
}

func writePieces(w io.WriterAt, list []piece) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all parallel.Group
	for range min(runtime.GOMAXPROCS(0), len(list)) {
		all.Go(func() {
			buf := make([]byte, pieceSize)
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(list) {
					return
				}
				if err := list[i].write(w, buf); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (p *piece) write(w io.WriterAt, buf []byte) error {
	switch {
	case p.from != nil:
		buf = buf[:p.n]
		if _, err := p.from.ReadAt(buf, p.off); err != nil {
			return err
		}
		_, err := w.WriteAt(buf, p.at)
		return err
	case p.data != nil:
		_, err := onnx.WriteData(io.NewOffsetWriter(w, p.at), p.data)
		return err
	}
	_, err := w.WriteAt(p.raw, p.at)
	return err
}
