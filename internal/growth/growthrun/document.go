package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/growth"
)

// titles introduce the series.
var titles = map[string]struct{ title, note string }{
	byNodes: {"By number of nodes", "A perceptron of any depth with a connection around every layer: half as many weights as nodes, all of them small (`netgen -nodes N deep`)."},
	manyRead: {"One value that thousands read", "A fan: one input that every branch reads, and one sum of all branches (`netgen -nodes N fan`). " +
		"What goes through all readers of a value once for each of them shows here."},
	bodies: {"Bodies in bodies", "Conditions nested eight deep, with a loop in the innermost, one after another (`netgen -nodes N branches`)."},
	byBytes: {"By bytes of weights", "Products of matrices of 4 MiB (`netgen -bytes N layers`), all weights in the model file below 2 GiB, and in a file beside it above. " +
		"Pages of mapped files count as resident memory as long as nobody else needs the room; what a process cannot give back is in parentheses. Models that the engine is to run go up to 2.5 GB: it holds them whole, and two of them where they are compared."},
}

// document is the report under construction.
type document struct {
	lapidary string
	date     time.Time
	load     string
	series   []*growth.Series
	took     time.Duration
}

func newDocument(lapidary string) *document {
	b, _ := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(b), " ")
	return &document{lapidary: lapidary, date: time.Now().UTC(), load: load}
}

// write writes the text and the picture.
func (d *document) write(md, svg string) error {
	if err := os.WriteFile(svg, growth.Picture(d.series), 0o644); err != nil {
		return err
	}
	var b bytes.Buffer
	m := device.Read(device.Options{GPUs: func() device.GPUs { return device.GPUs{} }})
	fmt.Fprintf(&b, "# Growth of time and memory\n\nWritten by `make growth` on %s at commit %s, in %.0f minutes.\n", d.date.Format(time.DateOnly), commit(), d.took.Minutes())
	fmt.Fprintf(&b, "Machine: %s, %d processors, %s of memory. Load when it began: %s. Versions: lapidary %s, %s.\n\n",
		m.CPU.Model, m.CPU.Logical, growth.Bytes(float64(m.Limits.MemoryTotal)), orUnknown(d.load), d.version(), runtime.Version())
	fmt.Fprintf(&b, "%s\n\n![Time and memory of every command over the size of the model](growth.svg)\n\n", intro)
	fmt.Fprintf(&b, "%s\n", d.verdict())
	for _, s := range d.series {
		if err := s.Write(&b); err != nil {
			return err
		}
	}
	return os.WriteFile(md, bytes.TrimRight(b.Bytes(), "\n"), 0o644)
}

const intro = "Every command runs on models of growing size, several times where it is short; the least time counts, and the most memory. *Start* is the same command on a model of next to nothing. " +
	"An *exponent* is that of the power of the size by which time or memory, less the start, grows: the slope of the line of least squares over the logarithms, " +
	"of the sizes at which there is more than noise (15 ms and 4 MB, or a fifth and a tenth of the start). 1 is linear, 2 is the square; a row above 1.15 is marked. " +
	"Commands that run models do so in processes of their own, in ONNX Runtime: their time stands apart, and only the rest decides whether a row is marked. The exponent of memory is of what the system cannot take back, which stands in parentheses. The others are told not to run anything with `--no-verify`."

// verdict says which rows are not linear.
func (d *document) verdict() string {
	var bad []string
	rows := 0
	for _, s := range d.series {
		for _, r := range s.Rows {
			if rows++; !r.Linear() {
				bad = append(bad, fmt.Sprintf("`%s` (%s)", r.Command, strings.ToLower(s.Title[:1])+s.Title[1:]))
			}
		}
	}
	if len(bad) == 0 {
		return fmt.Sprintf("None of %d rows grows faster than the model.\n", rows)
	}
	return fmt.Sprintf("%d of %d rows grow faster than the model: %s.\n", len(bad), rows, strings.Join(bad, ", "))
}

func (d *document) version() string {
	out, err := exec.Command(d.lapidary, "--version").Output()
	if err != nil {
		return "unknown"
	}
	fields := strings.Fields(string(out))
	return fields[len(fields)-1]
}

func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
