package report

import (
	"fmt"
	"time"
)

// Latency compares the run times of the two models, measured as interleaved pairs.
// Times are per inference in milliseconds; the ratio is candidate / baseline, below 1 is faster.
type Latency struct {
	BaselineMS  *float64  `json:"baseline_ms,omitempty"`  // median of the baseline
	CandidateMS *float64  `json:"candidate_ms,omitempty"` // median of the candidate
	Ratio       *float64  `json:"ratio,omitempty"`        // geometric mean over processes of the median of candidate / baseline over their pairs
	CI95        *Interval `json:"ci95,omitempty"`         // interval of ratio, by ci_method
	CIMethod    string    `json:"ci_method,omitempty"`    // how ci95 was computed: process-t, or bca-bootstrap over the pairs of a single process
	ClusterCI95 *Interval `json:"cluster_ci95,omitempty"` // interval of ratio by a bootstrap over whole processes; absent below 5 of them

	Pairs      int      `json:"pairs" schema:"count"`                // interleaved pairs measured
	Processes  int      `json:"processes" schema:"count"`            // process restarts that the pairs are spread over
	Batch      int      `json:"batch,omitempty" schema:"count"`      // samples per inference
	Iterations int      `json:"iterations,omitempty" schema:"count"` // inferences timed together as one element of a pair
	Warmup     int      `json:"warmup,omitempty" schema:"count"`     // inferences run and dropped before the first pair, per process
	MinEffect  *float64 `json:"min_detectable_effect,omitempty"`     // smallest relative change that this run would have found (power 80 %)
	Stopped    string   `json:"stopped,omitempty"`                   // why measuring ended: precise (the interval is as narrow as asked), budget or processes

	P50 *Quantile `json:"p50,omitempty"` // 50th percentile
	P90 *Quantile `json:"p90,omitempty"` // 90th percentile; absent below 36 runs
	P95 *Quantile `json:"p95,omitempty"` // 95th percentile; absent below 72 runs
	P99 *Quantile `json:"p99,omitempty"` // 99th percentile; absent below 368 runs

	Series    *Series    `json:"series,omitempty"`     // the measured pairs, from which ratio and ci95 can be recomputed
	Histogram *Histogram `json:"histogram,omitempty"`  // distribution of single runs of both
	Noise     *Noise     `json:"noise,omitempty"`      // how quiet the machine was
	Memory    *Memory    `json:"memory,omitempty"`     // peak memory of the two worker processes
	ColdStart *ColdStart `json:"cold_start,omitempty"` // from opening the model to the end of the first inference
	Energy    *Energy    `json:"energy,omitempty"`     // energy per inference; absent where the machine has no counter

	Throughput []Throughput `json:"throughput,omitempty"` // samples per second in batches and in several instances, where asked for
	SelfTest   *SelfTest    `json:"self_test,omitempty"`  // what this machine finds where there is nothing to find
}

// Series holds the measured pairs in the order of measurement: element i of both was measured next to each other.
type Series struct {
	BaselineMS  []float64 `json:"baseline_ms"`  // time per inference of the baseline
	CandidateMS []float64 `json:"candidate_ms"` // time per inference of the candidate
}

// Quantile is a quantile of both run times with distribution-free intervals from order statistics.
type Quantile struct {
	BaselineMS    float64   `json:"baseline_ms"`              // of the baseline
	BaselineCI95  *Interval `json:"baseline_ci95,omitempty"`  // its interval
	CandidateMS   float64   `json:"candidate_ms"`             // of the candidate
	CandidateCI95 *Interval `json:"candidate_ci95,omitempty"` // its interval

	DeltaMS   *float64  `json:"delta_ms,omitempty"`   // candidate − baseline: mean over pairs of processes of the difference of their own quantiles; absent below 2, 10, 20 and 100 runs per process for the 50th, 90th, 95th and 99th percentile
	DeltaCI95 *Interval `json:"delta_ci95,omitempty"` // Student's t interval of delta_ms over pairs of processes

	EarlyStopping *Bounds `json:"early_stopping,omitempty"` // MLPerf's early-stopping estimate of the same quantile; absent where too few runs allow one
}

// Bounds are upper bounds of a quantile of both run times, each with 99 % confidence: with t over-latency runs allowed among all runs,
// the slowest of what is left when the t-1 slowest are set aside.
type Bounds struct {
	BaselineMS  float64 `json:"baseline_ms"`  // of the baseline
	CandidateMS float64 `json:"candidate_ms"` // of the candidate
}

