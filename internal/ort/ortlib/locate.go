package ortlib

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/readfile"
)

var (
	linuxName   = regexp.MustCompile(`^libonnxruntime\.so(\.[0-9]+)*$`)
	darwinName  = regexp.MustCompile(`^libonnxruntime(\.[0-9]+)*\.dylib$`)
	windowsName = regexp.MustCompile(`^(?i:onnxruntime\.dll)$`)
)

// isLibraryName reports whether a file of this name is the main library on a platform.
func isLibraryName(name string, p Platform) bool {
	switch p.OS {
	case "windows":
		return windowsName.MatchString(name)
	case "darwin":
		return darwinName.MatchString(name)
	default:
		return linuxName.MatchString(name)
	}
}

// librariesIn lists the main libraries in a folder, the most exact name first (libonnxruntime.so.1.30.0 before
// libonnxruntime.so).
func librariesIn(dir string, p Platform) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && isLibraryName(e.Name(), p) {
			names = append(names, e.Name())
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return len(b) - len(a) })
	for i, n := range names {
		names[i] = filepath.Join(dir, n)
	}
	return names
}

// providerLibraries maps the stem of a provider's own library to ONNX Runtime's name of the provider.
var providerLibraries = map[string]string{
	"onnxruntime_providers_cuda":            "CUDAExecutionProvider",
	"onnxruntime_providers_tensorrt":        "TensorrtExecutionProvider",
	"onnxruntime_providers_nv_tensorrt_rtx": "NvTensorRTRTXExecutionProvider",
	"onnxruntime_providers_openvino":        "OpenVINOExecutionProvider",
	"onnxruntime_providers_rocm":            "ROCMExecutionProvider",
	"onnxruntime_providers_migraphx":        "MIGraphXExecutionProvider",
	"onnxruntime_providers_dnnl":            "DnnlExecutionProvider",
	"onnxruntime_providers_cann":            "CANNExecutionProvider",
	"onnxruntime_providers_qnn":             "QNNExecutionProvider",
	"onnxruntime_providers_vitisai":         "VitisAIExecutionProvider",
	"onnxruntime_providers_webgpu":          "WebGpuExecutionProvider",
	"onnxruntime_providers_vsinpu":          "VSINPUExecutionProvider",
}

// providerOf is the provider whose library has this file name, or "".
func providerOf(name string) string {
	stem := strings.TrimPrefix(name, "lib")
	if i := strings.IndexByte(stem, '.'); i >= 0 {
		stem = stem[:i]
	}
	return providerLibraries[stem]
}

