package quantize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/readfile"
	stat "github.com/lapidary-ml/lapidary/internal/score"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// SearchOptions are a budget for what static int8 may lose on held-out data.
// Where it is not kept, as few layers as suffice stay in float32. All limits
// that are not 0 must hold.
type SearchOptions struct {
	MaxDrop     float64 // percentage points of accuracy, on labelled data
	MaxKL       float64 // nats, of the first output, as a mean over its rows
	MinSQNR     float64 // dB, of all floating-point outputs
	Sensitivity bool    // rank the layers in any case
	Checkpoint  string  // file that keeps every trial, for an interrupted search to go on from; "" is none
}

// budgeted reports whether there is a budget.
func (o *SearchOptions) budgeted() bool { return o.MaxDrop != 0 || o.MaxKL != 0 || o.MinSQNR != 0 }

func (o *SearchOptions) String() string {
	var list []string
	for _, x := range []struct {
		limit float64
		text  string
	}{{o.MaxDrop, "at most %g points of accuracy lost"}, {o.MaxKL, "a divergence of at most %g nats"}, {o.MinSQNR, "at least %g dB"}} {
		if x.limit != 0 {
			list = append(list, fmt.Sprintf(x.text, x.limit))
		}
	}
	return strings.Join(list, ", ")
}

// Point is a model that the search tried.
type Point struct {
	Float   []string `json:"float_layers"` // outputs of the layers that stay in float32, beside those that always do
	Quality Quality  `json:"quality"`
	Ratio   float64  `json:"latency_ratio,omitempty"` // to the original, by turns; 0: not timed
	Met     bool     `json:"met"`                     // the budget is kept
	Front   bool     `json:"front"`                   // none that was timed is both faster and nearer to the original
	Chosen  bool     `json:"chosen"`
}

// Quality is how near a model is to the original on held-out data.
type Quality struct {
	SQNR     float64     `json:"sqnr_db"`
	KL       float64     `json:"kl"`
	Accuracy *float64    `json:"accuracy,omitempty"` // percent; absent without labels
	Drop     *float64    `json:"drop,omitempty"`     // percentage points lost
	DropCI95 *[2]float64 `json:"drop_ci95,omitempty"`
}

// Search is what became of a budget.
type Search struct {
	Budget  string   `json:"budget"`
	Met     bool     `json:"met"`
	Samples int64    `json:"held_out_samples"`
	Trials  int      `json:"trials"`
	Reused  int      `json:"reused"` // trials that came from the checkpoint
	Order   []Single `json:"order"`  // layers, the one that loses most first
	Points  []Point  `json:"points"`
	Note    string   `json:"note,omitempty"` // what speed was asked for and is not had
}

// Single is what the model gains by one layer in float32.
type Single struct {
	Layer string  `json:"layer"`
	Gain  float64 `json:"gain_db"`
}

// searcher looks for the fewest layers in float32 that keep a budget.
type searcher struct {
	r     *recovery
	o     *SearchOptions
	out   *Search
	known map[string]score // by set of layers in float32
	key   string

	times  map[string]float64 // likewise, over that of the original
	unpaid map[string]string  // why layers are in float32 that the budget does not need there
}

func (r *recovery) searcher(out *Search) *searcher {
	return &searcher{r: r, o: &r.s.o.SearchOptions, out: out, known: map[string]score{}, times: map[string]float64{}, unpaid: map[string]string{}}
}

// meets reports whether a score keeps the budget.
func (s *searcher) meets(x score) bool {
	q := qualityOf(s.r.held, x)
	switch {
	case s.o.MinSQNR != 0 && x.SQNR < s.o.MinSQNR:
		return false
	case s.o.MaxKL != 0 && x.Nats > s.o.MaxKL:
		return false
	case s.o.MaxDrop != 0:
		return q.Drop != nil && *q.Drop <= s.o.MaxDrop+1e-9
	}
	return true
}

// sensitivity ranks the layers by what the model gains by each alone in float32.
func (r *recovery) sensitivity(ctx context.Context) error {
	s := r.searcher(&Search{})
	if err := s.load(); err != nil {
		return err
	}
	all, err := s.layers()
	if err != nil {
		return err
	}
	base, err := s.try(ctx, nil)
	if err != nil {
		return err
	}
	_, err = s.rank(ctx, all, base)
	r.s.ranked = s.out.Order
	return err
}