// Noise holds the detectors that say whether the machine was quiet enough to be believed.
type Noise struct {
	Lag1            *float64 `json:"lag1,omitempty"`                            // lag-1 autocorrelation of the baseline's series
	TrendP          *float64 `json:"trend_p,omitempty" schema:"fraction"`       // p value of the Mann-Kendall test for a trend in the baseline's series
	Steal           *float64 `json:"steal,omitempty" schema:"fraction"`         // share of processor time taken by the hypervisor
	Throttled       *int64   `json:"throttled,omitempty" schema:"count"`        // periods in which the control group's quota stopped the process
	ContextSwitches *int64   `json:"context_switches,omitempty" schema:"count"` // involuntary context switches during the measurement
	CPUPressure     *float64 `json:"cpu_pressure,omitempty" schema:"fraction"`  // share of the time in which some task waited for a processor
	Modes           *float64 `json:"modes,omitempty"`                           // ratio of the two modes of the baseline's series, where it has two
	Drift           *float64 `json:"drift,omitempty"`                           // relative change of the baseline's time from the first to the last third
	GPULimits       []string `json:"gpu_limits,omitempty"`                      // why the GPU's clocks were lowered: power-cap, thermal, hardware, power-brake
	GPULimited      *float64 `json:"gpu_limited,omitempty" schema:"fraction"`   // share of the readings at which they were
	Warnings        []string `json:"warnings,omitempty"`                        // one sentence for each detector that fired
	Severe          string   `json:"severe,omitempty"`                          // the sentence for which no interval is stated, and gates on latency are inconclusive
}

// Memory is the peak resident memory of the worker processes, in bytes.
type Memory struct {
	BaselinePeakBytes  int64     `json:"baseline_peak_bytes" schema:"count"`  // of the baseline's worker that took most
	CandidatePeakBytes int64     `json:"candidate_peak_bytes" schema:"count"` // of the candidate's worker that took most
	DeltaBytes         *float64  `json:"delta_bytes,omitempty"`               // candidate − baseline: mean over pairs of processes of the difference of their peaks
	DeltaCI95          *Interval `json:"delta_ci95,omitempty"`                // Student's t interval of delta_bytes over pairs of processes
}

// ColdStart is the time from opening a model to the end of its first inference, the median over processes, each fresh. The
// file is in the system's cache: what reading from a disk costs is not in it.
type ColdStart struct {
	BaselineMS  *float64    `json:"baseline_ms,omitempty"`  // of the baseline
	CandidateMS *float64    `json:"candidate_ms,omitempty"` // of the candidate
	Ratio       *float64    `json:"ratio,omitempty"`        // geometric mean over pairs of processes of candidate / baseline
	CI95        *Interval   `json:"ci95,omitempty"`         // Student's t interval of ratio over processes
	Baseline    *ColdPhases `json:"baseline,omitempty"`     // parts of baseline_ms
	Candidate   *ColdPhases `json:"candidate,omitempty"`    // parts of candidate_ms
}

// ColdPhases are the parts of a cold start, each the median over processes.
type ColdPhases struct {
	ReadMS     *float64 `json:"read_ms,omitempty"`      // reading the file; absent where the engine does not read it apart
	CreateMS   *float64 `json:"create_ms,omitempty"`    // creating the session: parsing, optimizing, packing weights
	FirstRunMS *float64 `json:"first_run_ms,omitempty"` // the first inference
}

// Energy is the energy per inference in millijoules, idle power subtracted: that of the whole processor package or GPU while nothing
// else than the two models' processes was asked to run.
type Energy struct {
	BaselineMJ  *float64  `json:"baseline_mj,omitempty"`            // of the baseline
	CandidateMJ *float64  `json:"candidate_mj,omitempty"`           // of the candidate
	Counter     string    `json:"counter,omitempty"`                // where the numbers come from: nvml or rapl
	Ratio       *float64  `json:"ratio,omitempty"`                  // geometric mean over pairs of windows of candidate / baseline
	CI95        *Interval `json:"ci95,omitempty"`                   // Student's t interval of ratio over pairs of windows
	Windows     int       `json:"windows,omitempty" schema:"count"` // windows per model, in turns
	WindowMS    *float64  `json:"window_ms,omitempty"`              // length of one
	IdleWatts   *float64  `json:"idle_watts,omitempty"`             // what was subtracted: power with both models loaded and none running
	IdleShare   *float64  `json:"idle_share,omitempty"`             // idle power / power while the baseline ran: near 1 the numbers hang on a small difference
}

