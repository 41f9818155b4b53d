package nets

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// Write writes a network to a model file, its weights generated as they are written.
func Write(path, name string, o Options, w onnxfile.WriteOptions) error {
	m, err := Build(name, o)
	if err != nil {
		return err
	}
	_, err = onnxfile.Write(path, m, w)
	return err
}

// sparseAlign is a multiple of every page size there is.
const sparseAlign = 1 << 16

// WriteSparse writes a network whose large weights lie in a sparse external file
// beside it: of each only the first eight bytes are on disk, different ones, and
// the rest reads as zero. So a model of any size takes next to no space.
func WriteSparse(path, name string, o Options) (err error) {
	m, err := Build(name, o)
	if err != nil {
		return err
	}
	location := filepath.Base(path) + ".data"
	f, err := os.Create(filepath.Join(filepath.Dir(path), location))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end := int64(0)
	for i, v := range m.Graph.Initializers() {
		t := *v.Const
		if t.Size() < sparseAlign {
			continue
		}
		mark := binary.LittleEndian.AppendUint64(nil, uint64(i+1)*0x0101)
		if _, err := f.WriteAt(mark, end); err != nil {
			return err
		}
		t.External = &onnx.ExternalData{Location: location, Offset: end, Length: t.Size()}
		v.SetConst(&t)
		end = (end + t.Size() + sparseAlign - 1) / sparseAlign * sparseAlign
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	_, err = onnxfile.Write(path, m, onnxfile.WriteOptions{External: onnxfile.ExternalKeep})
	return err
}
