package ortlib

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// Channel is a way to obtain the library.
type Channel string

// The channels. Auto tries NPM, Pip and Module, in this order: the first two carry Version itself, the Module channel
// the release that the Go bindings are tested with, which is older but serves the same API level.
const (
	Auto   Channel = ""       // the first of the other three that works
	NPM    Channel = "npm"    // the onnxruntime-node package, by the npm client
	Pip    Channel = "pip"    // the onnxruntime wheel, by the pip client
	Module Channel = "module" // test_data of BindingModule, by the go command
	From   Channel = "from"   // a file or URL that the user names
	Carry  Channel = "carry"  // Env.Embedded; a Search asks for it, where the program has one
)

// Options say what to install, and where from. The zero value, with Env filled in, installs Version for this machine
// from the first channel that works.
type Options struct {
	Channel Channel
	// From is an archive (.tgz, .tar.gz, .zip, .whl, .nupkg) or a bare library: a path, or an http or https URL. It
	// implies Channel From and needs SHA256.
	From string
	// SHA256 is, in hexadecimal, the digest of the file that From names; for the other channels that of the library
	// file itself. There it is needed where no pin is known, and is checked in addition where one is.
	SHA256 string
	// Version to install; "" is the constant Version, for Module what it carries, for From whatever version the
	// library has.
	Version string
	// Platform to install for; zero is this one.
	Platform Platform
	// Variant names the build, such as "cuda12"; "" is the CPU build, or for From what the provider libraries in the
	// archive say.
	Variant string
	// Force installs even where the library is there and verifies.
	Force bool
	// Limits bound what an archive may cost.
	Limits Limits
	// HTTP fetches From; nil is a client with the default transport.
	HTTP *http.Client
	// Progress, if not nil, is told of each stage. It is called from the goroutine that called Install.
	Progress func(Progress)
	Env      Env
}

// Progress is one step of an installation.
type Progress struct {
	// Stage is "wait" (another installation is under way), "npm", "pip", "module", "download", "unpack" or "commit".
	Stage string
	// Done and Total count bytes in the stage "download"; Total is 0 where it is unknown.
	Done, Total int64
}

// Result is an installed library.
type Result struct {
	// Library is the file to load, in the folder Dir.
	Library  string   `json:"library"`
	Dir      string   `json:"dir"`
	Manifest Manifest `json:"manifest"`
	// Already says that it was there and verified, and nothing was fetched.
	Already bool `json:"already"`
	// Notes are things to know, one sentence each, such as why an earlier channel was not taken.
	Notes []string `json:"notes,omitempty"`
}

// DigestError says that a file is not the one that was pinned or asked for. Nothing of it is kept.
type DigestError struct {
	What string // the file
	Got  string // SHA-256 in hexadecimal
	Want string
	By   string // who wanted it: "--sha256" or a pin
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s has SHA-256 %s, and %s wants %s: it was not installed", e.What, e.Got, e.By, e.Want)
}

// installer is one run of Install.
type installer struct {
	Options
	asked   bool // the caller named the version
	pins    []Pin
	staging string
	notes   []string
}

// Install puts the library into the cache and returns it. Where it is there already and verifies, that is all.
//
// Only what a pin or the caller's SHA256 vouches for is installed. The library appears in the cache by one rename, under
// a lock that other processes wait for; an interrupted installation leaves nothing that a Search could find, and its
// remains are removed by the next one.
func Install(ctx context.Context, o Options) (*Result, error) {
	return install(ctx, o, Pins())
}

func install(ctx context.Context, o Options, all []Pin) (*Result, error) {
	in := &installer{Options: o, pins: all}
	if err := in.normalize(); err != nil {
		return nil, fmt.Errorf("installing ONNX Runtime: %w", err)
	}
	r, err := in.run(ctx)
	if err != nil {
		what := "ONNX Runtime"
		if in.Version != "" {
			what += " " + in.Version
		}
		return nil, fmt.Errorf("installing %s for %s: %w", what, in.Platform, err)
	}
	return r, nil
}

func (in *installer) normalize() (err error) {
	in.asked = in.Version != ""
	in.Platform = in.Platform.orHost()
	in.Limits = in.Limits.orDefault()
	if in.Env.CacheDir == "" || !filepath.IsAbs(in.Env.CacheDir) {
		return errors.New("no cache folder is known: set HOME or XDG_CACHE_HOME")
	}
	if in.From != "" {
		if in.Channel != Auto && in.Channel != From {
			return fmt.Errorf("--from and channel %s exclude each other", in.Channel)
		}
		in.Channel = From
	}
	switch in.Channel {
	case Auto, NPM, Pip, Module:
		if in.Variant != "" {
			return fmt.Errorf("the packages hold the CPU build only: name an archive of the %s build by --from", in.Variant)
		}
		if in.Version == "" {
			in.Version = Version
		}
	case Carry:
		if in.Env.Embedded == "" {
			return errors.New("this program carries no library")
		}
		in.Version = Version
	case From:
		if in.From == "" {
			return errors.New("channel from needs a file or URL in --from")
		}
		if in.SHA256 == "" {
			return fmt.Errorf("--from %s needs --sha256: the digest that its publisher states", redact(in.From))
		}
	default:
		return fmt.Errorf("unknown channel %q: want npm, pip or module", in.Channel)
	}
	if in.SHA256 != "" {
		if in.SHA256, err = checkSHA256(in.SHA256); err != nil {
			return err
		}
	}
	if in.Version != "" {
		r, err := parseRelease(in.Version)
		if err != nil {
			return err
		}
		if r.api() < BindingAPI {
			return fmt.Errorf("release %s serves API level %d, and level %d (release 1.%d or later) is needed", in.Version, r.api(), BindingAPI, BindingAPI)
		}
	}
	return checkVariant(in.Variant)
}