// providersBeside names the providers whose libraries lie in the library's folder.
func providersBeside(library string) []string {
	entries, err := os.ReadDir(filepath.Dir(library))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if p := providerOf(e.Name()); p != "" && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// system looks through the folders in which the system's loader looks.
func (s Search) system(context.Context) ([]found, string) {
	dirs := s.systemDirs()
	var files []found
	for _, d := range dirs {
		for _, f := range librariesIn(d, s.Platform) {
			files = append(files, found{path: f})
		}
	}
	if len(files) == 0 {
		return nil, "no library in " + strings.Join(dirs, ", ")
	}
	return files, ""
}

// systemDirs lists the loader's folders in its order.
func (s Search) systemDirs() []string {
	var dirs []string
	add := func(more ...string) {
		for _, d := range more {
			if filepath.IsAbs(d) && !slices.Contains(dirs, d) {
				dirs = append(dirs, d)
			}
		}
	}
	rooted := func(more ...string) {
		for _, d := range more {
			add(filepath.Join("/", s.Env.Root, d))
		}
	}
	switch s.Platform.OS {
	case "windows":
		add(filepath.SplitList(s.Env.get("PATH"))...)
		add(filepath.SplitList(s.Env.get("Path"))...)
	case "darwin":
		add(filepath.SplitList(s.Env.get("DYLD_LIBRARY_PATH"))...)
		add(filepath.SplitList(s.Env.get("DYLD_FALLBACK_LIBRARY_PATH"))...)
		rooted("opt/homebrew/lib", "usr/local/lib", "opt/local/lib", "usr/lib")
	default:
		add(filepath.SplitList(s.Env.get("LD_LIBRARY_PATH"))...)
		rooted(loaderConf(s.Env.Root, "/etc/ld.so.conf", 0)...)
		triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[s.Platform.Arch]
		if triplet != "" {
			rooted("lib/"+triplet, "usr/lib/"+triplet, "usr/local/lib/"+triplet)
		}
		rooted("lib64", "usr/lib64", "usr/local/lib64", "lib", "usr/lib", "usr/local/lib")
	}
	return dirs
}

// loaderConf reads the folders named by an ld.so.conf file and by the files it includes, at most 4 deep. What cannot
// be read counts as empty, as it does for ldconfig.
func loaderConf(root, path string, depth int) []string {
	const maxDepth, maxBytes = 4, 1 << 20
	if depth > maxDepth {
		return nil
	}
	full := filepath.Join("/", root, path)
	data, err := readfile.All(full, maxBytes)
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		pattern, ok := strings.CutPrefix(line, "include ")
		if !ok {
			if filepath.IsAbs(line) {
				dirs = append(dirs, line)
			}
			continue
		}
		pattern = strings.TrimSpace(pattern)
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(path), pattern)
		}
		matches, err := filepath.Glob(filepath.Join("/", root, pattern))
		if err != nil {
			continue
		}
		for _, m := range matches {
			if rel, err := filepath.Rel(filepath.Join("/", root), m); err == nil {
				dirs = append(dirs, loaderConf(root, "/"+rel, depth+1)...)
			}
		}
	}
	return dirs
}

// pythonTimeout bounds the question to python3; an interpreter answers in well under a second.
const pythonTimeout = 15 * time.Second

// sitePackages prints the folders into which this interpreter's packages are installed, one a line.
const sitePackages = `import site, sysconfig
out = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib")]
try:
    out += site.getsitepackages() + [site.getusersitepackages()]
except AttributeError:
    pass
print("\n".join(out))`

// python looks for the onnxruntime wheel in Python environments: the active ones, then that of the python3 on PATH.
func (s Search) python(ctx context.Context) ([]found, string) {
	if s.NoPython {
		return nil, "Python environments left out"
	}
	var dirs []string
	for _, key := range []string{"VIRTUAL_ENV", "CONDA_PREFIX"} {
		if prefix := s.Env.get(key); filepath.IsAbs(prefix) {
			for _, pattern := range []string{"lib/python3*/site-packages", "Lib/site-packages"} {
				matches, err := filepath.Glob(filepath.Join(prefix, pattern))
				if err == nil {
					dirs = append(dirs, matches...)
				}
			}
		}
	}
	if files := s.wheelsIn(dirs); len(files) > 0 {
		return files, ""
	}
	for _, name := range []string{"python3", "python"} {
		c, ok := s.Env.client(name)
		if !ok {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, pythonTimeout)
		defer cancel()
		// Started in its own folder: python3 -c puts the working folder first on its module path.
		out, err := c.run(ctx, filepath.Dir(c.path), "-c", sitePackages)
		if err != nil {
			return nil, err.Error()
		}
		dirs = strings.Split(strings.TrimSpace(strings.ReplaceAll(out, "\r\n", "\n")), "\n")
		if files := s.wheelsIn(dirs); len(files) > 0 {
			return files, ""
		}
		return nil, "no onnxruntime wheel in " + strings.Join(dirs, ", ")
	}
	return nil, "no active Python environment with onnxruntime, and no python3 on PATH"
}

// wheelsIn finds the library of an installed onnxruntime wheel in package folders.
func (s Search) wheelsIn(dirs []string) []found {
	var files []found
	for _, d := range dirs {
		for _, f := range librariesIn(filepath.Join(d, "onnxruntime", "capi"), s.Platform) {
			files = append(files, found{path: f})
		}
	}
	return files
}
