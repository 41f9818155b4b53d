package ortlib

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

const (
	npmPackage = "onnxruntime-node"
	pipPackage = "onnxruntime"
	// pipPython is the Python version whose wheel is asked for, whatever Python runs pip: the library inside needs
	// none, and is not the same bytes in the wheels of every version.
	pipPython = "3.12"
	pipABI    = "cp312"
)

// pipPlatforms are the wheels' names for platforms.
var pipPlatforms = map[Platform]string{
	{"linux", "amd64"}:   "manylinux_2_28_x86_64",
	{"linux", "arm64"}:   "manylinux_2_28_aarch64",
	{"darwin", "arm64"}:  "macosx_14_0_arm64",
	{"windows", "amd64"}: "win_amd64",
	{"windows", "arm64"}: "win_arm64",
}

// moduleVersion is the release in moduleFiles, which lie in BindingModule at BindingVersion.
const moduleVersion = "1.24.1"

var moduleFiles = map[Platform]string{
	{"linux", "arm64"}:   "test_data/onnxruntime_arm64.so",
	{"darwin", "arm64"}:  "test_data/onnxruntime_arm64.dylib",
	{"windows", "amd64"}: "test_data/onnxruntime.dll",
}

// obtain gets the library from one channel and checks it.
func (in *installer) obtain(ctx context.Context, c Channel) (*obtained, error) {
	version := in.Version
	if c == Module {
		if version = moduleVersion; in.asked && in.Version != version {
			return nil, fmt.Errorf("the %s module carries ONNX Runtime %s only", BindingModule, version)
		}
	}
	if c == Carry {
		return in.carried(ctx)
	}
	pin, pinned := findPin(in.pins, c, version, in.Platform)
	if c != From && !pinned && in.SHA256 == "" {
		return nil, fmt.Errorf("no digest is pinned for ONNX Runtime %s on %s: give the library file's digest by --sha256, or an archive by --from", version, in.Platform)
	}
	dir := filepath.Join(in.staging, string(c))
	if err := atomicfile.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	file, source, archive, err := in.fetch(ctx, c, pin, dir)
	if err != nil {
		return nil, err
	}
	got := &obtained{channel: c, source: source, archive: archive, pinned: pinned, variant: in.Variant}
	in.progress(Progress{Stage: "unpack"})
	all, err := unpack(ctx, file, source, in.Platform, dir, in.Limits)
	if err != nil {
		return nil, err
	}
	if got.picked, err = pick(source, in.Platform, all); err != nil {
		return nil, err
	}
	if err := in.check(got, pin); err != nil {
		return nil, err
	}
	return got, nil
}

// fetch gets a channel's file into a folder, and compares it with the pin where that has a digest of it.
func (in *installer) fetch(ctx context.Context, c Channel, pin Pin, dir string) (file, source, sum string, err error) {
	switch c {
	case NPM:
		file, source, err = in.npm(ctx, dir)
	case Pip:
		file, source, err = in.pip(ctx, dir)
	case Module:
		file, source, err = in.module(ctx, dir)
	default:
		file, source, err = in.from(ctx, dir)
	}
	if err != nil {
		return "", "", "", err
	}
	if sum, _, err = hashFile(ctx, file); err != nil {
		return "", "", "", err
	}
	if pin.Archive != "" && sum != pin.Archive {
		return "", "", "", &DigestError{What: source, Got: sum, Want: pin.Archive, By: "the pin for " + pin.String()}
	}
	return file, source, sum, nil
}

// check compares what was unpacked with pin, digest and version.
func (in *installer) check(got *obtained, pin Pin) error {
	if got.channel == From {
		return in.checkFrom(got)
	}
	if in.SHA256 != "" && got.library.sha256 != in.SHA256 {
		return &DigestError{What: "the library in " + got.source, Got: got.library.sha256, Want: in.SHA256, By: "--sha256"}
	}
	if !got.pinned {
		in.note("no digest is pinned for ONNX Runtime %s on %s; only the one given by --sha256 was checked", in.Version, in.Platform)
		got.companions = nil // --sha256 vouches for the library alone
	} else if err := checkPin(got, pin); err != nil {
		return err
	}
	if got.channel == Module && got.info.Version != in.Version {
		in.note("the %s module carries ONNX Runtime %s, and the preferred version is %s", BindingModule, got.info.Version, in.Version)
	} else if got.info.Version != in.Version {
		return fmt.Errorf("the library in %s is version %q, not %s", got.source, got.info.Version, in.Version)
	}
	return nil
}

