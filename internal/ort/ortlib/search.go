package ortlib

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Origin says which step of the search a library comes from.
type Origin string

// The steps of the search, in their order.
const (
	OriginFlag        Origin = "flag"        // Search.Path, the --ort-lib flag
	OriginEnvironment Origin = "environment" // Env.Library, LAPIDARY_ORT_LIB
	OriginEmbedded    Origin = "embedded"    // what the program carries, unpacked into the cache
	OriginCache       Origin = "cache"       // what Install wrote
	OriginSystem      Origin = "system"      // the loader's library folders
	OriginPython      Origin = "python"      // the onnxruntime wheel of a Python environment
)

// Search says which library is wanted. The zero value finds the CPU build that Install would have installed, or the
// next best.
//
// The steps are, in this order: Path; Env.Library; Env.Embedded, where there is one; the cache (Version first, then other versions, newest first; within
// a version Variant first, then the CPU build, then the others); the system's library folders; the Python
// environments that VIRTUAL_ENV, CONDA_PREFIX and the python3 on PATH name. Path and Env.Library are somebody's
// explicit will: where the file they name cannot be used the search ends in an error, not in another library.
type Search struct {
	// Path is the library the user named by --ort-lib; "" for none. A folder means the library in it.
	Path string
	// Version is the preferred one; "" is the constant Version.
	Version string
	// Exact refuses libraries of any other version than Version.
	Exact bool
	// Variant is the build preferred in the cache, such as "cuda"; "" is the CPU build.
	Variant string
	// MinAPI is the lowest usable API level; 0 is BindingAPI.
	MinAPI int
	// Platform is the machine that is to load the library; zero is this one.
	Platform Platform
	// NoPython leaves the Python environments out, and so starts no python3.
	NoPython bool
	Env      Env
	pins     []Pin // nil: Pins
}

func (s Search) normalize() (Search, error) {
	if s.Version == "" {
		s.Version = Version
	}
	if _, err := parseRelease(s.Version); err != nil {
		return s, err
	}
	if err := checkVariant(s.Variant); err != nil {
		return s, err
	}
	if s.MinAPI == 0 {
		s.MinAPI = BindingAPI
	}
	s.Platform = s.Platform.orHost()
	if s.pins == nil {
		s.pins = Pins()
	}
	return s, nil
}

// Candidate is one library file, or one step of the search at which none was found.
type Candidate struct {
	Origin Origin `json:"origin"`
	// Path of the library, symbolic links resolved; "" where the step found none.
	Path string `json:"path,omitempty"`
	// Version such as "1.30.0", and the highest ORT_API_VERSION served; empty where the file does not say.
	Version string `json:"version,omitempty"`
	API     int    `json:"api,omitempty"`
	// Variant of a cached build: "" for CPU.
	Variant string `json:"variant,omitempty"`
	// Providers whose own libraries lie beside this one, in ONNX Runtime's names (CUDAExecutionProvider). What is
	// linked into the library itself is not listed.
	Providers []string `json:"providers,omitempty"`
	// Usable says that the library fits machine and API level.
	Usable bool `json:"usable"`
	// Reason is why the candidate is not usable, or what to know about it where it is.
	Reason string `json:"reason,omitempty"`
}

func (c Candidate) String() string {
	var b strings.Builder
	b.WriteString(string(c.Origin))
	if c.Path != "" {
		b.WriteString(" " + c.Path)
	}
	if c.Version != "" {
		b.WriteString(" (" + c.Version + ")")
	}
	if c.Reason != "" {
		b.WriteString(": " + c.Reason)
	}
	return b.String()
}

// Choice is the library that Which takes, and what it passed over on the way.
type Choice struct {
	Candidate
	Passed []Candidate `json:"passed,omitempty"`
}

// NotFoundError says that no step of the search found a usable library.
type NotFoundError struct {
	Tried []Candidate
}

func (e *NotFoundError) Error() string {
	var b strings.Builder
	b.WriteString("no usable ONNX Runtime library found: install one by `lapidary runtime install` or name one by --ort-lib")
	for _, c := range e.Tried {
		if c.Path != "" || c.Origin == OriginEmbedded {
			fmt.Fprintf(&b, "; %s", c)
		}
	}
	return b.String()
}

// Which finds the library to use. The error is a *NotFoundError where no step had one.
func Which(ctx context.Context, s Search) (*Choice, error) {
	s, err := s.normalize()
	if err != nil {
		return nil, fmt.Errorf("finding ONNX Runtime: %w", err)
	}
	var passed []Candidate
	for c := range s.candidates(ctx) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("finding ONNX Runtime: %w", err)
		}
		if c.Usable {
			return &Choice{Candidate: c, Passed: passed}, nil
		}
		switch {
		case c.Path != "" && c.Origin == OriginFlag:
			return nil, fmt.Errorf("--ort-lib %s: %s", s.Path, c.Reason)
		case c.Path != "" && c.Origin == OriginEnvironment:
			return nil, fmt.Errorf("LAPIDARY_ORT_LIB=%s: %s", s.Env.Library, c.Reason)
		}
		passed = append(passed, c)
	}
	return nil, &NotFoundError{Tried: passed}
}

// List finds all libraries, usable or not, in the order of the search. Steps that found nothing are left out.
func List(ctx context.Context, s Search) ([]Candidate, error) {
	s, err := s.normalize()
	if err != nil {
		return nil, fmt.Errorf("listing ONNX Runtime libraries: %w", err)
	}
	var out []Candidate
	for c := range s.candidates(ctx) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("listing ONNX Runtime libraries: %w", err)
		}
		if c.Path != "" {
			out = append(out, c)
		}
	}
	return out, nil
}

