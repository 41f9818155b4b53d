//go:build unix

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

// usage is processor time.
type usage struct{ user, system time.Duration }

func (u usage) plus(v usage) usage  { return usage{u.user + v.user, u.system + v.system} }
func (u usage) minus(v usage) usage { return usage{u.user - v.user, u.system - v.system} }
func (u usage) String() string {
	return fmt.Sprintf("%.2f s user, %.2f s system", u.user.Seconds(), u.system.Seconds())
}

// cpuTime is the processor time of this process, and of its children that have ended.
func cpuTime(t testing.TB) (own, children usage) {
	t.Helper()
	of := func(who int) usage {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		return usage{time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())}
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

// TestOverhead says how much time the accuracy pass takes beyond bare inference of both models on the same pictures, 500 of them:
// reading, decoding and hashing them, moving tensors between processes, scoring, and loading the models. It prints
// user time, which a busy machine changes least, and time on the clock, which says something on a quiet one, and does not judge.
func TestOverhead(t *testing.T) {
	pictures, err := strconv.Atoi(os.Getenv("LAPIDARY_OVERHEAD"))
	if err != nil {
		t.Skip("LAPIDARY_OVERHEAD=1 measures what validating costs beyond inference, in a minute or two; a larger number is that of the pictures")
	}
	o := squeezenet(t)
	if pictures == 1 {
		pictures = 500
	}
	o.Dataset.Limit = int64(pictures)
	var bare, own, workers usage
	var bareWall, wall time.Duration
	for range 2 { // in turns, since the machine changes
		spent, took := bareInference(t, o)
		bare, bareWall = bare.plus(spent), bareWall+took
		before, beforeChildren := cpuTime(t)
		began := time.Now()
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		wall += time.Since(began)
		after, afterChildren := cpuTime(t)
		own, workers = own.plus(after.minus(before)), workers.plus(afterChildren.minus(beforeChildren))
		if r.Accuracy.N != pictures || !r.Accuracy.Identical {
			t.Fatalf("accuracy %+v", r.Accuracy)
		}
	}
	more := func(a, b time.Duration) float64 { return 100 * (float64(a)/float64(b) - 1) }
	fmt.Printf("%d pictures, both models, twice\n  bare inference        %v; %.2f s on the clock\n  validate, workers     %v\n  validate, coordinator %v\n  beyond inference      %.1f %% user time; %.1f %% on the clock (%.2f s)\n",
		pictures, bare, bareWall.Seconds(), workers, own, more(own.user+workers.user, bare.user), more(wall, bareWall), wall.Seconds())
}

// bareInference is the processor time of both models on inputs that lie in memory, in this process, loading them included; and that
// on the clock.
func bareInference(t testing.TB, o Options) (spent usage, took time.Duration) {
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
	measured := func(do func()) {
		before, _ := cpuTime(t)
		began := time.Now()
		do()
		took += time.Since(began)
		after, _ := cpuTime(t)
		spent = spent.plus(after.minus(before))
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
	return spent, took
}

// TestFlatMemory holds that the peak of the coordinator does not grow with the number of samples: ten times as many, within 10 %.
func TestFlatMemory(t *testing.T) {
	if file := os.Getenv("LAPIDARY_FLAT_DATA"); file != "" {
		flatChild(t, file)
		return
	}
	if os.Getenv("LAPIDARY_OVERHEAD") == "" {
		t.Skip("LAPIDARY_OVERHEAD=1 compares the memory of validating 2,000 and 20,000 samples, in a minute")
	}
	zootest.Library(t)
	var peak [2]int64
	for i, n := range []int{2000, 20000} {
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
