//go:build unix

package onnxfile

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"google.golang.org/protobuf/encoding/protowire"
)

// outside is the byte that fills what lies outside the model's folder, inside what lies in it.
const outside, inside = 0xee, 0x11

// hostileFolder makes a folder of everything that a location could name, inside and
// outside the folder of the model, and returns that.
func hostileFolder(tb testing.TB) string {
	tb.Helper()
	root := tb.TempDir()
	dir := filepath.Join(root, "model")
	must := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "sub"), 0o777))
	must(os.WriteFile(filepath.Join(root, "secret"), bytes.Repeat([]byte{outside}, 8192), 0o666))
	must(os.WriteFile(filepath.Join(dir, "w.bin"), bytes.Repeat([]byte{inside}, 8192), 0o666))
	must(os.WriteFile(filepath.Join(dir, "sub", "w.bin"), bytes.Repeat([]byte{inside}, 100), 0o666))
	must(os.WriteFile(filepath.Join(dir, "empty"), nil, 0o666))
	must(os.Symlink(filepath.Join(root, "secret"), filepath.Join(dir, "out")))
	must(os.Symlink("../secret", filepath.Join(dir, "up")))
	must(os.Symlink("w.bin", filepath.Join(dir, "in")))
	must(os.Symlink("..", filepath.Join(dir, "parent")))
	must(os.Symlink("loop", filepath.Join(dir, "loop")))
	must(os.Symlink("/dev/zero", filepath.Join(dir, "zero")))
	must(os.Link(filepath.Join(root, "secret"), filepath.Join(dir, "hard")))
	must(syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	return dir
}

// FuzzExternal resolves external data: whatever location, offset and length a model
// names, what it gets lies within the files of its folder, nothing is waited for,
// and no more is read than the file has.
func FuzzExternal(f *testing.F) {
	for _, name := range []string{
		"w.bin", "sub/w.bin", "./w.bin", "sub/../w.bin", "empty", "", ".", "..", "../secret", "/etc/passwd", "out", "up", "in", "parent/secret",
		"sub/../../secret", "loop", "zero", "hard", "fifo", "sub", "w.bin/", "w.bin\x00", "..\\secret", "m.onnx", "none", "/dev/zero", "//w.bin",
	} {
		f.Add(name, "0", "16", int64(4))
	}
	for _, numbers := range [][2]string{
		{"8192", "0"}, {"8191", "1"}, {"8192", "1"}, {"-1", "4"}, {"0", "-1"}, {"9223372036854775807", "9223372036854775807"}, {"1", "9223372036854775807"},
		{"0x10", "16"}, {"", ""}, {" 1", "2 "}, {"99999999999999999999", "1"}, {"0", "8192"}, {"0", ""},
	} {
		f.Add("w.bin", numbers[0], numbers[1], int64(1<<62))
	}
	dir := hostileFolder(f)
	f.Fuzz(func(t *testing.T, location, offset, length string, size int64) {
		b := externalModel(size, location, offset, length)
		if _, err := Decode(b); err == nil {
			t.Fatal("external data without a folder")
		}
		// Decoded as if it lay in the folder, which all runs share.
		folder, err := openFolder(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer folder.close()
		back, err := decodeModel("m.onnx", b, nil, folder)
		if err != nil {
			return
		}
		for _, v := range back.Graph.Initializers() {
			got, err := v.Const.Data.Bytes()
			if err != nil {
				t.Fatalf("%q from %s for %s: opened, but %v", location, offset, length, err)
			}
			if len(got) > 8192 || bytes.IndexByte(got, outside) >= 0 || len(bytes.Trim(got, string([]byte{inside}))) > 0 {
				t.Fatalf("%q from %s for %s gives %d bytes, not those of the folder", location, offset, length, len(got))
			}
			if _, err := v.Const.Bytes(); err == nil && int64(len(got)) != v.Const.Size() {
				t.Fatalf("%d bytes for %v", len(got), v.Const)
			}
		}
	})
}

// externalModel encodes a model with one initializer of uint8[size], whose bytes lie elsewhere.
func externalModel(size int64, location, offset, length string) []byte {
	bytesField := func(b []byte, num protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
	}
	varint := func(b []byte, num protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
	}
	tensor := bytesField(varint(varint(nil, 1, uint64(size)), 2, uint64(onnx.Uint8)), 8, []byte("w"))
	for _, e := range [][2]string{{"location", location}, {"offset", offset}, {"length", length}} {
		tensor = bytesField(tensor, 13, bytesField(bytesField(nil, 1, []byte(e[0])), 2, []byte(e[1])))
	}
	tensor = varint(tensor, 14, 1)
	opset := varint(nil, 2, 17)
	return bytesField(bytesField(varint(nil, 1, 8), 8, opset), 7, bytesField(nil, 5, tensor))
}
