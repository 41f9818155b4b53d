package report

// Model identifies one of the two models by content.
type Model struct {
	Name       string `json:"name"`                           // base name of the model file
	SHA256     string `json:"sha256" schema:"sha256"`         // digest of the model file
	Bytes      int64  `json:"bytes" schema:"count"`           // size of the model file alone, in bytes
	Parameters int64  `json:"parameters" schema:"count"`      // number of elements in all weights
	Nodes      int64  `json:"nodes,omitempty" schema:"count"` // number of nodes, subgraphs included
	External   []File `json:"external,omitempty"`             // files beside the model that hold weights
	History    []Step `json:"history,omitempty"`              // chain of custody as the model itself carries it, oldest step first
}

// TotalBytes returns the size of the model file and all its external files, in bytes.
func (m *Model) TotalBytes() int64 {
	n := m.Bytes
	for _, f := range m.External {
		n += f.Bytes
	}
	return n
}

// File identifies an external data file by content.
type File struct {
	Path   string `json:"path"`                   // relative to the model's folder, with slashes
	SHA256 string `json:"sha256" schema:"sha256"` // digest of the file
	Bytes  int64  `json:"bytes" schema:"count"`   // size in bytes
}

// Step is one rewriting of a model on its way from the first export to the present file.
type Step struct {
	Command     string   `json:"command"`                                      // name of the command, such as quantize
	Options     []string `json:"options,omitempty"`                            // its options as on a command line, in a fixed order
	Tool        string   `json:"tool"`                                         // program and version
	InputSHA256 string   `json:"input_sha256" schema:"sha256"`                 // digest of the model file that the step read
	Calibration []string `json:"calibration_sha256,omitempty" schema:"sha256"` // digests of the calibration data
	Verified    bool     `json:"verified"`                                     // whether the result was checked by execution before it was written
}

// Data describes the validation data without containing any of it.
type Data struct {
	Origin             string `json:"origin" schema:"files|synthetic"`              // "files" for the user's own data, "synthetic" for generated inputs
	Name               string `json:"name,omitempty"`                               // base name of the file or folder, or the generator with its options
	Digest             string `json:"digest" schema:"sha256"`                       // digest over the rows in order, labels included
	Samples            int    `json:"samples" schema:"count"`                       // number of rows
	Labelled           bool   `json:"labelled"`                                     // whether every row has a label
	Classes            int    `json:"classes,omitempty" schema:"count"`             // number of distinct labels
	Preprocess         string `json:"preprocess,omitempty"`                         // the preprocessing in its inline form
	PreprocessDigest   string `json:"preprocess_digest,omitempty" schema:"sha256"`  // digest of the preprocessing specification
	CalibrationOverlap *int   `json:"calibration_overlap,omitempty" schema:"count"` // rows that are also calibration rows; absent when no calibration data is known
}

// Values of Data.Origin.
const (
	OriginFiles     = "files"
	OriginSynthetic = "synthetic"
)

// Environment says what the measurement ran on.
type Environment struct {
	Tool          string     `json:"tool"`                                    // program and version
	Runtime       Runtime    `json:"runtime"`                                 // the inference engine
	Device        string     `json:"device"`                                  // cpu, cuda:0, ...
	FallbackNodes *int       `json:"fallback_nodes,omitempty" schema:"count"` // nodes of the candidate that ran on the CPU although another device was asked for
	OS            string     `json:"os,omitempty"`                            // operating system and architecture, such as linux/amd64
	Kernel        string     `json:"kernel,omitempty"`                        // kernel release
	CPU           string     `json:"cpu,omitempty"`                           // processor model
	Cores         int        `json:"cores,omitempty" schema:"count"`          // processors that the process may use
	ISA           []string   `json:"isa,omitempty"`                           // instruction set extensions that matter for inference
	Threads       int        `json:"threads,omitempty" schema:"count"`        // threads that a session used within an operator
	Governor      string     `json:"governor,omitempty"`                      // frequency governor, where readable
	Container     *Container `json:"container,omitempty"`                     // control group limits; absent when there are none
	GPU           []string   `json:"gpu,omitempty"`                           // names of the graphics processors in use
	Driver        string     `json:"driver,omitempty"`                        // graphics driver version
}

// Runtime identifies the inference engine.
type Runtime struct {
	Name     string `json:"name"`                             // onnxruntime or onnx-go
	Version  string `json:"version"`                          // as the engine states it
	SHA256   string `json:"sha256,omitempty" schema:"sha256"` // digest of the shared library
	Provider string `json:"provider,omitempty"`               // execution provider, such as CPUExecutionProvider
}

// Container holds the limits of the control group that the measurement ran in.
type Container struct {
	CPUQuota    *float64 `json:"cpu_quota,omitempty"`                   // processors' worth of time per second
	CPUSet      string   `json:"cpuset,omitempty"`                      // processors allowed, in the kernel's list form
	MemoryBytes int64    `json:"memory_bytes,omitempty" schema:"count"` // memory limit in bytes
}
