package ortlib

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// embedded is the step of the search for the library that the program carries. It is unpacked where it is not in the
// cache yet, and hashed where it is.
func (s Search) embedded(ctx context.Context) ([]found, string) {
	r, err := install(ctx, Options{Channel: Carry, Platform: s.Platform, Env: s.Env}, s.pins)
	if err != nil {
		return nil, err.Error()
	}
	return []found{{path: r.Library}}, ""
}

// carried writes Env.Embedded into the staging folder. Only the bytes of a pin are accepted: whoever builds the program
// can put any file into it.
func (in *installer) carried(ctx context.Context) (*obtained, error) {
	const label = "the library in this program"
	file := filepath.Join(in.staging, "embedded")
	if err := writeFile(file, []byte(in.Env.Embedded), 0o600); err != nil {
		return nil, err
	}
	sum, _, err := hashFile(ctx, file)
	if err != nil {
		return nil, err
	}
	pin, ok := pinOf(in.pins, sum, in.Platform)
	if !ok {
		return nil, fmt.Errorf("%s has SHA-256 %s, which is not pinned for %s: it was not unpacked", label, sum, in.Platform)
	}
	all, err := unpack(ctx, file, label, in.Platform, in.staging, in.Limits)
	if err != nil {
		return nil, err
	}
	got := &obtained{channel: Carry, source: pin.String(), archive: sum, pinned: true}
	got.picked, err = pick(label, in.Platform, all)
	return got, err
}

// private takes a folder and the files in it away from other users.
func private(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if err := os.Chmod(filepath.Join(dir, e.Name()), 0o600); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o700)
}
