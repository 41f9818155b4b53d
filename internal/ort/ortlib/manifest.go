package ortlib

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// ManifestName is the file in each installed library's folder that says what was installed.
const ManifestName = "manifest.json"

// manifestFormat is the only value of Manifest.Format so far.
const manifestFormat = 1

// Manifest describes one installed library.
type Manifest struct {
	Format   int      `json:"format"`
	Version  string   `json:"version"`
	API      int      `json:"api"`
	Channel  Channel  `json:"channel"`
	Source   string   `json:"source"` // package and version, or the file or URL that was named, without credentials
	Platform Platform `json:"platform"`
	Variant  string   `json:"variant,omitempty"`
	// Archive is the SHA-256 of the file that the library came in.
	Archive string `json:"archive_sha256,omitempty"`
	// Pinned says that the digests were compared with pins of this program, and not only with one the user gave.
	Pinned    bool      `json:"pinned"`
	Library   string    `json:"library"` // the name in Files to load
	Files     []File    `json:"files"`
	Installed time.Time `json:"installed"`
}

// File is one installed file, or a symbolic link to one.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	Link   string `json:"link,omitempty"`
}

// maxManifest bounds how much of a manifest is read.
const maxManifest = 1 << 20

// ReadManifest reads the manifest in an installed library's folder. The error is fs.ErrNotExist where there is none.
func ReadManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, ManifestName)
	data, err := readfile.All(path, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("the manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("reading %s: %v", path, err)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("reading %s: format %d is unknown, want %d", path, m.Format, manifestFormat)
	}
	listed := false
	for _, file := range m.Files {
		if !fileName.MatchString(file.Name) || file.Link != "" && !fileName.MatchString(file.Link) {
			return nil, fmt.Errorf("reading %s: %q is not the name of a file in this folder", path, file.Name)
		}
		listed = listed || file.Name == m.Library
	}
	if !listed {
		return nil, fmt.Errorf("reading %s: the library %q is not among the files", path, m.Library)
	}
	return &m, nil
}

// write puts the manifest into a folder and syncs it.
func (m *Manifest) write(dir string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	f, err := create(filepath.Join(dir, ManifestName), 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
