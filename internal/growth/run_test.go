package growth

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain is also the command that is measured: it holds memory and computes, itself or in a process below it.
func TestMain(m *testing.M) {
	switch os.Getenv("GROWTH_COMMAND") {
	case "":
		os.Exit(m.Run())
	case "fail":
		os.Stderr.WriteString("first\nit cannot be done\n")
		os.Exit(3)
	case "below":
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "GROWTH_COMMAND=hold")
		if c.Run() != nil {
			os.Exit(1)
		}
	case "hold":
		b := make([]byte, 96<<20)
		for i := range b {
			b[i] = byte(i)
		}
		time.Sleep(100 * time.Millisecond)
		os.Exit(int(b[0]))
	}
}

func TestMeasure(t *testing.T) {
	for _, what := range []string{"hold", "below"} {
		t.Setenv("GROWTH_COMMAND", what)
		c, err := Measure(os.Args[0])
		if err != nil {
			t.Fatal(err)
		}
		if c.Wall < 100*time.Millisecond || c.CPU <= 0 || c.CPU > 10*c.Wall {
			t.Errorf("%s: %+v", what, c)
		}
		if runtime.GOOS == "linux" && (what == "below") != (c.Below > 0) {
			t.Errorf("%s: processes below took %v", what, c.Below)
		}
		if runtime.GOOS == "linux" && (c.Peak < 96<<20 || c.Peak > 600<<20 || c.Own < 96<<20 || c.Own > c.Peak) {
			t.Errorf("%s: peak %d, of which no pages of files are %d", what, c.Peak, c.Own)
		}
	}
	t.Setenv("GROWTH_COMMAND", "fail")
	if _, err := Measure(os.Args[0]); err == nil || !strings.Contains(err.Error(), "it cannot be done") {
		t.Errorf("the error of a failed command is %v", err)
	}
}

func TestLeast(t *testing.T) {
	got := Least([]Cost{{3, 5, 2, 10, 2}, {4, 4, 1, 12, 1}})
	if want := (Cost{3, 4, 1, 12, 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