// checkPin compares every file with the pin.
func checkPin(got *obtained, pin Pin) error {
	by := "the pin for " + pin.String()
	if got.library.sha256 != pin.library() {
		return &DigestError{What: "the library in " + got.source, Got: got.library.sha256, Want: pin.library(), By: by}
	}
	for _, c := range got.companions {
		want, ok := pin.Files[c.name]
		if !ok {
			want = "no such file"
		}
		if c.sha256 != want {
			return &DigestError{What: c.name + " in " + got.source, Got: c.sha256, Want: want, By: by}
		}
	}
	return nil
}

// checkFrom decides on version and variant of a library that the user named.
func (in *installer) checkFrom(got *obtained) error {
	v, api := got.info.Version, got.info.API
	switch {
	case v == "":
		return fmt.Errorf("the version of the library in %s cannot be told", got.source)
	case api < BindingAPI:
		return fmt.Errorf("the library in %s is version %s, which serves API level %d, and level %d (release 1.%d or later) is needed", got.source, v, api, BindingAPI, BindingAPI)
	case in.Version != "" && v != in.Version:
		return fmt.Errorf("the library in %s is version %s, not %s", got.source, v, in.Version)
	case v != Version:
		in.note("ONNX Runtime %s is usable, but the preferred version is %s", v, Version)
	}
	in.note("the digest given by --sha256 was checked; no digest is pinned for %s", got.source)
	if got.variant == "" {
		got.variant = variantOf(got.companions)
	}
	return nil
}

// variantOf names a build by the provider libraries in it: "" where there are none.
func variantOf(companions []unpacked) string {
	order := []struct{ provider, variant string }{
		{"CUDAExecutionProvider", "cuda"}, {"NvTensorRTRTXExecutionProvider", "tensorrt_rtx"},
		{"TensorrtExecutionProvider", "tensorrt"}, {"OpenVINOExecutionProvider", "openvino"},
		{"ROCMExecutionProvider", "rocm"}, {"MIGraphXExecutionProvider", "migraphx"},
		{"QNNExecutionProvider", "qnn"}, {"CANNExecutionProvider", "cann"}, {"VitisAIExecutionProvider", "vitisai"},
		{"DnnlExecutionProvider", "dnnl"}, {"WebGpuExecutionProvider", "webgpu"}, {"VSINPUExecutionProvider", "vsinpu"},
	}
	for _, o := range order {
		for _, c := range companions {
			if providerOf(c.name) == o.provider {
				return o.variant
			}
		}
	}
	return ""
}

// npm lets the npm client fetch the package's archive. No script of the package is run.
func (in *installer) npm(ctx context.Context, dir string) (file, source string, err error) {
	c, ok := in.Env.client("npm")
	if !ok {
		return "", "", errors.New("no npm on PATH")
	}
	in.progress(Progress{Stage: "npm"})
	source = npmPackage + "@" + in.Version
	// npm takes the nearest folder with a package.json for the project, whose settings it applies.
	if err := writeFile(filepath.Join(dir, "package.json"), []byte("{\"private\":true}\n"), 0o644); err != nil {
		return "", "", err
	}
	if _, err := c.run(ctx, dir, "pack", source, "--ignore-scripts", "--silent"); err != nil {
		return "", "", err
	}
	file, err = only(dir, "*.tgz", "npm pack")
	return file, source, err
}

