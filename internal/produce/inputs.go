package produce

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// weightFiles returns the paths of the files beside src that hold weights of m,
// the model in it.
func weightFiles(src string, m *onnx.Model) []string {
	files := m.ExternalFiles()
	for i, name := range files {
		files[i] = filepath.Join(filepath.Dir(src), filepath.FromSlash(name))
	}
	return files
}

// sameFile reports whether both paths lead to one file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// checkWeights refuses a target that is one of the files which the original has
// its weights in, and returns those which must stay when the result is in place:
// all of them, unless the result takes the original's place.
func checkWeights(dst, src string, m *onnx.Model) ([]string, error) {
	files := weightFiles(src, m)
	for _, f := range files {
		if sameFile(dst, f) {
			return nil, fmt.Errorf("%s holds weights of %s and cannot be the output; name another one", dst, src)
		}
	}
	if sameFile(dst, src) {
		return nil, nil
	}
	return files, nil
}
