package readfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAll(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		limit      int64
		says       string // "": it is read
	}{
		{"fits", file, 5, ""},
		{"too large", file, 4, "more than 4 bytes"},
		{"folder", dir, 5, "it is a folder"},
		{"missing", filepath.Join(dir, "none"), 5, "no such file"},
		{"device", os.DevNull, 5, "not a regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := All(tt.path, tt.limit)
			if tt.says == "" {
				if err != nil || string(b) != "12345" {
					t.Errorf("%q, %v", b, err)
				}
				return
			}
			if err == nil || b != nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("%q, %v; want %q", b, err, tt.says)
			}
		})
	}
	if _, _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
}

func TestLine(t *testing.T) {
	for _, tt := range []struct {
		name, text, want, says string
	}{
		{"one line", "secret", "secret", ""},
		{"first of two", "secret\r\nmore", "secret", ""},
		{"empty", "", "", ""},
		{"as long as may be", strings.Repeat("x", 1000) + "\n", strings.Repeat("x", 1000), ""},
		{"too long", strings.Repeat("x", 1001) + "\n", "", "more than 1000 bytes"},
		{"endless", strings.Repeat("x", 1<<20), "", "more than 1000 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := Line(path, 1000)
			if string(b) != tt.want || (err != nil) != (tt.says != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q, %v; want %q, %q", b, err, tt.want, tt.says)
			}
		})
	}
}
