package main

import (
	"archive/zip"
	"cmp"
	"encoding/json"
	"hash/fnv"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestCorpusLedger takes every graph of the corpus through the commands, and
// through chains of them, and runs what they write beside the original: by
// itself, not trusting what the commands say. Nothing may be wrong, nothing may
// crash, and what is refused is in testdata/ledger.txt. A fifth of the graphs is
// taken, without whole networks, all with LAPIDARY_CORPUS=all, and those with a word in their names with
// LAPIDARY_LEDGER=WORD. -update writes that file and docs/ledger.md.
func TestCorpusLedger(t *testing.T) {
	library := zootest.Library(t)
	graphs, all := ledgerGraphs(t)
	entries := runLedger(t, library, graphs)
	l := newLedger(graphs, all, entries)
	for _, e := range l.entries {
		if e.Status == ledgerWrong || e.Status == ledgerCrashed {
			t.Errorf("%s: %s: %s: %s", e.Status, e.Command, e.Graph, e.Reason)
		}
	}
	t.Logf("%d graphs\n%s", len(graphs), l.table())
	l.hold(t)
}

// ledgerGraphs unpacks the corpus and returns the graphs to take, in order, and
// how many there are.
func ledgerGraphs(t *testing.T) (out []ledgerTask, all int) {
	dir := t.TempDir()
	only := os.Getenv("LAPIDARY_LEDGER") // graphs with this in their name
	add := func(name, file string) {
		all++
		// A minute each: whole networks, and tensors of gigabytes.
		whole := strings.HasPrefix(name, "light/") || name == "ort-transform/approximation/gelu_add_matmul" || name == "models/fns-candy"
		if only != "" && !strings.Contains(name, only) || only == "" && !zootest.All() && (whole || !zootest.Chosen(name)) {
			return
		}
		task := ledgerTask{Graph: name, Model: file}
		data := filepath.Join(filepath.Dir(file), "test_data_set_0") // of outputs alone where a graph has no inputs
		if inputs, _ := filepath.Glob(filepath.Join(data, "input_*.pb")); len(inputs) > 0 && filepath.Base(file) == "model.onnx" {
			task.Data = data
		}
		out = append(out, task)
	}
	for _, archive := range zootest.Archives(t) {
		for _, name := range extract(t, zootest.Path(t, "corpus/"+archive+".zip"), filepath.Join(dir, archive)) {
			if strings.HasSuffix(name, ".onnx") {
				add(archive+"/"+strings.TrimSuffix(strings.TrimSuffix(name, ".onnx"), "/model"), filepath.Join(dir, archive, filepath.FromSlash(name)))
			}
		}
	}
	for _, folder := range []string{"models", "external-data", "hostile"} {
		files, err := filepath.Glob(filepath.Join(zootest.Path(t, folder), "*.onnx"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			add(folder+"/"+strings.TrimSuffix(filepath.Base(f), ".onnx"), f)
		}
	}
	// What always runs first, and whole networks last; else in an order of which any part represents the whole.
	slices.SortFunc(out, func(a, b ledgerTask) int {
		return cmp.Or(cmp.Compare(a.turn(), b.turn()), cmp.Compare(a.hash(), b.hash()))
	})
	return out, all
}

// extract unpacks an archive and returns the names in it.
func extract(t *testing.T, archive, dir string) (names []string) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, e := range z.File {
		if strings.HasSuffix(e.Name, "/") {
			continue
		}
		to := filepath.Join(dir, filepath.FromSlash(path.Clean("/"+e.Name)))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name)
	}
	return names
}

// ledgerShards is how many processes share the work: LAPIDARY_LEDGER_SHARDS, else 2.
func ledgerShards() int {
	if n, err := strconv.Atoi(os.Getenv("LAPIDARY_LEDGER_SHARDS")); err == nil && n > 0 {
		return n
	}
	return 2
}

// ledgerServed is after how many graphs a shard makes place for the next: what the
// runtime holds is then free.
const ledgerServed = 150

// runLedger spreads the graphs over the shards.
func runLedger(t *testing.T, library string, graphs []ledgerTask) []ledgerEntry {
	work, dir := make(chan ledgerTask), t.TempDir()
	keep, out := keeper(t)
	done := map[string]bool{}
	for _, e := range out {
		done[e.Graph] = true
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range ledgerShards() {
		all.Go(func() {
			s := &ledgerWorker{t: t, library: library}
			defer s.stop()
			for task := range work {
				list := s.graph(task)
				mu.Lock()
				out = append(out, list...)
				keep(list)
				mu.Unlock()
			}
		})
	}
	for i, task := range graphs {
		if done[task.Graph] {
			continue
		}
		task.Dir = filepath.Join(dir, strconv.Itoa(i))
		work <- task
	}
	close(work)
	all.Wait()
	return slices.DeleteFunc(out, func(e ledgerEntry) bool {
		return !slices.ContainsFunc(graphs, func(g ledgerTask) bool { return g.Graph == e.Graph })
	})
}

// keeper returns what writes entries to the file that LAPIDARY_LEDGER_OUT names,
// as JSON lines, and the entries that are there already: a run that was ended goes on.
func keeper(t *testing.T) (keep func([]ledgerEntry), done []ledgerEntry) {
	file := os.Getenv("LAPIDARY_LEDGER_OUT")
	if file == "" {
		return func([]ledgerEntry) {}, nil
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for lines := json.NewDecoder(f); ; {
		var e ledgerEntry
		if err := lines.Decode(&e); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		done = append(done, e)
	}
	lines := json.NewEncoder(f)
	return func(list []ledgerEntry) {
		for _, e := range list {
			if err := lines.Encode(e); err != nil {
				t.Error(err)
			}
		}
	}, done
}

// ledgerWorker keeps one shard at work.
type ledgerWorker struct {
	t       *testing.T
	library string
	p       *ledgerProcess
}

// graph takes one graph through all commands. Where the shard dies, the rest is
// done once more with the engine apart from it, as the program has it: what dies
// then is the program itself.
func (s *ledgerWorker) graph(task ledgerTask) (out []ledgerEntry) {
	if err := os.Mkdir(task.Dir, 0o700); err != nil {
		s.t.Error(err)
		return nil
	}
	defer os.RemoveAll(task.Dir)
	enter := func(e ledgerEntry) {
		out = append(out, e)
		task.Done = append(task.Done, e.Command)
	}
	for len(task.Done) < len(ledgerCommands) {
		if err := s.ready(); err != nil {
			s.t.Error(err)
			return out
		}
		at, err := s.p.serve(task, enter)
		if err == nil {
			return out
		}
		s.p = nil
		if task.Isolated {
			if at == "" {
				at = "start"
			}
			enter(ledgerEntry{Graph: task.Graph, Command: at, Status: ledgerCrashed, Reason: err.Error()})
		}
		task.Isolated = true
	}
	return out
}

// ready sees to it that there is a shard.
func (s *ledgerWorker) ready() (err error) {
	if s.p != nil && s.p.served >= ledgerServed {
		s.stop()
	}
	if s.p == nil {
		s.p, err = startShard(s.library)
	}
	return err
}

func (s *ledgerWorker) stop() {
	if s.p != nil {
		s.p.stop(false)
		s.p = nil
	}
}

func (t ledgerTask) turn() int {
	switch {
	case zootest.InFifth(t.Graph):
		return 0
	case strings.HasPrefix(t.Graph, "light/"):
		return 2
	}
	return 1
}

func (t ledgerTask) hash() uint32 {
	h := fnv.New32a()
	io.WriteString(h, t.Graph)
	return h.Sum32() * 2654435761 // names that begin alike are not neighbours
}