// step is one part of the search: the files it found, and what to say where there are none.
type step struct {
	origin Origin
	find   func(ctx context.Context) (files []found, none string)
}

// found is a file before it was looked at.
type found struct {
	path    string
	variant string
}

// candidates runs the steps one after the other, each only when the previous ones are used up. A file reached twice is
// reported once.
func (s Search) candidates(ctx context.Context) iter.Seq[Candidate] {
	steps := []step{
		{OriginFlag, func(context.Context) ([]found, string) { return s.named(s.Path, "--ort-lib not given") }},
		{OriginEnvironment, func(context.Context) ([]found, string) { return s.named(s.Env.Library, "LAPIDARY_ORT_LIB not set") }},
	}
	if s.Env.Embedded != "" {
		steps = append(steps, step{OriginEmbedded, s.embedded})
	}
	steps = append(steps, step{OriginCache, s.cached}, step{OriginSystem, s.system}, step{OriginPython, s.python})
	return func(yield func(Candidate) bool) {
		seen := map[string]bool{}
		for _, st := range steps {
			files, none := st.find(ctx)
			if len(files) == 0 && !yield(Candidate{Origin: st.origin, Reason: none}) {
				return
			}
			for _, f := range files {
				if real, err := filepath.EvalSymlinks(f.path); err == nil {
					f.path = real
				}
				if seen[f.path] {
					continue
				}
				seen[f.path] = true
				if !yield(s.judge(st.origin, f)) {
					return
				}
			}
		}
	}
}

// judge looks at one file and decides whether it can be used.
func (s Search) judge(origin Origin, f found) Candidate {
	c := Candidate{Origin: origin, Path: f.path, Variant: f.variant}
	info, err := Inspect(f.path)
	if err != nil {
		c.Reason = err.Error()
		return c
	}
	c.Version, c.API = info.Version, info.API
	c.Providers = providersBeside(f.path)
	switch {
	case !info.For(s.Platform):
		c.Reason = fmt.Sprintf("the library is for %s, and this is %s", joinPlatforms(info.Platforms), s.Platform)
	case info.Version == "":
		c.Reason = fmt.Sprintf("the version of the library cannot be told; API level %d (release 1.%d or later) is needed", s.MinAPI, s.MinAPI)
	case info.API < s.MinAPI:
		c.Reason = fmt.Sprintf("ONNX Runtime %s serves API level %d, and level %d (release 1.%d or later) is needed", info.Version, info.API, s.MinAPI, s.MinAPI)
	case s.Exact && info.Version != s.Version:
		c.Reason = fmt.Sprintf("the library is ONNX Runtime %s, and %s is asked for", info.Version, s.Version)
	default:
		c.Usable = true
		if info.Version != s.Version {
			c.Reason = fmt.Sprintf("ONNX Runtime %s is usable, but the preferred version is %s", info.Version, s.Version)
		}
	}
	return c
}

func joinPlatforms(ps []Platform) string {
	names := make([]string, len(ps))
	for i, p := range ps {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}

// named is the step for a path that somebody gave; a folder stands for the library in it.
func (s Search) named(path, none string) ([]found, string) {
	if path == "" {
		return nil, none
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		if files := librariesIn(path, s.Platform); len(files) > 0 {
			return []found{{path: files[0]}}, ""
		}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	return []found{{path: abs}}, ""
}

// cached lists what Install wrote for the platform.
func (s Search) cached(context.Context) ([]found, string) {
	if s.Env.CacheDir == "" {
		return nil, "no cache folder is known"
	}
	dir := s.Env.runtimeDir()
	var files []found
	for _, version := range s.cachedVersions(dir) {
		for _, variant := range s.cachedVariants(filepath.Join(dir, version)) {
			for _, f := range librariesIn(s.Env.installDir(version, s.Platform, variant), s.Platform) {
				files = append(files, found{path: f, variant: variant})
				break
			}
		}
	}
	if len(files) == 0 {
		return nil, "nothing installed for " + s.Platform.String() + " in " + dir
	}
	return files, ""
}

// cachedVersions lists the version folders: the preferred one first, then newest first.
func (s Search) cachedVersions(dir string) []string {
	var out []string
	for _, name := range folderNames(dir) {
		if _, err := parseRelease(name); err == nil {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		if (a == s.Version) != (b == s.Version) {
			if a == s.Version {
				return -1
			}
			return 1
		}
		ra, _ := parseRelease(a)
		rb, _ := parseRelease(b)
		if rb.less(ra) {
			return -1
		}
		return 1
	})
	return out
}

// cachedVariants lists the variants of a version for the platform: the preferred one, the CPU build, then by name.
func (s Search) cachedVariants(dir string) []string {
	base := s.Platform.OS + "-" + s.Platform.Arch
	var out []string
	for _, name := range folderNames(dir) {
		if name == base {
			out = append(out, "")
		} else if v, ok := strings.CutPrefix(name, base+"-"); ok {
			out = append(out, v)
		}
	}
	slices.Sort(out) // "" comes first
	if i := slices.Index(out, s.Variant); i > 0 {
		out = slices.Insert(slices.Delete(out, i, i+1), 0, s.Variant)
	}
	return out
}

// folderNames lists the folders in dir, without those whose name starts with a dot; none where dir cannot be read.
func folderNames(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	return out
}

// checkVariant refuses names that could not be part of a folder's name.
func checkVariant(v string) error {
	if v == "" {
		return nil
	}
	if len(v) > 32 || strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789._") != "" || strings.Trim(v, "._") != v {
		return errors.New("variant " + quote(v) + " is not a name of lower-case letters and digits, such as cuda12")
	}
	return nil
}

func quote(s string) string { return fmt.Sprintf("%q", s) }
