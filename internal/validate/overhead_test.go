package validate

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// cpuTime is the processor time of this process, and of its children that have ended.
func cpuTime(t testing.TB) (own, children time.Duration) {
	t.Helper()
	of := func(who int) time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return of(syscall.RUSAGE_SELF), of(syscall.RUSAGE_CHILDREN)
}

// squeezenet are the options to compare SqueezeNet with itself on the 500 pictures of the corpus, accuracy only.
func squeezenet(t testing.TB) Options {
	t.Helper()
	model := zootest.Path(t, "models/squeezenet1.1.onnx")
	o := runtimeOptions(t, model, model, zootest.Path(t, "data/imagenet"))
	var err error
	if o.Dataset.Preprocess, err = dataset.ParsePreprocess("layout=nchw,channels=bgr,mean=104.007:116.669:122.679"); err != nil {
		t.Fatal(err)
	}
	o.Latency.Off, o.Explain.Off = true, true
	return o
}

// TestOverhead says how much processor time the accuracy pass takes beyond bare inference of both models on the same 500 pictures:
// reading, decoding and hashing them, moving tensors between processes, scoring, and loading the models. Processor time, since
// the machine may be busy.
func TestOverhead(t *testing.T) {
	if os.Getenv("LAPIDARY_OVERHEAD") == "" {
		t.Skip("LAPIDARY_OVERHEAD=1 measures what validating costs beyond inference, in a minute or two")
	}
	o := squeezenet(t)
	var bare, own, workers time.Duration
	for range 2 { // in turns, since the machine changes
		bare += bareInference(t, o)
		before, beforeChildren := cpuTime(t)
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		after, afterChildren := cpuTime(t)
		own, workers = own+after-before, workers+afterChildren-beforeChildren
		if r.Accuracy.N != 500 || !r.Accuracy.Identical {
			t.Fatalf("accuracy %+v", r.Accuracy)
		}
	}
	total := own + workers
	overhead := float64(total)/float64(bare) - 1
	fmt.Printf("500 pictures, both models, twice: bare inference %.2f s of processor time, validate %.2f s (workers %.2f s, coordinator %.2f s): %.1f %% more\n",
		bare.Seconds(), total.Seconds(), workers.Seconds(), own.Seconds(), 100*overhead)
	if overhead > 0.25 {
		t.Errorf("validating takes %.1f %% more than inference, want at most 25 %%", 100*overhead)
	}
}

// bareInference is the processor time of both models on inputs that lie in memory, in this process, loading them included.
func bareInference(t testing.TB, o Options) time.Duration {
	t.Helper()
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	v := &validation{o: o, r: newReport(o)}
	if err := v.pair(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.release()
	defer v.set.Close()
	open := ort.Opener(zootest.Library(t))
	var spent time.Duration
	measured := func(do func()) {
		before, _ := cpuTime(t)
		do()
		after, _ := cpuTime(t)
		spent += after - before
	}
	var sessions [2]session.Session
	measured(func() {
		for i, path := range []string{o.Baseline, o.Candidate} {
			s, err := open(t.Context(), path, o.Session)
			if err != nil {
				t.Fatal(err)
			}
			sessions[i] = s
		}
	})
	defer sessions[0].Close()
	defer sessions[1].Close()
	held := []*dataset.Batch{}
	run := func() {
		measured(func() {
			for _, b := range held {
				for _, s := range sessions {
					if _, err := s.Run(t.Context(), b.Inputs); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
		held = held[:0]
	}
	for b, err := range v.set.Batches(t.Context(), max(o.Batch, 1)) {
		if err != nil {
			t.Fatal(err)
		}
		if held = append(held, b); len(held) == 50 {
			run() // the readers stand still meanwhile, but for the pictures that they hold
		}
	}
	run()
	return spent
}

// TestFlatMemory holds that the peak of the coordinator does not grow with the number of samples: ten times as many, within 10 %.
func TestFlatMemory(t *testing.T) {
	if file := os.Getenv("LAPIDARY_FLAT_DATA"); file != "" {
		flatChild(t, file)
		return
	}
	if os.Getenv("LAPIDARY_OVERHEAD") == "" {
		t.Skip("LAPIDARY_OVERHEAD=1 compares the memory of validating 4,000 and 40,000 samples, in a minute")
	}
	zootest.Library(t)
	var peak [2]int64
	for i, n := range []int{4000, 40000} {
		file := filepath.Join(t.TempDir(), "digits.npz")
		writeDigits(t, file, n)
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFlatMemory$")
		c.Env = append(os.Environ(), "LAPIDARY_FLAT_DATA="+file)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, rest, _ := strings.Cut(string(out), "peak=")
		text, _, _ := strings.Cut(rest, "\n")
		if peak[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		fmt.Printf("%d samples: peak %.1f MiB\n", n, float64(peak[i])/(1<<20))
	}
	if grown := float64(peak[1])/float64(peak[0]) - 1; grown > 0.1 {
		t.Errorf("ten times as many samples take %.1f %% more memory, want at most 10 %%", 100*grown)
	}
}

// flatChild validates the file and prints the most memory that this process had.
func flatChild(t *testing.T, file string) {
	o := runtimeOptions(t, testdata+"digits-cnn.onnx", testdata+"digits-cnn.onnx", file)
	o.Latency.Off, o.Explain.Off = true, true
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("peak=%d\n", session.ReadUsage().Peak)
}

// writeDigits writes n labelled samples of noise in the shape that the digits models take.
func writeDigits(t testing.TB, path string, n int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	rng := rand.New(rand.NewPCG(1, 2))
	add := func(name, descr, shape string, size int, element func(b []byte)) {
		w, err := z.Create(name + ".npy")
		if err != nil {
			t.Fatal(err)
		}
		head := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, shape)
		head += strings.Repeat(" ", 63-(10+len(head))%64) + "\n"
		b := append([]byte("\x93NUMPY\x01\x00"), byte(len(head)), byte(len(head)>>8))
		if _, err := w.Write(append(b, head...)); err != nil {
			t.Fatal(err)
		}
		row := make([]byte, size)
		for range n {
			element(row)
			if _, err := w.Write(row); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("image", "<f4", fmt.Sprintf("%d, 1, 16, 16", n), 4*256, func(b []byte) {
		for i := 0; i < len(b); i += 4 {
			binary.LittleEndian.PutUint32(b[i:], math.Float32bits(rng.Float32()))
		}
	})
	add("labels", "<i8", fmt.Sprintf("%d,", n), 8, func(b []byte) { binary.LittleEndian.PutUint64(b, rng.Uint64N(10)) })
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