func (in *installer) progress(p Progress) {
	if in.Progress != nil {
		in.Progress(p)
	}
}

func (in *installer) note(format string, args ...any) {
	in.notes = append(in.notes, fmt.Sprintf(format, args...))
}

// stagingPrefix and oldPrefix name folders of an installation under way.
const (
	stagingPrefix = ".staging-"
	oldPrefix     = ".old-"
)

func (in *installer) run(ctx context.Context) (*Result, error) {
	if in.Channel == Carry {
		if r := in.present(ctx, Carry); r != nil {
			return r, nil // without a lock, so that the cache may be on a file system that cannot be written
		}
	}
	root := in.Env.runtimeDir()
	if err := atomicfile.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("making the cache folder: %w", err)
	}
	unlock, err := in.lock(ctx, filepath.Join(root, ".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeRemains(root); err != nil {
		return nil, err
	}
	if r := in.present(ctx, in.Channel); r != nil {
		return r, nil
	}
	if in.staging, err = atomicfile.MkdirTemp(root, stagingPrefix); err != nil {
		return nil, fmt.Errorf("making a folder in the cache: %w", err)
	}
	defer atomicfile.RemoveAll(in.staging)
	if in.Channel == Auto {
		return in.auto(ctx)
	}
	return in.one(ctx, in.Channel)
}

// one installs from one channel.
func (in *installer) one(ctx context.Context, c Channel) (*Result, error) {
	got, err := in.obtain(ctx, c)
	if err != nil {
		return nil, err
	}
	return in.commit(got)
}

// auto installs from the first channel that works. A wrong digest ends it: whoever serves one file in the place of
// another is not to be worked around.
func (in *installer) auto(ctx context.Context) (*Result, error) {
	var errs []error
	for _, c := range []Channel{NPM, Pip, Module} {
		r := in.present(ctx, c)
		var err error
		if r == nil {
			r, err = in.one(ctx, c)
		}
		if err == nil {
			for _, e := range errs {
				r.Notes = append(r.Notes, e.Error())
			}
			return r, nil
		}
		var digest *DigestError
		if errors.As(err, &digest) || ctx.Err() != nil {
			return nil, err
		}
		errs = append(errs, fmt.Errorf("channel %s: %w", c, err))
	}
	errs = append(errs, errors.New("name an archive by --from FILE_OR_URL --sha256 DIGEST"))
	return nil, join(errs)
}

// lockPoll is how often a lock that another process holds is tried again.
const lockPoll = 100 * time.Millisecond