// Throughput compares samples per second when the engine is given more than one sample at a time: in a batch, or by several
// instances of the model side by side, all busy all the time.
type Throughput struct {
	Batch           int       `json:"batch" schema:"count"`             // samples per inference
	Instances       int       `json:"instances" schema:"count"`         // processes that run the model at the same time
	Threads         int       `json:"threads,omitempty" schema:"count"` // threads of each
	BaselinePerSec  *float64  `json:"baseline_per_s,omitempty"`         // samples per second of the baseline, over all instances
	CandidatePerSec *float64  `json:"candidate_per_s,omitempty"`        // samples per second of the candidate, over all instances
	Ratio           *float64  `json:"ratio,omitempty"`                  // candidate / baseline: above 1 is better
	CI95            *Interval `json:"ci95,omitempty"`                   // interval of ratio, as for latency
	Pairs           int       `json:"pairs" schema:"count"`             // interleaved pairs measured
	Processes       int       `json:"processes" schema:"count"`         // restarts of all instances that the pairs are spread over
	Severe          string    `json:"severe,omitempty"`                 // the sentence for which no interval is stated
}

// SelfTest is the outcome of timing the baseline against a byte copy of itself: how often this machine finds a difference where
// there is none, and how large one has to be for it to be found.
type SelfTest struct {
	ModelSHA256    string    `json:"model_sha256" schema:"sha256"`                 // the model that was timed against its copy
	Measured       time.Time `json:"measured"`                                     // when
	Cached         bool      `json:"cached"`                                       // whether it was measured for an earlier report, on the same kind of machine
	Repeats        int       `json:"repeats" schema:"count"`                       // comparisons
	BudgetS        float64   `json:"budget_s"`                                     // seconds that each was given
	Inconclusive   int       `json:"inconclusive" schema:"count"`                  // of these, those that noise left without an interval
	FalseAlarms    int       `json:"false_alarms" schema:"count"`                  // of the others, those whose 95 % interval excludes 1
	FalseAlarmRate *float64  `json:"false_alarm_rate,omitempty" schema:"fraction"` // their share
	RateCI95       *Interval `json:"false_alarm_rate_ci95,omitempty"`              // its exact (Clopper-Pearson) interval
	Claims         int       `json:"claims" schema:"count"`                        // false alarms of more than 1 %: what would have been called slower or faster
	MinEffect      *float64  `json:"min_detectable_effect,omitempty"`              // smallest relative change that such a comparison finds with 80 % power: median over repeats
	MinEffectCI95  *Interval `json:"min_detectable_effect_ci95,omitempty"`         // order-statistic interval of that median
	Spread         *float64  `json:"spread,omitempty"`                             // standard deviation of the ratios, relative
	LargestError   *float64  `json:"largest_error,omitempty"`                      // largest distance of a ratio from 1, relative
	Library        string    `json:"library_sha256,omitempty"`                     // the engine's library
	Device         string    `json:"device,omitempty"`                             // what it ran on
	CPU            string    `json:"cpu,omitempty"`                                // model of the processor
	Threads        int       `json:"threads,omitempty" schema:"count"`             // threads per session
}

// Histogram counts run times of both models over the same bins. Bin i covers [Edges[i], Edges[i+1]).
type Histogram struct {
	EdgesMS        []float64 `json:"edges_ms"`                       // increasing, one more than there are bins
	Baseline       []int     `json:"baseline" schema:"count"`        // counts per bin
	Candidate      []int     `json:"candidate" schema:"count"`       // counts per bin
	BaselineAbove  int       `json:"baseline_above" schema:"count"`  // runs at or beyond the last edge
	CandidateAbove int       `json:"candidate_above" schema:"count"` // runs at or beyond the last edge
}

// Doubt returns what keeps gates on latency from deciding; "" where nothing does.
func (l *Latency) Doubt() string {
	if l.Noise == nil {
		return ""
	}
	return l.Noise.Severe
}

// WorstThroughput returns the load under which the candidate does worst: one without an interval, or else the one whose interval
// reaches lowest; nil where samples per second were not compared.
func (l *Latency) WorstThroughput() *Throughput {
	var worst *Throughput
	for i := range l.Throughput {
		t := &l.Throughput[i]
		switch {
		case t.CI95 == nil:
			return t
		case worst == nil || t.CI95[0] < worst.CI95[0]:
			worst = t
		}
	}
	return worst
}

// Load names the load for a reader.
func (t *Throughput) Load() string {
	if t.Instances == 1 {
		return fmt.Sprintf("batch %d", t.Batch)
	}
	return fmt.Sprintf("batch %d in %d instances", t.Batch, t.Instances)
}
