package onnxfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// digest is the SHA-256 of what a file has so far.
type digest struct {
	f   io.ReaderAt
	h   hash.Hash
	end int64
}

func newDigest(f io.ReaderAt) *digest { return &digest{f: f, h: sha256.New()} }

// upTo enters what the file has up to an offset.
func (d *digest) upTo(end int64) error {
	n, err := io.CopyBuffer(d.h, io.NewSectionReader(d.f, d.end, end-d.end), make([]byte, pieceSize))
	if d.end += n; err == nil && d.end < end {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// sum returns the digest of the file, which has so many bytes.
func (d *digest) sum(size int64) (string, error) {
	err := d.upTo(size)
	return hex.EncodeToString(d.h.Sum(nil)), err
}

// writeDigested puts r at path and returns its SHA-256. What can be written is
// digested, and on its way to the disk, while what comes later is waited for.
func writeDigested(path string, r *rope, perm fs.FileMode) (string, error) {
	f, err := atomicfile.Create(path, perm)
	if err != nil {
		return "", err
	}
	defer f.Abort()
	read, err := os.Open(f.Name())
	if err != nil {
		return "", err
	}
	defer read.Close()
	d := newDigest(read)
	if r.computed() {
		err = d.pieces(f, r.pieces())
	} else {
		_, err = r.WriteTo(f)
	}
	if err != nil {
		return "", err
	}
	var sum string
	done := make(chan error, 1)
	go func() {
		var err error
		sum, err = d.sum(r.size)
		done <- err
	}()
	if err := errors.Join(f.Sync(), <-done); err != nil { // what Commit syncs again is nothing
		return "", err
	}
	read.Close() // before the file is renamed, which not every system does to one that is read
	return sum, f.Commit()
}

// pieces writes a list, and digests it as far as it is known from the start.
func (d *digest) pieces(f *atomicfile.File, list []piece) error {
	n, end := early(list)
	if err := writePieces(f, list[:n]); err != nil {
		return err
	}
	done := make(chan error, 2)
	go func() { done <- d.upTo(end) }()
	go func() { done <- f.Sync() }() // what is there; Commit makes sure of all
	err := writePieces(f, list[n:])
	return errors.Join(err, <-done, <-done)
}