// search leaves layers in float32 until the budget is kept: it ranks them by what
// the model gains by each alone, finds how many of the first it takes, and takes
// back those that are not needed after all.
func (r *recovery) search(ctx context.Context) error {
	o := &r.s.o.SearchOptions
	s := r.searcher(&Search{Budget: o.String(), Samples: r.held.Samples})
	if o.MaxDrop != 0 && r.held.Labels == nil {
		return errors.New("a limit of the accuracy lost needs labels in the calibration data; give a limit of SQNR or divergence instead")
	}
	if err := s.load(); err != nil {
		return err
	}
	all, err := s.layers()
	if err != nil {
		return err
	}
	float, met, err := s.fewest(ctx, all)
	if err != nil {
		return err
	}
	s.out.Met = met
	if float, err = s.quickest(ctx, float); err != nil {
		return err
	}
	r.now = s.choice(float)
	r.score, err = s.try(ctx, float)
	if err == nil {
		err = s.points(ctx, float)
	}
	r.s.searched, r.s.ranked = s.out, s.out.Order
	return err
}

// layers returns the outputs of the layers that are quantized.
func (s *searcher) layers() ([]string, error) {
	_, out, err := s.r.quantized(context.Background(), s.r.now)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, l := range out.layers {
		if l.Reason == "" && l.Weight != nil {
			list = append(list, l.Output)
		}
	}
	return list, nil
}

// fewest returns the layers to leave in float32, and whether that keeps the
// budget. At least one stays in int8: all of them in float32 is the original.
func (s *searcher) fewest(ctx context.Context, all []string) ([]string, bool, error) {
	base, err := s.try(ctx, nil)
	if err != nil || s.meets(base) || len(all) == 0 {
		return nil, err == nil && (len(all) == 0 || s.meets(base)), err
	}
	order, err := s.rank(ctx, all, base)
	if err != nil {
		return nil, false, err
	}
	lo, hi := 0, len(order) // lo does not suffice; hi does, or is all
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		x, err := s.try(ctx, order[:mid])
		if err != nil {
			return nil, false, err
		}
		if s.meets(x) {
			hi = mid
		} else {
			lo = mid
		}
	}
	if hi == len(order) {
		best, err := s.best(ctx, order)
		return best, false, err
	}
	float, err := s.shrink(ctx, order[:hi])
	return float, true, err
}

// rank orders layers by what the model gains by each alone in float32.
func (s *searcher) rank(ctx context.Context, all []string, base score) ([]string, error) {
	for i, l := range all {
		s.r.s.o.progress(fmt.Sprintf("searching: layer %d of %d alone", i+1, len(all)))
		x, err := s.try(ctx, []string{l})
		if err != nil {
			return nil, err
		}
		s.out.Order = append(s.out.Order, Single{l, x.DB - base.DB})
	}
	sort.SliceStable(s.out.Order, func(i, k int) bool { return s.out.Order[i].Gain > s.out.Order[k].Gain })
	var order []string
	for _, x := range s.out.Order {
		order = append(order, x.Layer)
	}
	return order, nil
}

// shrink takes back into int8, from the last on, what the budget does not need.
func (s *searcher) shrink(ctx context.Context, float []string) ([]string, error) {
	float = slices.Clone(float)
	for i := len(float) - 2; i >= 0; i-- { // without the last the budget was not kept
		s.r.s.o.progress(fmt.Sprintf("searching: without layer %d of %d", i+1, len(float)))
		less := slices.Delete(slices.Clone(float), i, i+1)
		x, err := s.try(ctx, less)
		if err != nil {
			return nil, err
		}
		if s.meets(x) {
			float = less
		}
	}
	return float, nil
}

// best is the set that came nearest, of those that were tried.
func (s *searcher) best(ctx context.Context, order []string) ([]string, error) {
	if _, err := s.try(ctx, order[:len(order)-1]); err != nil {
		return nil, err
	}
	var best []string
	var at score
	for i, key := range slices.Sorted(maps.Keys(s.known)) {
		if x := s.known[key]; i == 0 || x.DB > at.DB {
			at, best = x, splitSet(key)
		}
	}
	return best, nil
}

// choice is what the recovery decided, with some layers in float32.
func (s *searcher) choice(float []string) *choices {
	return s.r.now.with(func(c *choices) {
		c.float = map[string]string{}
		for _, l := range float {
			if c.float[l] = "the budget needs it in float32"; s.unpaid[l] != "" {
				c.float[l] = s.unpaid[l]
			}
		}
	})
}