// lock waits for the lock file. The file stays: removing it would let two processes hold locks on two files.
func (in *installer) lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := atomicfile.OpenInPlace(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	for {
		ok, err := tryLock(f.File)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if ok {
			return func() { f.Close() }, nil
		}
		in.progress(Progress{Stage: "wait"})
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("waiting for another installation: %w", ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

// removeRemains deletes what interrupted installations left. The caller holds the lock, so nobody is using it.
func removeRemains(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("reading the cache folder: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagingPrefix) || strings.HasPrefix(e.Name(), oldPrefix) {
			if err := atomicfile.RemoveAll(filepath.Join(root, e.Name())); err != nil {
				return fmt.Errorf("removing the remains of an interrupted installation: %w", err)
			}
		}
	}
	return nil
}

// present is the installed library that the options ask for, from a channel, if it is there and verifies, and may be
// used again.
func (in *installer) present(ctx context.Context, channel Channel) *Result {
	if in.Force {
		return nil
	}
	s := Search{Version: in.Version, Variant: in.Variant, Platform: in.Platform, Env: in.Env}
	if s.Version == "" {
		s.Version = Version
	}
	for _, c := range first(s.cached(ctx)) {
		dir := filepath.Dir(c.path)
		m, err := ReadManifest(dir)
		if err != nil || !in.satisfies(m, channel) {
			continue
		}
		if v, err := verify(ctx, dir, in.pins); err == nil && v.OK() {
			return &Result{Library: v.Library, Dir: dir, Manifest: *m, Already: true}
		}
	}
	return nil
}

func first[A, B any](a A, _ B) A { return a }

// satisfies reports whether an installed library is what the options ask for, from a channel.
func (in *installer) satisfies(m *Manifest, channel Channel) bool {
	if m.Platform != in.Platform || in.Variant != "" && m.Variant != in.Variant {
		return false
	}
	if channel == From {
		return m.Archive == in.SHA256 && (in.Version == "" || m.Version == in.Version)
	}
	if channel == Carry {
		return m.Variant == "" && m.Version == in.Version && m.Pinned // pinned bytes are as good as the program's own
	}
	if m.Variant != "" || channel != Auto && m.Channel != channel {
		return false
	}
	if in.SHA256 != "" {
		for _, f := range m.Files {
			if f.Name == m.Library && f.SHA256 != in.SHA256 {
				return false
			}
		}
	}
	return m.Version == in.Version || m.Version == moduleVersion && channel == Module && !in.asked
}

// obtained is a library in the staging folder, checked.
type obtained struct {
	picked
	channel Channel
	source  string
	archive string // SHA-256
	pinned  bool
	variant string
}

// join is errors.Join on one line.
func join(errs []error) error {
	format := strings.TrimSuffix(strings.Repeat("%w; ", len(errs)), "; ")
	args := make([]any, len(errs))
	for i, e := range errs {
		args[i] = e
	}
	return fmt.Errorf(format, args...)
}

// commit moves the library and what belongs to it into place.
func (in *installer) commit(got *obtained) (*Result, error) {
	in.progress(Progress{Stage: "commit"})
	m := Manifest{
		Format: manifestFormat, Version: got.info.Version, API: got.info.API,
		Channel: got.channel, Source: got.source, Platform: in.Platform, Variant: got.variant,
		Archive: got.archive, Pinned: got.pinned, Installed: time.Now().UTC().Truncate(time.Second),
	}
	root := filepath.Join(in.staging, "root")
	if err := atomicfile.Mkdir(root, 0o755); err != nil {
		return nil, err
	}
	name, alias := in.Platform.libraryName(m.Version)
	m.Library = name
	place := func(u unpacked, as string) error {
		m.Files = append(m.Files, File{Name: as, SHA256: u.sha256, Bytes: u.bytes})
		return atomicfile.Move(u.file, filepath.Join(root, as))
	}
	if err := place(got.library, name); err != nil {
		return nil, err
	}
	for _, c := range got.companions {
		if err := place(c, c.name); err != nil {
			return nil, err
		}
	}
	if alias != "" {
		if err := atomicfile.Symlink(name, filepath.Join(root, alias)); err != nil {
			return nil, err
		}
		m.Files = append(m.Files, File{Name: alias, Link: name})
	}
	if err := m.write(root); err != nil {
		return nil, fmt.Errorf("writing the manifest: %w", err)
	}
	if got.channel == Carry {
		if err := private(root); err != nil {
			return nil, err
		}
	}
	if err := atomicfile.SyncDir(root); err != nil {
		return nil, err
	}
	dir := in.Env.installDir(m.Version, in.Platform, got.variant)
	if err := in.swap(root, dir); err != nil {
		return nil, err
	}
	return &Result{Library: filepath.Join(dir, name), Dir: dir, Manifest: m, Notes: in.notes}, nil
}

// swap puts a folder in its place. What is there already changes places with it, and goes with the staging folder; a
// process that has it mapped keeps its mapping.
func (in *installer) swap(from, to string) error {
	if err := atomicfile.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	_, err := os.Lstat(to)
	switch {
	case err == nil:
		if err = atomicfile.Swap(from, to); errors.Is(err, errors.ErrUnsupported) {
			err = in.renames(from, to)
		}
		if err != nil {
			err = fmt.Errorf("replacing %s, which may be in use: %w", to, err)
		}
	case errors.Is(err, fs.ErrNotExist):
		err = atomicfile.Move(from, to)
	}
	if err != nil {
		return err
	}
	if err := atomicfile.SyncDir(filepath.Dir(to)); err != nil {
		return fmt.Errorf("%s: %w: %w", to, atomicfile.ErrInPlace, err)
	}
	return nil
}

// renames is swap where a system cannot let two folders change places. What is there already is moved aside first, and
// back should the second rename fail.
func (in *installer) renames(from, to string) error {
	old := filepath.Join(in.Env.runtimeDir(), oldPrefix+strings.TrimPrefix(filepath.Base(in.staging), stagingPrefix))
	if err := atomicfile.Move(to, old); err != nil {
		return err
	}
	if err := atomicfile.Move(from, to); err != nil {
		return errors.Join(err, atomicfile.Move(old, to))
	}
	atomicfile.RemoveAll(old) // what cannot be removed now is removed as remains by the next installation
	return nil
}

// copyLimited copies with a limit on length, and reports progress.
func (in *installer) copyLimited(ctx context.Context, w io.Writer, r io.Reader, total int64) error {
	r = io.LimitReader(contextReader{ctx, r}, in.Limits.Archive+1)
	var done int64
	buf := make([]byte, 1<<18)
	for {
		n, err := r.Read(buf)
		if done += int64(n); done > in.Limits.Archive {
			return fmt.Errorf("it is larger than the limit of %d bytes", in.Limits.Archive)
		}
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			in.progress(Progress{Stage: "download", Done: done, Total: done})
			return nil
		}
		if err != nil {
			return err
		}
		in.progress(Progress{Stage: "download", Done: done, Total: total})
	}
}