// pip lets the first pip client that works fetch the wheel.
func (in *installer) pip(ctx context.Context, dir string) (file, source string, err error) {
	tag, ok := pipPlatforms[in.Platform]
	if !ok {
		return "", "", fmt.Errorf("the %s package has no wheel for %s", pipPackage, in.Platform)
	}
	source = pipPackage + "==" + in.Version
	args := []string{"download", source, "--no-deps", "--only-binary=:all:", "--dest", dir,
		"--platform", tag, "--python-version", pipPython, "--implementation", "cp", "--abi", pipABI,
		"--disable-pip-version-check", "--no-input", "--quiet"}
	var clients []client
	for _, name := range []string{"pip3", "pip"} {
		if c, ok := in.Env.client(name); ok {
			clients = append(clients, c)
		}
	}
	for _, name := range []string{"python3", "python"} {
		if c, ok := in.Env.client(name); ok {
			c.args = []string{"-m", "pip"}
			clients = append(clients, c)
		}
	}
	if len(clients) == 0 {
		return "", "", errors.New("no pip and no python3 on PATH")
	}
	in.progress(Progress{Stage: "pip"})
	for _, c := range clients {
		// The first one is asked in vain only where it is broken; its error says more than those of the others.
		_, runErr := c.run(ctx, dir, args...)
		if runErr == nil {
			file, err = only(dir, "*.whl", "pip download")
			return file, source, err
		}
		if err == nil {
			err = runErr
		}
		if ctx.Err() != nil {
			break
		}
	}
	return "", "", err
}

// module asks the go command for the folder of BindingModule in the module cache; it downloads the module where it is
// not there, and verifies it by the checksum database.
func (in *installer) module(ctx context.Context, dir string) (file, source string, err error) {
	source = BindingModule + "@" + BindingVersion
	rel, ok := moduleFiles[in.Platform]
	if !ok {
		return "", "", fmt.Errorf("the %s module carries no library for %s", BindingModule, in.Platform)
	}
	c, ok := in.Env.client("go")
	if !ok {
		return "", "", errors.New("no go command on PATH")
	}
	in.progress(Progress{Stage: "module"})
	c.vars = append(append([]string{}, c.vars...), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := c.run(ctx, dir, "mod", "download", "-json", source)
	if err != nil {
		return "", "", err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal([]byte(out), &m); err != nil || m.Dir == "" {
		return "", "", fmt.Errorf("go mod download -json %s did not name a folder", source)
	}
	return filepath.Join(m.Dir, filepath.FromSlash(rel)), source + "/" + rel, nil
}

// only is the one file in a folder that matches a pattern.
func only(dir, pattern, who string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return "", err
	}
	if len(files) != 1 {
		return "", fmt.Errorf("%s left %d files like %s, want 1", who, len(files), pattern)
	}
	return files[0], nil
}

// from copies the file that the user named into the staging folder, so that what is hashed is what is unpacked.
func (in *installer) from(ctx context.Context, dir string) (file, source string, err error) {
	source = redact(in.From)
	r, total, err := in.open(ctx)
	if err != nil {
		return "", "", err
	}
	defer r.Close()
	if total > in.Limits.Archive {
		return "", "", fmt.Errorf("%s has %d bytes, more than the limit of %d", source, total, in.Limits.Archive)
	}
	file = filepath.Join(dir, "archive")
	f, err := create(file, 0o644)
	if err != nil {
		return "", "", err
	}
	h := sha256.New()
	err = in.copyLimited(ctx, io.MultiWriter(f, h), r, total)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", "", fmt.Errorf("reading %s: %w", source, err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != in.SHA256 {
		return "", "", &DigestError{What: source, Got: sum, Want: in.SHA256, By: "--sha256"}
	}
	return file, source, nil
}

// open opens the file or URL that the user named; total is 0 where the length is unknown.
func (in *installer) open(ctx context.Context) (r io.ReadCloser, total int64, err error) {
	if !isURL(in.From) {
		f, size, err := readfile.Open(in.From)
		if err != nil {
			return nil, 0, fmt.Errorf("--from: %w", err)
		}
		return f, size, nil
	}
	client := in.HTTP
	if client == nil {
		client = &http.Client{}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, in.From, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("--from %s is not a usable URL", redact(in.From))
	}
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // its own text repeats the URL, with the query
		}
		return nil, 0, fmt.Errorf("fetching %s: %w", redact(in.From), err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, 0, fmt.Errorf("fetching %s: the server answers %s", redact(in.From), resp.Status)
	}
	return resp.Body, max(resp.ContentLength, 0), nil
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// redact takes user, password, query and fragment out of a URL, where tokens live. A path becomes its last element.
func redact(s string) string {
	if !isURL(s) {
		return path.Base(filepath.ToSlash(s))
	}
	u, err := url.Parse(s)
	if err != nil {
		return "the URL"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