// try scores the model with some layers in float32, or remembers.
func (s *searcher) try(ctx context.Context, float []string) (score, error) {
	key := setOf(float)
	if x, ok := s.known[key]; ok {
		return x, nil
	}
	x, err := s.r.try(ctx, s.choice(float))
	if err != nil {
		return x, err
	}
	s.known[key] = x
	s.out.Trials++
	return x, s.save()
}

func setOf(list []string) string {
	list = slices.Clone(list)
	slices.Sort(list)
	return strings.Join(list, "\n")
}

func splitSet(key string) []string {
	if key == "" {
		return nil
	}
	return strings.Split(key, "\n")
}

// maxCheckpoint bounds the file of a search, in bytes.
const maxCheckpoint = 256 << 20

// checkpoint is the file of a search.
type checkpoint struct {
	Key    string           `json:"key"`
	Trials map[string]score `json:"trials"`
}

// load reads the trials of a search that was interrupted, if it was the same one.
func (s *searcher) load() error {
	held, err := json.Marshal([]any{s.o.MaxDrop, s.o.MaxKL, s.o.MinSQNR, s.r.held.Samples, s.r.report, s.r.s.factor, s.r.s.o.PerTensor, s.r.s.o.ReduceRange, s.r.s.o.Include, s.r.s.o.Exclude, s.r.s.o.CodeOptions})
	if err != nil {
		return err
	}
	s.key = s.r.s.o.key + "\n" + string(held)
	if s.o.Checkpoint == "" {
		return nil
	}
	trials, err := readCheckpoint(s.o.Checkpoint, s.key)
	if len(trials) > 0 {
		s.known, s.out.Reused = trials, len(trials)
	}
	return err
}

// readCheckpoint returns the trials of the search with that key; none where there
// is no file, or it is of another search.
func readCheckpoint(path, key string) (map[string]score, error) {
	b, err := readfile.All(path, maxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var c checkpoint
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	for _, x := range c.Trials {
		if err == nil {
			err = x.Check()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s is no checkpoint of a search (%w); name another file, or remove it", path, err)
	}
	if c.Key != key {
		return nil, nil
	}
	return c.Trials, nil
}

func (s *searcher) save() error {
	if s.o.Checkpoint == "" {
		return nil
	}
	b, err := json.Marshal(checkpoint{s.key, s.known})
	if err == nil {
		err = atomicfile.WriteFile(s.o.Checkpoint, b, 0o644)
	}
	return err
}

// points reports all that was tried; those that keep the budget, the chosen one
// and all in int8 are timed against the original.
func (s *searcher) points(ctx context.Context, chosen []string) error {
	for _, key := range slices.Sorted(maps.Keys(s.known)) {
		x := s.known[key]
		p := Point{Float: splitSet(key), Quality: qualityOf(s.r.held, x), Met: s.meets(x), Chosen: key == setOf(chosen)}
		if p.Met || p.Chosen || key == "" {
			var err error
			if p.Ratio, err = s.time(ctx, p.Float); err != nil {
				return err
			}
		}
		s.out.Points = append(s.out.Points, p)
	}
	front(s.out.Points)
	return nil
}

// front marks the points that no other one betters both ways.
func front(points []Point) {
	for i := range points {
		p := &points[i]
		p.Front = p.Ratio > 0 && !slices.ContainsFunc(points, func(q Point) bool {
			return q.Ratio > 0 && q.Ratio <= p.Ratio && q.Quality.SQNR >= p.Quality.SQNR && (q.Ratio < p.Ratio || q.Quality.SQNR > p.Quality.SQNR)
		})
	}
}

// qualityOf says what a score means.
func qualityOf(h *trial.Held, x score) Quality {
	q := Quality{SQNR: x.SQNR, KL: x.Nats}
	if h.Labels == nil || x.Rows == 0 {
		return q
	}
	accuracy := 100 * float64(x.Right) / float64(x.Rows)
	drop := 100 * float64(x.Losses-x.Gains) / float64(x.Rows)
	lo, hi := stat.Tango(x.Gains, x.Losses, x.Rows, 0.95)
	q.Accuracy, q.Drop, q.DropCI95 = &accuracy, &drop, &[2]float64{-100 * hi, -100 * lo}
	return q
}

// OverBudget is the error of a budget that no mixture keeps. The best that was
// found is written all the same.
type OverBudget struct{ Search *Search }

func (e *OverBudget) Error() string {
	return fmt.Sprintf("the budget of %s is not kept: %d mixtures of int8 and float32 were tried on %d held-out samples, and the nearest was written",
		e.Search.Budget, e.Search.Trials+e.Search.Reused, e.Search.Samples)
}
