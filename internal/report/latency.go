package report

// Latency compares the run times of the two models, measured as interleaved pairs.
// Times are per inference in milliseconds; the ratio is candidate / baseline, below 1 is faster.
type Latency struct {
	BaselineMS  *float64  `json:"baseline_ms,omitempty"`  // median of the baseline
	CandidateMS *float64  `json:"candidate_ms,omitempty"` // median of the candidate
	Ratio       *float64  `json:"ratio,omitempty"`        // exp of the median of log(candidate / baseline) over pairs
	CI95        *Interval `json:"ci95,omitempty"`         // bootstrap interval of ratio

	Pairs      int      `json:"pairs" schema:"count"`                // interleaved pairs measured
	Processes  int      `json:"processes" schema:"count"`            // process restarts that the pairs are spread over
	Batch      int      `json:"batch,omitempty" schema:"count"`      // samples per inference
	Iterations int      `json:"iterations,omitempty" schema:"count"` // inferences timed together as one element of a pair
	Warmup     int      `json:"warmup,omitempty" schema:"count"`     // inferences run and dropped before the first pair, per process
	MinEffect  *float64 `json:"min_detectable_effect,omitempty"`     // smallest relative change that this run would have found (power 80 %)

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
}

// Noise holds the detectors that say whether the machine was quiet enough to be believed.
type Noise struct {
	Lag1            *float64 `json:"lag1,omitempty"`                            // lag-1 autocorrelation of the baseline's series
	TrendP          *float64 `json:"trend_p,omitempty" schema:"fraction"`       // p value of the Mann-Kendall test for a trend in the baseline's series
	Steal           *float64 `json:"steal,omitempty" schema:"fraction"`         // share of processor time taken by the hypervisor
	Throttled       *int64   `json:"throttled,omitempty" schema:"count"`        // periods in which the control group's quota stopped the process
	ContextSwitches *int64   `json:"context_switches,omitempty" schema:"count"` // involuntary context switches during the measurement
	Warnings        []string `json:"warnings,omitempty"`                        // one sentence for each detector that fired
}

// Memory is the peak resident memory of the two worker processes, in bytes.
type Memory struct {
	BaselinePeakBytes  int64 `json:"baseline_peak_bytes" schema:"count"`  // of the baseline's worker
	CandidatePeakBytes int64 `json:"candidate_peak_bytes" schema:"count"` // of the candidate's worker
}

// ColdStart is the time from opening a model to the end of its first inference, the median over processes.
type ColdStart struct {
	BaselineMS  *float64 `json:"baseline_ms,omitempty"`  // of the baseline
	CandidateMS *float64 `json:"candidate_ms,omitempty"` // of the candidate
}

// Energy is the energy per inference in millijoules, idle power subtracted.
type Energy struct {
	BaselineMJ  *float64 `json:"baseline_mj,omitempty"`  // of the baseline
	CandidateMJ *float64 `json:"candidate_mj,omitempty"` // of the candidate
	Counter     string   `json:"counter,omitempty"`      // where the numbers come from: nvml or rapl
}

// Histogram counts run times of both models over the same bins. Bin i covers [Edges[i], Edges[i+1]).
type Histogram struct {
	EdgesMS        []float64 `json:"edges_ms"`                       // increasing, one more than there are bins
	Baseline       []int     `json:"baseline" schema:"count"`        // counts per bin
	Candidate      []int     `json:"candidate" schema:"count"`       // counts per bin
	BaselineAbove  int       `json:"baseline_above" schema:"count"`  // runs at or beyond the last edge
	CandidateAbove int       `json:"candidate_above" schema:"count"` // runs at or beyond the last edge
}
