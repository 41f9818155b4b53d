package ortlib

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
)

// Wheel is what a program that carries the library takes from the package.
type Wheel struct {
	Library []byte
	SHA256  string // of Library
	// Licence and Notices are the texts that must go with copies.
	Licence, Notices string
}

// FetchWheel gets the library of a platform and its licences from the wheel of Version, by pip. The wheel and the
// library must be those of the pin.
func FetchWheel(ctx context.Context, p Platform, e Env) (*Wheel, error) {
	w, err := fetchWheel(ctx, p, e, Pins())
	if err != nil {
		return nil, fmt.Errorf("fetching ONNX Runtime %s for %s: %w", Version, p, err)
	}
	return w, nil
}

func fetchWheel(ctx context.Context, p Platform, e Env, pins []Pin) (*Wheel, error) {
	pin, ok := findPin(pins, Pip, Version, p)
	if !ok {
		return nil, fmt.Errorf("no digest is pinned")
	}
	dir, err := os.MkdirTemp("", "lapidary-wheel-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	in := &installer{Options: Options{Version: Version, Platform: p, Env: e, Limits: Limits{}.orDefault()}, pins: pins}
	file, _, _, err := in.fetch(ctx, Pip, pin, dir)
	if err != nil {
		return nil, err
	}
	zr, err := zip.OpenReader(file)
	if err != nil {
		return nil, err
	}
	defer zr.Close()
	name, _ := p.libraryName(Version)
	w := &Wheel{}
	var licence, notices []byte
	for entry, into := range map[string]*[]byte{
		"onnxruntime/capi/" + name: &w.Library, "onnxruntime/LICENSE": &licence, "onnxruntime/ThirdPartyNotices.txt": &notices,
	} {
		if *into, err = readEntry(&zr.Reader, entry); err != nil {
			return nil, err
		}
	}
	sum := sha256.Sum256(w.Library)
	w.SHA256, w.Licence, w.Notices = hex.EncodeToString(sum[:]), string(licence), string(notices)
	if w.SHA256 != pin.library() {
		return nil, &DigestError{What: name, Got: w.SHA256, Want: pin.library(), By: "the pin for " + pin.String()}
	}
	return w, nil
}

// readEntry reads one file of a pinned archive.
func readEntry(zr *zip.Reader, name string) ([]byte, error) {
	f, err := zr.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the wheel has no %s: %w", path.Base(name), err)
	}
	defer f.Close()
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, f); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return buf.Bytes(), nil
}
